"""The exchange with counts, seen from inside the ranks: run by tests/test_partial_mpi.py.

As in inside_protocol.py, order is enforced by files, never by sleeping for a while.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gcmpi.cluster.messages import Note, Parameters, Replies
from gcmpi.cluster.mpi import DOWN_HEADER, UP_HEADER, MpiExchange, MpiLink, World
from gcmpi.cluster.partial import PartialServer, PartialWorker
from gcmpi.cluster.stragglers import Table
from gcmpi.cluster.waiting import Fastest
from gcmpi.cluster.whole import requests
from gcmpi.cluster.wire import Dense
from gcmpi.codes.code import combine, encode
from gcmpi.codes.ensemble import Ensemble
from gcmpi.registry import Spec

WORLD = World()
if WORLD.rank == 0:  # a rank may not end before what it has sent is received
    assert len(WORLD.hosts) == WORLD.size
N = WORLD.size - 1
M = 2
SIGNALS = Path(os.environ["GCMPI_SIGNALS"])
CODES = Ensemble(np.ones((N, N), dtype=np.uint8), M, Spec("partial-stragglers"))
I = WORLD.rank - 1  # noqa: E741

pytestmark = pytest.mark.mpi(min_size=4)


def wait_for(name: str) -> None:
    while not (SIGNALS / name).exists():
        time.sleep(0.001)


def gradients(t: int, d: int) -> np.ndarray:
    """The gradients of all subsets in iteration t."""
    return np.sin(np.arange(1, N + 1)[:, None] * (t + 1 + np.arange(d)))


class Patient:
    """The server's mailbox with a clock that the test may put forward."""

    def __init__(self, mailbox) -> None:
        self.post, self.wait, self.size = mailbox.post, mailbox.wait, mailbox.size
        self._mailbox, self.ahead = mailbox, 0.0

    @property
    def now(self) -> float:
        return self._mailbox.now + self.ahead


