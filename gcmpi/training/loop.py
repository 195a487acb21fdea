"""Coded gradient descent: the server's loop, one page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.messages import Exchange, Replies
from gcmpi.codes.code import Code, combine
from gcmpi.training.iteration import Audit, Decoding, Iteration, Outcome
from gcmpi.training.scheme import Scheme
from gcmpi.training.state import Moving, State


def train(run: Run, exchange: Exchange, state: State, record: Recorder) -> State:
    """Train from `state` on; returns the state after the last iteration.

    All parts get back what they remembered in `state`. `record` gets every iteration with the
    state after it, and may end the run.

    Raises
    ------
    ValueError
        If a part does not take its state.
    """
    parts = run.moving(exchange).restore(state)
    while state.t < run.iterations and not record.over:
        clock = Stopwatch()
        scheme = run.schemes[parts.switch.choose()]
        code = scheme.codes.at(state.t)
        parts.rule.begin(code)
        clock.lap("decode")
        replies = exchange.exchange(state.t, scheme.m, state.theta, parts.rule)
        clock.lap("exchange")
        decoding = decode(scheme, state, code, replies)
        gradient = decoding.decoded / decoding.divisor
        clock.lap("decode")
        theta = parts.optimizer.step(state.theta, gradient, state.t)
        clock.lap("update")
        audit = inspect(run.auditor, state, theta, decoding)  # untimed
        learn(parts, decoding)
        before, state = state, parts.after(state, theta, replies.exchange_seconds + clock.own)
        outcome = Outcome(before, state, decoding, audit, clock.seconds)
        record.append(Iteration.of(outcome), state)
    return state.with_exchange(exchange)


def decode(scheme: Scheme, state: State, code: Code, replies: Replies) -> Decoding:
    """Decode the gradient of an iteration that began with this code."""
    if replies.done is not None:
        code = scheme.codes.at(state.t, replies.done.finished)
    R = scheme.decoder(code, replies.survivors)
    decoded = combine(R, replies.Y, state.theta.size)
    divisor = scheme.divisor(replies.survivors)
    return Decoding(scheme, code, replies, R, decoded, divisor)


def learn(parts: Moving, decoding: Decoding) -> None:
    """Tell the rules who was late, and the response times that became known."""
    parts.switch.observe(int(np.count_nonzero(~decoding.replies.survivors)))
    known = decoding.done.seconds[np.isfinite(decoding.done.seconds)]
    parts.rule.observe(np.append(known, [late for _, _, late in decoding.replies.late]))


def inspect(auditor: Auditor, state: State, theta: AnyArray, decoding: Decoding) -> Audit:
    """Return the truth about an iteration that began in `state`, if it is to be audited."""
    if not auditor.due(state.t):
        return Audit()
    d = decoding
    gradient = auditor.gradient(state.t, state.theta, d.code, d.R, d.decoded, d.replies, d.divisor)
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
        self.seconds = {"decode": 0.0, "exchange": 0.0, "update": 0.0}
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

    def moving(self, exchange: Exchange) -> Moving:
        """Return new parts that remember nothing yet, and the exchange."""
        ...


class Recorder(Protocol):
    """Keeps the iterations of a run."""

    @property
    def over(self) -> bool:
        """Whether the run is to end."""
        ...

    def append(self, row: Iteration, state: State) -> None:
        """Keep an iteration; `state` is the one after it, without what the exchange remembers."""
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
