"""Coded gradient descent: the server's loop, the worker's loop, and what passes between them.

This module knows neither MPI nor HDF5. The server talks to an `Exchange`, a worker to a `Link`;
`gcmpi.comm` has both over MPI, and the exchange in one process with a virtual clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from gcmpi.code import AnyArray, Array, BoolArray, Code, IntArray, combine, message_length
from gcmpi.codebook import CodeBook
from gcmpi.decoding import Decoder
from gcmpi.learning.batches import EVERYTHING, Sampling
from gcmpi.learning.gradients import gradients
from gcmpi.optimizers import Optimizer
from gcmpi.problems import AnyRows, Dataset, Problem, in_memory, partition
from gcmpi.registry import REGISTRIES, OwnPartError
from gcmpi.stragglers import StragglerModel
from gcmpi.switching import Switch
from gcmpi.waiting import StopRule
from gcmpi.wire import Wire


class Report(NamedTuple):
    """What workers had done when the server stopped waiting, as far as they said.

    Attributes
    ----------
    finished : (n,)
        How many subsets each of them has finished.
    seconds : (n,)
        When each had finished all of its subsets, or would have at its pace; NaN without a report.
    """

    finished: IntArray
    seconds: Array


@dataclass(frozen=True)
class Replies:
    """What the server has when an iteration ends. Seconds count from the iteration's start.

    Attributes
    ----------
    Y : (n, ceil(d / m))
        The messages of the survivors; other rows may hold anything.
    survivors : (n,) bool
        The workers whose answer to this iteration came in time.
    arrival_seconds : (n,)
        When a survivor's answer came; NaN for the others.
    compute_seconds, encode_seconds, delay_seconds : (n,)
        What survivors say they spent; NaN for the others.
    exchange_seconds
        How long the iteration's exchange took.
    late
        Answers to earlier iterations that came during this exchange: (iteration, worker, seconds
        since that iteration's start). They are counted as stale and dropped.
    bytes_up, bytes_down
        Bytes received from and sent to workers, headers and stale messages included.
    report
        What the messages are made of, where workers report it: ``codes.code(t, report.finished)``
        is their code.
    """

    Y: AnyArray
    survivors: BoolArray
    arrival_seconds: Array
    compute_seconds: Array
    encode_seconds: Array
    delay_seconds: Array
    exchange_seconds: float
    late: list[tuple[int, int, float]]
    bytes_up: int
    bytes_down: int
    report: Report | None = None


def all_or_none(A: AnyArray, replies: Replies) -> Report:
    """Return what is known of workers that only send whole answers."""
    return Report(A.sum(axis=0, dtype=np.intp) * replies.survivors, replies.arrival_seconds)


class Exchange(Protocol):
    """The server's view of the workers."""

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Send theta and m to every idle worker and collect answers until `rule` says stop."""
        ...


class Link(Protocol):
    """A worker's view of the server."""

    def receive(self) -> tuple[int, int, AnyArray] | None:
        """Wait for the newest parameters: (iteration, m, theta), or None when the run is over."""
        ...

    def reply(self, message: Message) -> None:
        """Send the message after its delay."""
        ...

    def stay_silent(self, t: int) -> None:
        """Straggle through iteration t: the server gets no answer to it."""
        ...


@dataclass(frozen=True)
class Message:
    """A worker's answer to one iteration; `y` has shape (ceil(d / m),)."""

    t: int
    y: AnyArray
    compute_seconds: float
    encode_seconds: float
    delay_seconds: float = 0.0


@dataclass(frozen=True)
class Iteration:
    """One row of a run's record; the fields are the data sets of a run file.

    `seconds` is the training time up to the end of the iteration: exchanges, decoding and updates
    without the audits in between. Audited quantities are NaN in iterations without an audit:
    `loss` and `accuracy` are those of the parameters after the iteration, `gradient_error` is
    ||g_hat - g|| / ||g|| with the gradient g over the rows of the mini-batch, and
    `full_gradient_error` the same with the gradient over all rows. `check` is 1 when an audit
    found the decoded gradient to be what the code promises, 0 when not, 255 without an audit.
    `finished` is how many subsets a worker had finished when the server stopped waiting, as far
    as it said: all or none, unless the code asks for reports.
    """

    iteration: int
    m: int
    warmup: bool
    seconds: float
    loss: float
    accuracy: float
    gradient_error: float
    full_gradient_error: float
    approximation_error: float
    divisor: float
    check: int
    survivors: BoolArray
    finished: IntArray
    arrival_seconds: Array
    compute_seconds: Array
    encode_seconds: Array
    delay_seconds: Array
    exchange_seconds: float
    decode_seconds: float
    update_seconds: float
    bytes_up: int
    bytes_down: int
    stale_messages: int
    late: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Member:
    """What the server and all workers have in common for one m."""

    codes: CodeBook
    wire: Any  # a Wire; None only on its way to a rank that makes its own


@dataclass(frozen=True)
class Recipe:
    """How every rank makes a user's own part for itself: nothing of a user's is pickled.

    Attributes
    ----------
    setting
        What it is of the experiment: problem, stragglers or compression.
    text
        Its name and options.
    supplied
        What it is built with besides.
    """

    setting: str
    text: str
    supplied: Mapping[str, Any]

    def make(self, **more: object) -> Any:
        """Return a new one.

        Raises
        ------
        OwnPartError
            If this rank cannot import or build it.
        """
        return REGISTRIES[self.setting].build(self.text, **self.supplied, **more)


@dataclass(frozen=True)
class Shared:
    """What the server and all workers have in common; sent to the workers at the start.

    Attributes
    ----------
    family
        By m; one member, unless m may change from iteration to iteration.
    sampling
        The rows of mini-batches, and the generators of models that draw.
    recipes
        By setting, how each rank makes those parts that are a user's own.
    """

    problem: Problem
    family: Mapping[int, Member]
    stragglers: StragglerModel
    sampling: Sampling = EVERYTHING
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the recipes make."""
        state = {"d": self.problem.d, **self.__dict__}
        for name in self.recipes.keys() & {"problem", "stragglers"}:
            state[name] = None
        if "compression" in self.recipes:
            state["family"] = {m: Member(x.codes, None) for m, x in self.family.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make what was left out."""
        recipes, d = state["recipes"], state.pop("d")
        for name in recipes.keys() & {"problem", "stragglers"}:
            state[name] = recipes[name].make()
        if state["problem"].d != d:
            raise OwnPartError(
                f"problem {recipes['problem'].text} has d={d} parameters on the server and "
                f"d={state['problem'].d} here: it must be the same on all ranks"
            )
        if "compression" in recipes:
            make = recipes["compression"].make
            state["family"] = {
                m: Member(x.codes, make(length=message_length(d, m)))
                for m, x in state["family"].items()
            }
        self.__dict__.update(state)

    @property
    def codes(self) -> CodeBook:
        """The codes of the largest m, that of the experiment."""
        return self.family[max(self.family)].codes

    @property
    def wire(self) -> Wire:
        """How their coded vectors travel."""
        wire: Wire = self.family[max(self.family)].wire
        return wire

    @property
    def wires(self) -> dict[int, Wire]:
        """How coded vectors travel, by m."""
        return {m: member.wire for m, member in self.family.items()}


@dataclass(frozen=True)
class Shard:
    """The rows of one worker, or where in a file they lie.

    Attributes
    ----------
    X, y : (r, *shape), (r,)
        AnyRows and targets of its subsets, one subset after the other, as in the data set.
    sizes
        How many rows each of its subsets has.
    scale
        1 / (number of all training rows): the subset gradients then add up to the gradient of
        the mean loss.
    subsets
        Its subsets.
    """

    X: AnyRows
    y: AnyRows
    sizes: tuple[int, ...]
    scale: float
    subsets: tuple[int, ...]


def shard(dataset: Dataset, subsets: IntArray, k: int) -> Shard:
    """Return the rows of a worker that holds these of the k subsets."""
    slices = partition(len(dataset.X), k)
    rows = np.concatenate([np.arange(slices[j].start, slices[j].stop) for j in subsets])
    sizes = tuple(slices[j].stop - slices[j].start for j in subsets)
    names = tuple(int(j) for j in subsets)
    return Shard(dataset.X[rows], dataset.y[rows], sizes, 1 / len(dataset.X), names)


class Worker:
    """Worker i: its rows, and the message it makes of them.

    Parameters
    ----------
    i
        The worker.
    problem
        The loss.
    shard
        Its rows.
    family
        The codes of the run, by m.
    sampling
        The rows of mini-batches, and the generators of models that draw.
    """

    def __init__(
        self,
        i: int,
        problem: Problem,
        shard: Shard,
        family: Mapping[int, Member],
        sampling: Sampling = EVERYTHING,
    ) -> None:
        self.i, self.problem, self.family = i, problem, family
        self.gradients = gradients(
            problem,
            in_memory(shard.X),
            in_memory(shard.y),
            shard.sizes,
            shard.subsets,
            shard.scale,
            sampling,
        )
        for member in family.values():  # imports what draws codes, before the first iteration
            member.codes.coefficients(0, i)

    def answer(self, t: int, m: int, theta: AnyArray) -> Message:
        """Return the message of iteration t, without a delay."""
        started = time.perf_counter()
        coefficients = self.family[m].codes.coefficients(t, self.i)
        self.gradients.begin(t, theta)
        y, encoding = self.gradients.message(coefficients)
        return Message(t, y, time.perf_counter() - started - encoding, encoding)

    def rehearse(self, theta: AnyArray | None = None) -> None:
        """Make an answer to iteration 0 with each m and throw it away.

        What a model imports, compiles or puts on a device then happens before the clock starts.

        Parameters
        ----------
        theta : (d,)
            Any parameters; initial ones unless given.
        """
        theta = self.problem.initial(np.random.default_rng(0)) if theta is None else theta
        for m in self.family:
            self.answer(0, m, theta)


def work(link: Link, worker: Worker, stragglers: StragglerModel) -> None:
    """Answer the server until it says that the run is over."""
    while (request := link.receive()) is not None:
        t, m, theta = request
        delay = float(stragglers.delays(t)[worker.i])
        if np.isinf(delay):
            link.stay_silent(t)
        else:
            message = worker.answer(t, m, theta)
            unit = message.compute_seconds if stragglers.unit == "compute" else 1.0
            link.reply(replace(message, delay_seconds=delay * unit))


@dataclass
class State:
    """Where training stands: the next iteration, the parameters and the training time so far."""

    t: int
    theta: AnyArray
    seconds: float = 0.0


class GradientAudit(NamedTuple):
    """What an audit says of a decoded gradient.

    Attributes
    ----------
    error, full_error
        Relative errors against the gradient over the rows that were used, and over all rows.
    check
        1 if the gradient is what the code promises, 0 if not, 255 where nothing is promised.
    """

    error: float
    full_error: float
    check: int


class Auditor(Protocol):
    """Computes the truth about an iteration, outside the timed interval."""

    def due(self, t: int) -> bool:
        """Say whether iteration t is to be audited."""
        ...

    def gradient(
        self,
        t: int,
        theta: AnyArray,
        code: Code,
        R: Array,
        decoded: AnyArray,
        replies: Replies,
        alpha: float,
    ) -> GradientAudit:
        """Return the errors of decoded / alpha, and whether the decoded gradient is right."""
        ...

    def quality(self, theta: AnyArray) -> tuple[float, float]:
        """Return (training loss, test accuracy); NaN where they were not audited."""
        ...


@dataclass(frozen=True)
class Coding:
    """What the server needs to know of one m.

    Attributes
    ----------
    alpha : (n + 1,)
        The decoded gradient of an iteration with s stragglers is divided by ``alpha[s]``.
    """

    codes: CodeBook
    decoder: Decoder
    alpha: Array


def serve(
    exchange: Exchange,
    state: State,
    *,
    iterations: int,
    warmup: int,
    family: Mapping[int, Coding],
    switch: Switch,
    rule: StopRule,
    optimizer: Optimizer,
    auditor: Auditor,
    record: Callable[[Iteration, State], bool],
) -> State:
    """Train from `state` on; returns the state after the last iteration.

    Parameters
    ----------
    warmup
        So many iterations from here on are flagged: they are left out of timing tables.
    family, switch
        Codes and their decoding by m, and what says which m is next.
    record
        Called after every iteration; True ends the run.
    """
    timed_from = state.t + warmup
    for t in range(state.t, iterations):
        drawn = time.perf_counter()
        m = switch.choose()
        coding = family[m]
        code = coding.codes.code(t)
        rule.begin(code)
        begun = time.perf_counter()
        replies = exchange.exchange(t, m, state.theta, rule)
        ended = time.perf_counter()
        if replies.report is not None:
            code = coding.codes.code(t, replies.report.finished)
        R = coding.decoder(code, replies.survivors)
        decoded = combine(R, replies.Y, state.theta.size)
        missing = int(np.count_nonzero(~replies.survivors))
        scale = float(coding.alpha[missing])
        gradient = decoded / scale
        combined = time.perf_counter()
        theta = optimizer.step(state.theta, gradient, t)
        updated = time.perf_counter()

        decode_seconds = (begun - drawn) + (combined - ended)
        late = np.array([late for _, _, late in replies.late])
        switch.observe(missing)
        report = replies.report or all_or_none(coding.codes.A, replies)
        known = report.seconds[np.isfinite(report.seconds)]
        rule.observe(np.append(known, late))
        seconds = state.seconds + replies.exchange_seconds + decode_seconds + updated - combined
        loss = accuracy = np.nan
        audit = GradientAudit(np.nan, np.nan, 255)
        if auditor.due(t):
            audit = auditor.gradient(t, state.theta, code, R, decoded, replies, scale)
            loss, accuracy = auditor.quality(theta)
        state = State(t + 1, theta, seconds)
        over = record(
            Iteration(
                iteration=t,
                m=m,
                warmup=t < timed_from,
                seconds=seconds,
                loss=loss,
                accuracy=accuracy,
                gradient_error=audit.error,
                full_gradient_error=audit.full_error,
                approximation_error=code.residual(R),
                divisor=scale,
                check=audit.check,
                survivors=replies.survivors,
                finished=report.finished,
                arrival_seconds=replies.arrival_seconds,
                compute_seconds=replies.compute_seconds,
                encode_seconds=replies.encode_seconds,
                delay_seconds=replies.delay_seconds,
                exchange_seconds=replies.exchange_seconds,
                decode_seconds=decode_seconds,
                update_seconds=updated - combined,
                bytes_up=replies.bytes_up,
                bytes_down=replies.bytes_down,
                stale_messages=len(replies.late),
                late=replies.late,
            ),
            state,
        )
        if over:
            break
    return state