class Exchange:
    """Patient: its first phase seems a long one, so that a slow machine makes nobody late."""

    def __init__(self, d: int) -> None:
        def server(mailbox, *parts):
            self.mailbox = Patient(mailbox)
            loads = CODES.A.sum(axis=0, dtype=int)
            return PartialServer(self.mailbox, *parts, loads=loads, columns=CODES.columns)

        self.d, self.patience = d, 600.0
        self.mpi = MpiExchange(WORLD, d, np.float64, {M: Dense(-(-d // M), "float64")}, server)
        self.close = self.mpi.close

    def remaining(self, answered: np.ndarray, elapsed: float) -> float:
        """Ask the rule, and let time pass once."""
        self.mailbox.ahead += self.to_pass
        self.to_pass = 0.0
        return self.rule.remaining(answered, elapsed)

    def run(self, t: int, rule: object) -> Replies:
        """Do an iteration, and decode what the counts promise."""
        self.rule, self.to_pass = rule, self.patience
        replies = self.mpi.exchange(t, M, np.full(self.d, float(t)), self)
        code = CODES.at(t, replies.done.finished)
        R = code.decode(replies.survivors)
        G = gradients(t, self.d)
        parts = np.zeros((M, N, -(-self.d // M)))
        for j, g in enumerate(G):
            parts[:, j].ravel()[:] = 0
            padded = np.zeros(M * parts.shape[2])
            padded[: self.d] = g
            parts[:, j] = padded.reshape(M, -1)
        expected = (parts.reshape(M * N, -1).T @ code.B @ R).T.ravel()[: self.d]
        np.testing.assert_allclose(combine(R, replies.Y, self.d), expected, atol=1e-9)
        if code.residual(R) < 1e-15:
            np.testing.assert_allclose(expected, G.sum(axis=0), atol=1e-7)
        return replies


class Signalling:
    """Stops when N - 1 workers have finished, and then speaks up in a later phase.

    The server asks a rule on when it waits for counts, after it has sent its requests, and when it
    waits for messages.
    """

    def __init__(self, action, calls: int = 2) -> None:
        self.action, self.calls = action, calls

    def remaining(self, answered: np.ndarray, elapsed: float) -> float:
        if answered.sum() < N - 1:
            return math.inf
        self.calls -= 1
        if self.calls == 0:
            self.action()
        return 0.0


class Hands:
    """Says that subset p of iteration t takes `seconds(t, p)`; in truth it takes no time."""

    load = N

    def __init__(self, d: int, seconds: Callable[[int, int], float]) -> None:
        self.d, self.seconds, self.seen = d, seconds, []
        self.encoding = lambda: None

    def begin(self, parameters: Parameters) -> None:
        assert parameters.theta.shape == (self.d,)
        assert (parameters.theta == parameters.t).all()
        self.seen.append(parameters.t)

    def compute(self, position: int) -> float:
        return self.seconds(self.seen[-1], position)

    def encode(self, coefficients: np.ndarray) -> tuple[np.ndarray, float]:
        self.encoding()
        held = gradients(self.seen[-1], self.d)[CODES.subsets(I)[: coefficients.shape[1]]]
        return encode(coefficients, held), 1 / 64


class Crossing:
    """A worker's mailbox: it sees the first note when a file is there, and does not look up."""

    def __init__(self, link: MpiLink, name: str) -> None:
        self._link, self._name, self.post = link, name, link.post

    @property
    def now(self) -> float:
        return self._link.now

    def wait(self, seconds: float) -> list[tuple[int, Note]]:
        if seconds <= 0:
            return []
        notes = self._link.wait(seconds)
        wait_for(self._name)
        return notes


HOUR = 64 * 3600.0


def worker(
    d: int,
    *,
    seconds: Callable[[int, int], float] = lambda t, p: 0.0,
    delays: tuple[float, ...] = (HOUR,),
    crossing: str = "",
    encoding: Callable[[], object] | None = None,
) -> list[int]:
    """Work until the run is over; returns the iterations seen.

    Worker 0 has these delays in units of its computations, which take no time unless given.
    """
    link = MpiLink(WORLD, d, np.float64, {M: Dense(-(-d // M), "float64")}, room=M * N)
    hands = Hands(d, seconds)
    if encoding is not None and I == 0:
        hands.encoding = encoding
    half = PartialWorker(
        I, Table(np.array([[x] + [0.0] * (N - 1) for x in delays]), "compute"), hands
    )
    mailbox = Crossing(link, crossing) if crossing and I == 0 else link
    assert not list(requests(mailbox, half))
    link.close()
    return hands.seen


@pytest.mark.parametrize("d", [1, 5, 200_000])
def test_unfinished_work_counts(d: int) -> None:
    """Worker 0 is asked in the middle of a delay of an hour; what it has makes the code exact."""
    if WORLD.rank == 0:
        exchange = Exchange(d)
        for t in range(3):
            replies = exchange.run(t, Fastest(N - 1))
            assert list(replies.done.finished) == [t, *[N] * (N - 1)]
            assert list(replies.survivors) == [t > 0, *[True] * (N - 1)]
            np.testing.assert_array_equal(replies.compute_seconds[0], 1 / 64 if t else np.nan)
            np.testing.assert_array_equal(replies.compute_seconds[1:], 0.0)
            np.testing.assert_array_equal(replies.encode_seconds[1:], 1 / 64)
            np.testing.assert_array_equal(replies.delay_seconds[1:], 0.0)
            assert not replies.late
            messages, header = -(-d // M) * 8, UP_HEADER * 8
            sent = np.count_nonzero(replies.survivors)
            assert replies.bytes_up == N * header + sent * (header + messages)
            coefficients = M * int(replies.done.finished.sum())
            headers = DOWN_HEADER * (N + 1 + sent)  # thetas, a request, coefficients
            assert replies.bytes_down == 8 * (headers + N * d + coefficients)
            slow = replies.done.seconds[0]
            assert slow > replies.done.seconds[1:].max()
        assert exchange.close()
    else:

        def seconds(t: int, position: int) -> float:
            """Worker 0: subset t of iteration t takes a moment, and an hour of delay."""
            name = f"reached-{d}-{t}"
            if I:
                wait_for(name)
            elif position == t:
                (SIGNALS / name).touch()
            return (I == 0 and position == t) / 64

        assert worker(d, seconds=seconds) == [0, 1, 2]


def test_silence_crosses_a_request() -> None:
    """A note of silence that comes after the request ends the wait for the count."""
    d = 1000
    if WORLD.rank == 0:
        exchange = Exchange(d)
        first = exchange.run(0, Signalling((SIGNALS / "asked-silent").touch))
        assert list(first.done.finished) == [0, *[N] * (N - 1)]
        assert np.isnan(first.done.seconds[0])
        second = exchange.run(1, Fastest(N))
        assert second.survivors.all()
        assert exchange.close()
    else:
        seen = worker(d, delays=(math.inf, 0.0), crossing="asked-silent")
        assert seen == ([1] if I == 0 else [0, 1])


def test_whole_count_crosses_a_request() -> None:
    """A worker that did not see the request has said its count all the same: it gets coefficients.

    The first note is its parameters, which it sees when the request is on its way.
    """
    d = 1000
    if WORLD.rank == 0:
        exchange = Exchange(d)
        first = exchange.run(0, Signalling((SIGNALS / "asked-whole").touch))
        assert list(first.done.finished) == [N] * N
        assert first.survivors.all()
        assert exchange.run(1, Fastest(N)).survivors.all()
        assert exchange.close()
    else:
        assert worker(d, crossing="asked-whole") == [0, 1]


def test_late_count_is_stale_and_answered_with_the_newest_theta() -> None:
    d = 1_000  # eager: the request is not kept back by theta
    if WORLD.rank == 0:
        exchange = Exchange(d)
        exchange.patience = 0.0
        first = exchange.run(0, Fastest(N - 1))
        assert first.done.finished[0] == 0
        assert not first.survivors[0]
        (SIGNALS / "late-count").touch()
        exchange.patience = 600.0
        second = exchange.run(1, Fastest(N))
        assert second.survivors.all()
        assert (0, 0) in [(t, i) for t, i, _ in second.late]
        assert exchange.close()
    else:
        assert worker(d, crossing="late-count") == [0, 1]


def test_late_message_is_dropped() -> None:
    """Coefficients were sent, the message does not come: its worker is a straggler, no more."""
    d = 50_000
    if WORLD.rank == 0:
        exchange = Exchange(d)
        exchange.patience = 0.0
        first = exchange.run(0, Fastest(N))
        assert list(first.done.finished) == [N] * N
        assert not first.survivors[0]
        assert np.isnan(first.arrival_seconds[0])
        (SIGNALS / "late-message").touch()
        exchange.patience = 600.0
        second = exchange.run(1, Fastest(N))
        assert second.survivors.all()
        assert (0, 0) in [(t, i) for t, i, _ in second.late]
        assert exchange.close()
    else:
        assert worker(d, encoding=lambda: wait_for("late-message")) == [0, 1]


class Enough(Exception):
    """The run is to end."""


def give_up() -> None:
    raise Enough


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_end_in_every_phase(calls: int) -> None:
    """The run ends before, while and after worker 0 is asked: it says goodbye, nobody hangs."""
    d = 100_000
    if WORLD.rank == 0:
        exchange = Exchange(d)
        with pytest.raises(Enough):
            exchange.run(0, Signalling(give_up, calls))
        assert exchange.close()
    else:
        assert worker(d, seconds=lambda t, p: (I == 0 and p == 1) / 64) == [0]
