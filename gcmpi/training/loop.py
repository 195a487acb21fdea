"""Coded gradient descent: the server's loop, one page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.messages import Replies
from gcmpi.codes.code import Code
from gcmpi.training.iteration import Audit, Decoding, Iteration, Outcome
from gcmpi.training.memory import Memory, Recalled
from gcmpi.training.scheme import Scheme
from gcmpi.training.state import Moving, State


def train(run: Run, parts: Moving, state: State, record: Recorder) -> State:
    """Train from `state` on; returns the state after the last iteration.

    All parts get back what they remembered in `state`. `record` gets every iteration with the
    state after it, and may end the run.

    Parameters
    ----------
    parts
        New ones of the run, and the exchange.

    Raises
    ------
    ValueError
        If a part does not take its state.
    """
    parts.restore(state)
    while state.t < run.iterations and not record.over:
        clock = Stopwatch()
        scheme = run.schemes[parts.switch.choose()]
        code = scheme.codes.at(state.t)
        parts.rule.begin(code)
        clock.lap("decode")
        replies = parts.exchange.exchange(state.t, scheme.m, state.theta, parts.rule)
        clock.lap("exchange")
        parts.memory.catch_up(run.schemes, replies.kept)
        code, R = solve(scheme, state.t, code, replies)
        clock.lap("decode")
        recalled = recall(run.auditor, parts.memory, state, code, R)
        clock.lap("audit")  # untimed
        decoded = parts.memory.gradient(code, R, replies, state.theta.size)
        decoding = Decoding(scheme, code, replies, R, decoded, recalled)
        gradient = decoding.decoded / decoding.divisor
        clock.lap("decode")
        theta = parts.optimizer.step(state.theta, gradient, state.t)
        clock.lap("update")
        audit = inspect(run.auditor, state, theta, decoding)  # untimed
        learn(parts, decoding)
        before, state = state, parts.after(state, theta, replies.exchange_seconds + clock.own)
        outcome = Outcome(before, state, decoding, audit, clock.seconds)
        record.append(Iteration.of(outcome), state)
    return parts.gathered(state)


def solve(scheme: Scheme, t: int, code: Code, replies: Replies) -> tuple[Code, Array]:
    """Return code and decoding matrix of an iteration that began with this code."""
    if replies.done is not None:
        code = scheme.codes.at(t, replies.done.finished)
    return code, scheme.decoder(code, replies.survivors)


def recall(auditor: Auditor, memory: Memory, state: State, code: Code, R: Array) -> Recalled | None:
    """Return what memory adds to what R decodes, if an audit is to know it."""
    return memory.recall(code, R, state.theta.size) if auditor.due(state.t) else None


def learn(parts: Moving, decoding: Decoding) -> None:
    """Tell the rules who was late, and the response times that became known."""
    parts.switch.observe(int(np.count_nonzero(~decoding.replies.survivors)))
    known = decoding.done.seconds[np.isfinite(decoding.done.seconds)]
    parts.rule.observe(np.append(known, [late for _, _, late in decoding.replies.late]))


def inspect(auditor: Auditor, state: State, theta: AnyArray, decoding: Decoding) -> Audit:
    """Return the truth about an iteration that began in `state`, if it is to be audited."""
    if not auditor.due(state.t):
        return Audit()
    gradient = auditor.gradient(state.t, state.theta, decoding)
    loss, accuracy = auditor.quality(theta)
    return Audit(loss, accuracy, *gradient)


class Stopwatch:
    """The seconds of an iteration by what they were spent on.

    Attributes
    ----------
    seconds
        By name.
    """

    def __init__(self) -> None:
        self.seconds = {"decode": 0.0, "exchange": 0.0, "update": 0.0, "audit": 0.0}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to `name`."""
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now

    @property
    def own(self) -> float:
        """What the server itself took; the exchange has a clock of its own."""
        return self.seconds["decode"] + self.seconds["update"]


class Run(Protocol):
    """What the loop needs of an experiment's parts."""

    @property
    def iterations(self) -> int:
        """How many iterations there are in all."""
        ...

    @property
    def schemes(self) -> Mapping[int, Scheme]:
        """Codes and their decoding by m."""
        ...

    @property
    def auditor(self) -> Auditor:
        """Computes the truth about iterations."""
        ...


class Recorder(Protocol):
    """Keeps the iterations of a run."""

    @property
    def over(self) -> bool:
        """Whether the run is to end."""
        ...

    def append(self, row: Iteration, state: State) -> None:
        """Keep an iteration; `state` is the one after it, before anything is gathered."""
        ...


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

    def gradient(self, t: int, theta: AnyArray, decoding: Decoding) -> GradientAudit:
        """Return the errors of the gradient, and whether what was decoded is right."""
        ...

    def quality(self, theta: AnyArray) -> tuple[float, float]:
        """Return (training loss, test accuracy); NaN where they were not audited."""
        ...
