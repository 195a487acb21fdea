"""The exchange with reports, seen from inside the ranks: run by tests/test_partial_mpi.py.

As in inside_protocol.py, order is enforced by files, never by sleeping for a while.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from gcmpi.cluster.mpi import DOWN_HEADER, UP_HEADER, Arrivals, World
from gcmpi.cluster.partial import MpiPartialExchange, MpiPartialLink
from gcmpi.cluster.waiting import Fastest
from gcmpi.cluster.wire import Dense
from gcmpi.codes.code import combine, encode
from gcmpi.codes.ensemble import Ensemble
from gcmpi.registry import Spec
from gcmpi.training import Message, Replies

WORLD = World()
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


class Exchange(MpiPartialExchange):
    """Patient: it takes its phases for long ones, so that a slow machine makes nobody late."""

    patience = 600.0

    def __init__(self, d: int) -> None:
        super().__init__(WORLD, d, np.float64, {M: Dense(-(-d // M), "float64")}, CODES)
        self.d = d

    def _begin(self, t: int, m: int, theta: np.ndarray) -> Arrivals:
        now = super()._begin(t, m, theta)
        now._start -= self.patience
        return now

    def run(self, t: int, rule: object) -> Replies:
        """Do an iteration, and decode what the reports promise."""
        replies = self.exchange(t, M, np.full(self.d, float(t)), rule)
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

    The server asks a rule on when it waits for reports, after it has sent its requests, and when it
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


def link(d: int) -> MpiPartialLink:
    return MpiPartialLink(WORLD, d, np.float64, {M: Dense(-(-d // M), "float64")}, N)


def answer(connection: MpiPartialLink, t: int, finished: int, d: int) -> bool:
    """Report and send the message; returns whether the server wanted it."""
    coefficients = connection.say_finished(t, finished)
    if coefficients is None:
        return False
    held = gradients(t, d)[CODES.subsets(I)[:finished]]
    connection.reply(Message(t, encode(coefficients, held), 0.1, 0.2, 0.3))
    return True


def whole_worker(connection: MpiPartialLink, d: int) -> list[int]:
    """Finish everything at once, in every iteration; returns the iterations seen."""
    seen = []
    while (request := connection.receive()) is not None:
        t, _, theta = request
        assert theta.shape == (d,)
        assert (theta == t).all()
        seen.append(t)
        answer(connection, t, N, d)
    return seen


@pytest.mark.parametrize("d", [1, 5, 200_000])
def test_unfinished_work_counts(d: int) -> None:
    """Worker 0 is asked in the middle of a delay of an hour; what it has makes the code exact."""
    if WORLD.rank == 0:
        exchange = Exchange(d)
        for t in range(3):
            replies = exchange.run(t, Fastest(N - 1))
            assert list(replies.done.finished) == [t, *[N] * (N - 1)]
            assert list(replies.survivors) == [t > 0, *[True] * (N - 1)]
            np.testing.assert_array_equal(replies.compute_seconds[1:], 0.1)
            np.testing.assert_array_equal(replies.encode_seconds[1:], 0.2)
            np.testing.assert_array_equal(replies.delay_seconds[1:], 0.3)
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
    elif I == 0:
        connection = link(d)
        while (request := connection.receive()) is not None:
            t, _, _ = request
            assert connection.asked(3600.0)
            assert answer(connection, t, t, d) == (t > 0)
    else:
        assert whole_worker(link(d), d) == [0, 1, 2]


def test_silence_crosses_a_request() -> None:
    """A note of silence that comes after the request ends the wait for the report."""
    d = 1000
    if WORLD.rank == 0:
        exchange = Exchange(d)
        first = exchange.run(0, Signalling((SIGNALS / "asked-silent").touch))
        assert list(first.done.finished) == [0, *[N] * (N - 1)]
        assert np.isnan(first.done.seconds[0])
        second = exchange.run(1, Fastest(N))
        assert second.survivors.all()
        assert exchange.close()
    elif I == 0:
        connection = link(d)
        t, _, _ = connection.receive()
        wait_for("asked-silent")
        connection.stay_silent(t)
        assert whole_worker(connection, d) == [1]
    else:
        assert whole_worker(link(d), d) == [0, 1]


def test_whole_report_crosses_a_request() -> None:
    """A worker that did not see the request has reported all the same: it gets coefficients."""
    d = 1000
    if WORLD.rank == 0:
        exchange = Exchange(d)
        first = exchange.run(0, Signalling((SIGNALS / "asked-whole").touch))
        assert list(first.done.finished) == [N] * N
        assert first.survivors.all()
        assert exchange.run(1, Fastest(N)).survivors.all()
        assert exchange.close()
    elif I == 0:
        connection = link(d)
        t, _, _ = connection.receive()
        wait_for("asked-whole")
        assert answer(connection, t, N, d)
        assert whole_worker(connection, d) == [1]
    else:
        assert whole_worker(link(d), d) == [0, 1]


def test_late_report_is_stale_and_answered_with_the_newest_theta() -> None:
    d = 1_000  # eager: the request is not kept back by theta
    if WORLD.rank == 0:
        exchange = Exchange(d)
        exchange.patience = 0.0
        first = exchange.run(0, Fastest(N - 1))
        assert first.done.finished[0] == 0
        assert not first.survivors[0]
        (SIGNALS / "late-report").touch()
        exchange.patience = 600.0
        second = exchange.run(1, Fastest(N))
        assert second.survivors.all()
        assert (0, 0) in [(t, i) for t, i, _ in second.late]
        assert exchange.close()
    elif I == 0:
        connection = link(d)
        t, _, _ = connection.receive()
        wait_for("late-report")
        assert connection.asked(3600.0), "the request of iteration 0"
        assert not answer(connection, t, 1, d), "the server went on"
        assert whole_worker(connection, d) == [1]
    else:
        assert whole_worker(link(d), d) == [0, 1]


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
    elif I == 0:
        connection = link(d)
        t, _, _ = connection.receive()
        coefficients = connection.say_finished(t, N)
        assert coefficients.shape == (M, N)
        y = encode(coefficients, gradients(t, d)[CODES.subsets(I)])
        wait_for("late-message")
        connection.reply(Message(t, y, 0.0, 0.0))
        assert whole_worker(connection, d) == [1]
    else:
        assert whole_worker(link(d), d) == [0, 1]


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
    elif I == 0:
        connection = link(d)
        t, _, _ = connection.receive()
        assert connection.asked(3600.0), "a request, or the end"
        answer(connection, t, 1, d)
        assert connection.receive() is None
    else:
        assert whole_worker(link(d), d) == [0]
