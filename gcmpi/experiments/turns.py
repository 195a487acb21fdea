"""A worker's way through the run of a `CodedLoop`: rehearsal, iterations and audits, as steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gcmpi import environment
from gcmpi.arrays import AnyArray
from gcmpi.cluster.messages import Call, Spent
from gcmpi.cluster.whole import WholeWorker, requests
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.questions import Question
from gcmpi.experiments.steps import Encoder, Refuse, Share, Step, Values
from gcmpi.experiments.worker import decline, ready, receive_parts
from gcmpi.importing import OwnPartError, blame
from gcmpi.training import Message, Shared

if TYPE_CHECKING:
    from gcmpi.cluster.mpi import MpiLink, World

GRACE = 0.5
"""Seconds that a worker has to tell why it leaves its loop."""


class Turns:
    """The steps of one worker in one run.

    Parameters
    ----------
    world
        All ranks.
    e
        The experiment.
    share
        The training rows.
    initial
        Returns the initial parameters (d,).
    """

    def __init__(
        self, world: World, e: Experiment, share: Share, initial: Callable[[], Any]
    ) -> None:
        self._world, self._e, self._share, self._initial = world, e, share, initial
        self._current: Step | None = None
        self._refused_run = False

    def __iter__(self) -> Iterator[Step]:
        """Yield steps until the run is over."""
        if self._world.rank == 1:
            self._world.send_up(self._parameters())
        try:
            parts = receive_parts(self._world, self._e)
        except (ValueError, ImportError) as error:
            decline(self._world, str(error))
            return
        if parts is None:
            return
        desk = Desk(self._world, self._share, parts[0], self._refused)
        yield from self._turn(desk.rehearsal(self._declined))
        if not self._refused_run and ready(self._world):
            yield from self._run(desk)

    def _run(self, desk: Desk) -> Iterator[Step]:
        """Yield the steps of iterations and audits."""
        link, half = desk.link(), desk.half()
        for wanted in requests(link, half):
            if isinstance(wanted, Call):
                step, found = desk.audit(self._world.question())
                yield from self._turn(step)
                self._world.answer(found())
                continue
            started = time.perf_counter()
            step, encoder = desk.step(*wanted)
            yield from self._turn(step)
            computing = time.perf_counter() - started - encoder.seconds
            message = Message(step.t, step.m, encoder.y, Spent(computing, encoder.seconds))
            half.computed(message, link.now)
        link.close()

    def _turn(self, step: Step) -> Iterator[Step]:
        """Yield one step, and check that nothing is missing when its turn is over."""
        self._current = step
        yield step
        step.finish()
        self._current = None

    def left(self) -> None:
        """End all ranks soon if the run is not over: by then an exception has ended them itself."""
        timer = threading.Timer(GRACE, self.leave)
        timer.daemon = True
        timer.start()

    def leave(self) -> None:
        """End all ranks if the run is not over: they would wait for this worker."""
        step, self._current = self._current, None
        if step is not None:
            environment.complain(
                f"{self._place} left its loop in iteration {step.t}, so all ranks end here: a run "
                "ends after iterations=, or at target_accuracy= or target_loss="
            )
            self._world.abort(2)

    def _parameters(self) -> AnyArray | str:
        """Return the initial parameters (d,), or what is wrong with them."""
        try:
            with blame("initial()"):
                made = self._initial()
                return parameters(made, self._e.dtype)
        except OwnPartError as error:
            return str(error)

    def _declined(self, why: str) -> Exception:
        """Tell the server what is wrong in the rehearsal; it refuses the run in one sentence."""
        if not self._refused_run:
            self._current, self._refused_run = None, True
            decline(self._world, why)
        return ValueError(why)

    def _refused(self, why: str) -> Exception:
        """Return what is raised for a mistake in the run: this worker says it."""
        return environment.OneRankError(f"{self._place}: {why}")

    @property
    def _place(self) -> str:
        return f"rank {self._world.rank} (worker {self._world.rank - 1})"


class Desk:
    """What a worker has in a run: its subsets, their coefficients, and the steps made of them.

    Parameters
    ----------
    world
        All ranks.
    share
        The training rows.
    shared
        What the server and all workers have in common.
    refuse
        Makes the exception for a mistake.
    """

    def __init__(self, world: World, share: Share, shared: Shared, refuse: Refuse) -> None:
        self._world, self._share, self._shared, self._refuse = world, share, shared, refuse
        self._i = world.rank - 1
        self._codes = {m: scheme.codes for m, scheme in shared.schemes.items()}
        for codes in self._codes.values():  # imports what draws codes, before the first iteration
            codes.coefficients(0, self._i)
        subsets = self._subsets = tuple(map(int, shared.codes.subsets(self._i)))
        model = shared.problem
        self._encoders = {m: Encoder(m, model.d, model.dtype, subsets) for m in self._codes}

    def link(self) -> MpiLink:
        """Return the way to the server."""
        from gcmpi.cluster.mpi import MpiLink

        model = self._shared.problem
        wires, asked = self._shared.wires, self._world.asked
        return MpiLink(self._world, model.d, model.dtype, wires, asked=asked)

    def half(self) -> WholeWorker:
        """Return what this worker does with notes of the server."""
        return WholeWorker(self._i, self._shared.stragglers)

    def step(self, t: int, m: int, theta: AnyArray) -> tuple[Step, Encoder]:
        """Return an iteration's step, and the message that its gradients make."""
        encoder = self._encoders[m]
        encoder.begin(self._codes[m].coefficients(t, self._i))
        theta = theta.copy()  # a view of a receive buffer
        step = Step(t, m, theta, self._subsets, self._share, encoder.take, self._refuse)
        return step, encoder

    def rehearsal(self, refuse: Refuse) -> Step:
        """Return the step in front of the run, whose message is thrown away."""
        theta = self._shared.problem.initial(np.random.default_rng(0))
        step, _ = self.step(0, max(self._codes), theta)
        return replace(step, timed=False, refuse=refuse)

    def audit(self, question: Question) -> tuple[Step, Callable[[], list[AnyArray] | Values]]:
        """Return a step that answers the server's question, and what gives the answer."""
        q, taken = question, dict[int, AnyArray]()

        def keep(j: int, g: AnyArray, scale: float) -> None:
            taken[j] = g * g.dtype.type(scale)

        common = (self._share, keep, self._refuse)
        if q.quality:
            rows = self._share.of(q.subsets)
            step = Step(q.t, q.m, q.theta, (), *common, audit=True, rows=rows, timed=False)
            return step, lambda: step.values
        step = Step(q.t, q.m, q.theta, q.subsets, *common, timed=False)
        return step, lambda: [taken[j] for j in q.subsets]


def parameters(made: Any, dtype: str) -> AnyArray:
    """Return what a user's function made as initial parameters, shape (d,).

    Raises
    ------
    OwnPartError
        If they are not d finite numbers.
    """
    theta = np.asarray(made)
    fit = theta.ndim == 1 and theta.size > 0 and theta.dtype.kind in "fiu"
    if not fit or not np.isfinite(theta).all():
        raise OwnPartError(
            "initial() must return the initial parameters, d finite numbers of shape (d,), not "
            f"{type(made).__name__} of shape {theta.shape}"
        )
    return np.array(theta, dtype)  # a view would be pickled with what it is a view of
