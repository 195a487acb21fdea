"""The protocol, seen from inside the ranks: run by tests/test_mpi.py under mpirun.

Order is enforced by files that one rank writes and another waits for, never by sleeping for a
while: what would hang without the protocol's promise hangs, and the time limit of the launcher
turns that into a failure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from gcmpi.cluster.messages import Parameters
from gcmpi.cluster.mpi import MpiExchange, MpiLink, World
from gcmpi.cluster.stragglers import Table
from gcmpi.cluster.waiting import All, Deadline, Fastest
from gcmpi.cluster.whole import WholeWorker, requests
from gcmpi.cluster.wire import Dense, Wire
from gcmpi.codes.code import Code
from gcmpi.formats import EPSILON, WireType
from gcmpi.training import Message, Replies, Spent

WORLD = World()
if WORLD.rank == 0:  # a rank may not end before what it has sent is received
    assert len(WORLD.hosts) == WORLD.size
N = WORLD.size - 1
NOTHING = Spent(0.0, 0.0)
SIGNALS = Path(os.environ["GCMPI_SIGNALS"])

pytestmark = pytest.mark.mpi(min_size=4)


def wait_for(name: str) -> None:
    while not (SIGNALS / name).exists():
        time.sleep(0.001)


def signal(name: str) -> None:
    (SIGNALS / name).touch()


def code(m: int) -> Code:
    return Code(np.eye(N), np.tile(np.eye(N), (m, 1)), m)


class Worker:
    """This rank's half of the protocol; `delays` are those of worker 0, an iteration each."""

    def __init__(self, d: int, wires: Mapping[int, Wire], delays: tuple[float, ...] = (0.0,)):
        self.i = WORLD.rank - 1
        self.link = MpiLink(WORLD, d, np.float64, wires)
        table = np.zeros((len(delays), N))
        table[:, 0] = delays
        self.half = WholeWorker(self.i, Table(table))

    def __iter__(self) -> Iterator[Parameters]:
        """Yield what wants an answer until the run is over."""
        for wanted in requests(self.link, self.half):
            assert isinstance(wanted, Parameters)
            assert (wanted.theta == wanted.t).all(), "parameters of another iteration"
            yield wanted
        self.link.close()

    def reply(self, t: int, m: int, length: int) -> None:
        """Answer with 100 t + i."""
        self.half.computed(
            Message(t, m, np.full(length, 100.0 * t + self.i), NOTHING), self.link.now
        )


