"""`CodedLoop`: the workers keep their own loop and framework, the server needs numpy alone."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gcmpi import environment, seeds
from gcmpi.arrays import AnyArray
from gcmpi.codes.ensemble import Ensemble
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.completed import CompletedRun
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.interrupt import Interrupt
from gcmpi.experiments.launch import (
    RefusedError,
    check_ranks,
    conduct_over,
    files,
    lead,
    refuse,
    start_mpi,
)
from gcmpi.experiments.questions import DistantModel, DistantRun
from gcmpi.experiments.recorder import Observer
from gcmpi.experiments.resume import notes
from gcmpi.experiments.run import Run
from gcmpi.experiments.steps import Share, Step
from gcmpi.experiments.turns import Turns
from gcmpi.importing import SCRIPT, OwnPartError
from gcmpi.learning import Dataset, partition
from gcmpi.learning.batches import Sampling
from gcmpi.records import RunFile
from gcmpi.registry import DATASETS, ENCODINGS, PROBLEMS, Spec
from gcmpi.sentences import words
from gcmpi.training.memory import AUTO

YOURS = {
    "problem": "the loop that you write is the problem",
    "dataset": "give rows=, how many training rows you have",
    "batch": "choose rows yourself with step.rng(j)",
}
"""Settings of an experiment that a loop has no use for, and what stands in their place."""


class CodedLoop:
    """Coded training in a loop of your own: ``mpirun -n RANKS python mine.py``.

    Every rank runs the script and makes the same loop. On the server, `serve` trains: it holds the
    parameters and the optimizer and needs numpy alone. On a worker, the loop yields a `Step` for
    every iteration that the worker takes part in; the worker's own code computes the gradients of
    the step's subsets. Stragglers, deadlines, codes, audits and run files are those of any run.

    Parameters
    ----------
    rows
        How many training rows there are. They are shuffled by the seed and cut into k subsets:
        ``loop.rows[j]`` has the row numbers of subset j.
    initial
        Returns the initial parameters (d,). It is called on worker 0 only.
    code
        A `gcmpi.Ensemble`, in place of assignment, encoding and m.
    settings
        Any other setting of `gcmpi.Experiment`, except problem, dataset and batch.

    Attributes
    ----------
    server
        Whether this rank is the server.
    worker
        The number of this worker, from 0; None on the server.
    rows : tuple of (r_j,)
        The row numbers of every subset, ascending.
    experiment
        All that fixes the run.

    Raises
    ------
    ValueError
        If a setting is impossible, or the number of ranks does not fit the assignment.

    Notes
    -----
    A run starts with one rehearsal of the loop's body, whose gradients are thrown away: what a
    framework imports or compiles happens before the clock starts. Audits turn the body too: once
    with the parameters before the iteration, where each subset is with one of its holders, so that
    the decoded gradient can be compared; and once with ``step.audit`` and the parameters after it.

    Examples
    --------
    >>> loop = gcmpi.CodedLoop(rows=len(X), initial=lambda: flat(net), m=2, iterations=200)
    >>> if loop.server:
    ...     run = loop.serve()
    >>> for step in loop:                       # a worker; the server has no step
    ...     load(net, step.theta)
    ...     for j in step.subsets:
    ...         rows = step.rng(j).choice(loop.rows[j], 32, replace=False)
    ...         step.add(j, gradient_of_sum(net, rows), scale=step.scale(j, len(rows)))
    ...     if step.audit:
    ...         step.report(loss=sum_of_losses(net, step.rows))
    """

    def __init__(
        self,
        rows: int,
        initial: Callable[[], Any],
        *,
        code: Ensemble | None = None,
        **settings: Any,
    ) -> None:
        for name, instead in YOURS.items():
            if name in settings:
                raise ValueError(f"a CodedLoop has no setting {name}: {instead}")
        e = self.experiment = _experiment(rows, code, settings)
        if e.memory == AUTO:
            raise ValueError(
                "a CodedLoop does not know how many rows its steps take, as memory=auto needs: "
                "give memory=1 for all rows, or about the part of them that a step takes"
            )
        if ENCODINGS[e.specs["encoding"].name].promises.partial:
            raise ValueError(
                f"a CodedLoop cannot use {e.encoding}: the server asks workers for what they have "
                "finished, and a loop answers after all of its subsets; choose another encoding"
            )
        A = assignment_matrix(e)
        k, n = A.shape
        shuffled = seeds.generator(e.seed, seeds.DATA).permutation(rows)
        self.rows = tuple(np.sort(shuffled[part]) for part in partition(rows, k))
        if not environment.under_launcher():
            raise ValueError(
                f"a CodedLoop needs {n + 1} ranks (1 server + {n} workers): mpirun -n {n + 1} "
                f"{environment.program()}"
            )
        environment.one_blas_thread()
        self._world = start_mpi()
        check_ranks(e, n, self._world.size)
        self.server = self._world.rank == 0
        self.worker = None if self.server else self._world.rank - 1
        self._begun = False
        share = Share(self.rows, int(rows), Sampling(e.seed))
        self._turns = Turns(self._world, e, share, initial)
        atexit.register(self._at_exit)

    def serve(
        self,
        *,
        observer: Observer | None = None,
        output: str | Path | None = None,
        overwrite: bool = False,
        resume: str | Path | None = None,
    ) -> CompletedRun:
        """Train; what the server does of the run. The other ranks go through their loop.

        Parameters
        ----------
        observer, output, overwrite
            As in `gcmpi.launch`.
        resume
            The run file of an interrupted run of the same loop: go on with it, in its file.

        Raises
        ------
        RefusedError
            A ValueError: parts do not fit together, a worker's rehearsal fails, the output exists,
            or the file to resume is of another run.
        """
        if not self.server:
            raise ValueError("loop.serve() is for the server: call it under `if loop.server:`")
        self._begin()
        interrupt = Interrupt()
        try:
            theta = self._world.receive(1)
            try:
                file, earlier = files(output, overwrite, resume, self.experiment)
                built = self._run(theta, earlier)
            except (ValueError, MemoryError):
                refuse(self._world)
                raise
            run, exchange, places = lead(self._world, self.experiment, built, earlier=earlier)
        except (ValueError, MemoryError) as error:
            interrupt.restore()
            raise RefusedError(words(error)) from error
        try:
            for note in notes(run, earlier):
                environment.complain(note)
            return conduct_over(
                self._world,
                run,
                exchange,
                places,
                earlier=earlier,
                observer=observer,
                output=file,
                interrupt=interrupt,
            )
        finally:
            interrupt.restore()
            atexit.unregister(self._at_exit)

    def __iter__(self) -> Iterator[Step]:
        """Yield a worker's steps until the run is over; none on the server.

        Raises
        ------
        ValueError
            On the server before `serve`, and when the loop is used a second time.
        """
        if not self.server:
            self._begin()
            return self._until_over()
        if not self._begun:
            raise ValueError(
                "the server has not served: call run = loop.serve() under `if loop.server:` before "
                "the loop"
            )
        return iter(())

    def _begin(self) -> None:
        if self._begun:
            raise ValueError("a CodedLoop is one run: make another CodedLoop for the next one")
        self._begun = True

    def _run(self, theta: AnyArray | str, earlier: RunFile | None) -> Run:
        """Build the parts of the run, without a model and data; refuse what worker 0 could not."""
        if isinstance(theta, str):
            raise OwnPartError(f"rank 1 (worker 0): {theta}")
        count = sum(map(len, self.rows))
        empty = np.zeros((count, 1), np.uint8)
        nowhere = Dataset(empty, empty[:, 0], empty[:1], empty[:1, 0], 0)
        e = self.experiment
        run = build(
            e,
            assignment_matrix(e),
            problem=DistantModel(theta),
            dataset=nowhere,
            hosts=self._world.hosts[1:],
            earlier=earlier,
        )
        return DistantRun(run.experiment, run.shared, run.dataset, self._world)

    def _until_over(self) -> Iterator[Step]:
        """Go through the run on a worker; end all ranks if the loop is left before its end."""
        interrupt = Interrupt()
        interrupt.leave_to_server()
        try:
            yield from self._turns
        except GeneratorExit:  # by `break`, or by an exception that is on its way
            self._turns.left()
            raise
        finally:
            interrupt.restore()

    def _at_exit(self) -> None:
        """Let no rank wait for one that has left, or never entered, its loop."""
        if self._begun:
            self._turns.leave()
        elif self.server:
            self._world.hand_out([None] * (self._world.size - 1))
        else:
            self._world.send_up("its script ended before its loop: every worker goes through it")


def _experiment(rows: int, code: Ensemble | None, settings: dict[str, Any]) -> Experiment:
    """Return the experiment; its model and its data are known by names of the script only."""
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise ValueError(f"a CodedLoop needs rows=, how many training rows there are, not {rows!r}")
    model, data = PROBLEMS.adopt(_own_loop), DATASETS.adopt(_own_rows)
    names = {"problem": str(model), "dataset": str(Spec(data.name, {"count": int(rows)}))}
    e = Experiment.from_settings({**settings, **names})
    return e if code is None else Experiment(code=code, **{**settings, **names})


def _own_loop() -> None:
    """Stand for the loop of a script."""


def _own_rows(count: int) -> None:
    """Stand for the rows of a script."""


for _part, _name in ((_own_loop, "loop"), (_own_rows, "rows")):
    # the run file keeps the script, and says that it has to be run again
    _part.__module__, _part.__qualname__ = SCRIPT, _name