def dense(d: int, m: int) -> dict[int, Wire]:
    return {m: Dense(-(-d // m), "float64")}


def check(replies: Replies, t: int, workers: list[int]) -> None:
    """The survivors' rows are their answers to this very iteration."""
    for i in workers:
        assert replies.survivors[i]
        assert (replies.Y[i] == 100 * t + i).all()


@pytest.mark.parametrize("d", [1000, 200_000])
def test_send_trap(d: int) -> None:
    """The server goes on without a worker that has not even posted its receive.

    Above the eager limit a send completes only when its receiver is ready. The last worker does
    not listen until the server has finished iteration 2.
    """
    name = f"trap-{d}"
    length = d // 2
    if WORLD.rank == 0:
        exchange = MpiExchange(WORLD, d, np.float64, dense(d, 2))
        rule = Fastest(N - 1)
        sent = []
        for t in range(3):
            replies = exchange.exchange(t, 2, np.full(d, float(t)), rule)
            check(replies, t, list(range(N - 1)))
            assert not replies.survivors[N - 1]
            assert not replies.late
            sent.append(replies.bytes_down)
        assert sent[1] < sent[0], "a theta was sent to a worker that had not had the last one"
        signal(name)
        # now it answers, first to iteration 0 (late), then to what is current
        late = []
        for t in range(3, 6):
            replies = exchange.exchange(t, 2, np.full(d, float(t)), All())
            check(replies, t, list(range(N)))
            late += replies.late
        assert [(t, i) for t, i, _ in late] == [(0, N - 1)]
        assert exchange.close()
        return
    last = WORLD.rank == N
    worker = Worker(d, dense(d, 2))
    if last:
        wait_for(name)
    seen = []
    for t, m, _ in worker:
        seen.append(t)
        worker.reply(t, m, length)
    # the slow one skips the iterations in between
    assert seen == ([0, 3, 4, 5] if last else [0, 1, 2, 3, 4, 5])


def test_late_message_is_dropped_and_counted() -> None:
    """An answer that comes an iteration late is not taken for an answer to this one."""
    d, length = 50_000, 25_000
    if WORLD.rank == 0:
        exchange = MpiExchange(WORLD, d, np.float64, dense(d, 2))
        first = exchange.exchange(0, 2, np.zeros(d), Fastest(N - 1))
        assert list(np.flatnonzero(~first.survivors)) == [0]
        assert np.isnan(first.arrival_seconds[0])
        signal("late")
        second = exchange.exchange(1, 2, np.ones(d), All())
        check(second, 1, list(range(N)))
        assert [(t, i) for t, i, _ in second.late] == [(0, 0)]
        assert second.late[0][2] > 0
        assert second.bytes_up > N * length * 8, "the stale message's bytes count too"
        assert exchange.close()
        return
    worker = Worker(d, dense(d, 2))
    for t, m, _ in worker:
        if worker.i == 0 and t == 0:
            wait_for("late")
        worker.reply(t, m, length)


def test_silent_worker_is_served_again_but_never_counted() -> None:
    """Silence in iteration 0 ends the wait when nobody else can answer, and costs nothing later."""
    d = 1000
    if WORLD.rank == 0:
        exchange = MpiExchange(WORLD, d, np.float64, dense(d, 1))
        first = exchange.exchange(0, 1, np.zeros(d), All())
        assert list(first.survivors) == [False] + [True] * (N - 1)
        assert not first.late
        second = exchange.exchange(1, 1, np.ones(d), All())
        check(second, 1, list(range(N)))
        # a rule with a time limit is not told: it waits until the time is over
        third = exchange.exchange(2, 1, np.full(d, 2.0), Deadline(0.2))
        assert third.exchange_seconds >= 0.2
        assert not third.survivors[0]
        assert exchange.close()
        return
    worker = Worker(d, dense(d, 1), (np.inf, 0.0, np.inf))
    seen = []
    for t, m, _ in worker:
        seen.append(t)
        worker.reply(t, m, d)
    assert seen == ([1] if worker.i == 0 else [0, 1, 2])


def test_end_does_not_wait_for_a_long_delay() -> None:
    """STOP reaches a worker in the middle of a delay of an hour: it says goodbye at once."""
    d = 100_000
    if WORLD.rank == 0:
        exchange = MpiExchange(WORLD, d, np.float64, dense(d, 1))
        replies = exchange.exchange(0, 1, np.zeros(d), Fastest(N - 1))
        assert not replies.survivors[0]
        assert exchange.close()
        return
    worker = Worker(d, dense(d, 1), (3600.0,))
    for t, m, _ in worker:
        worker.reply(t, m, d)


def test_m_may_change_in_every_iteration() -> None:
    """Theta says which m; only its elements travel, and late answers count with theirs."""
    d = 6000
    wires = {m: Dense(d // m, "float64") for m in (1, 2, 3)}
    if WORLD.rank == 0:
        exchange = MpiExchange(WORLD, d, np.float64, wires)
        header = 6 * 8
        for t, m in enumerate((3, 1, 2, 3)):
            replies = exchange.exchange(t, m, np.full(d, float(t)), All())
            check(replies, t, list(range(N)))
            assert replies.Y.shape == (N, d // m)
            assert replies.bytes_up == N * (header + 8 * d // m)
        first = exchange.exchange(4, 1, np.full(d, 4.0), Fastest(N - 1))
        assert not first.survivors[0]
        signal("short")
        second = exchange.exchange(5, 3, np.full(d, 5.0), All())
        check(second, 5, list(range(N)))
        assert [(t, i) for t, i, _ in second.late] == [(4, 0)]
        assert second.bytes_up == N * (header + 8 * d // 3) + header + 8 * d
        assert exchange.close()
        return
    worker = Worker(d, wires)
    for t, m, _ in worker:
        if worker.i == 0 and t == 4:
            wait_for("short")
        worker.reply(t, m, d // m)


@pytest.mark.parametrize("wire", ["float16", "bfloat16", "float32", "float64"])
def test_wire_types(wire: WireType) -> None:
    """Values survive within the precision of the wire, tiny ones too, whatever the length."""
    for t, (d, m) in enumerate([(1, 1), (7, 2), (1001, 3), (3, 5)]):
        length = -(-d // m)
        values = 1e-7 * np.linspace(1, 2, length)
        if WORLD.rank == 0:
            exchange = MpiExchange(WORLD, d, np.float32, {m: Dense(length, wire)})
            replies = exchange.exchange(t, m, np.zeros(d, np.float32), All())
            precision = max(EPSILON[wire], EPSILON["float32"])
            np.testing.assert_allclose(replies.Y, np.tile(values, (N, 1)), rtol=2 * precision)
            assert exchange.close()
        else:
            link = MpiLink(WORLD, d, np.float32, {m: Dense(length, wire)})
            half = WholeWorker(WORLD.rank - 1, Table(np.zeros((1, N))))
            for _ in requests(link, half):
                half.computed(Message(t, m, values.astype(np.float32), NOTHING), link.now)
            link.close()
