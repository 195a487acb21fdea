"""The protocols without a transport: what server and workers do with notes, by a script."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gcmpi.cluster.messages import (
    Answer,
    Bye,
    Coefficients,
    End,
    Finished,
    Message,
    Parameters,
    Request,
    Silence,
    Spent,
)
from gcmpi.cluster.partial import PartialServer, PartialWorker
from gcmpi.cluster.stragglers import Table
from gcmpi.cluster.virtual import VirtualMailbox, whole_worker
from gcmpi.cluster.waiting import All, Fastest
from gcmpi.cluster.whole import WholeServer, WholeWorker, requests
from gcmpi.cluster.wire import Dense


class Script:
    """A mailbox in which notes come at given times, and in which a worker may be hard to reach."""

    def __init__(self):
        self.now, self.coming, self.posted, self.reachable = 0.0, [], [], {}

    def expect(self, *notes):
        """Let (time, i, note) come; times are a script's own, whatever the server does."""
        self.coming = sorted([*self.coming, *notes], key=lambda entry: entry[0])

    def post(self, i, note):
        if self.now < self.reachable.get(i, 0.0):
            return False
        self.posted.append((self.now, i, note))
        return True

    def wait(self, seconds):
        if not self.coming or self.coming[0][0] > self.now + seconds:
            assert seconds < math.inf, "the server waits for ever"
            self.now += seconds
            return []
        at, i, note = self.coming.pop(0)
        self.now = max(self.now, at)
        return [(i, note)]

    def size(self, note):
        return 1000

    def sent(self):
        """What was posted since the last look: (time, worker, kind, iteration)."""
        posted, self.posted = self.posted, []
        return [(at, i, type(note).__name__, getattr(note, "t", None)) for at, i, note in posted]


def answer(t, i, m=1):
    def read(out):
        out[...] = 10 * t + i

    return Answer(t, m, 100, Spent(1.0, 2.0, 3.0), read)


WIRES = {1: Dense(4, "float64"), 2: Dense(2, "float64")}
THETA = np.zeros(4)


def test_whole_answers():
    mailbox = Script()
    server = WholeServer(mailbox, 3, WIRES, np.float64)

    # the rule says stop: worker 2 is late
    mailbox.expect((1, 1, answer(0, 1, 2)), (2, 0, answer(0, 0, 2)))
    replies = server.exchange(0, 2, THETA, Fastest(2))
    assert mailbox.sent() == [(0, i, "Parameters", 0) for i in range(3)]
    assert replies.survivors.tolist() == [True, True, False]
    np.testing.assert_array_equal(replies.arrival_seconds, [2, 1, np.nan])
    np.testing.assert_array_equal(replies.delay_seconds, [3, 3, np.nan])
    np.testing.assert_array_equal(replies.Y[:2], [[0, 0], [1, 1]])
    assert (replies.exchange_seconds, replies.bytes_up, replies.bytes_down) == (2, 200, 3000)
    assert server.owes.tolist() == [False, False, True]

    # its answer is dropped, timed without what the server does between exchanges, and followed at
    # once by the newest parameters; nobody is sent the same parameters twice
    mailbox.now = 100.0
    mailbox.expect((101, 0, answer(1, 0)), (103, 2, answer(0, 2, 2)), (104, 1, answer(1, 1)),
                   (106, 2, answer(1, 2)))  # fmt: skip
    replies = server.exchange(1, 1, THETA, All())
    sent = [(100, 0, "Parameters", 1), (100, 1, "Parameters", 1), (103, 2, "Parameters", 1)]
    assert mailbox.sent() == sent
    assert replies.late == [(0, 2, 5.0)]
    assert replies.survivors.all()
    np.testing.assert_array_equal(replies.Y, np.tile([[10.0], [11.0], [12.0]], 4))
    assert (replies.exchange_seconds, replies.bytes_up, replies.bytes_down) == (6, 400, 3000)

    assert not replies.kept

    # silence ends the wait of a rule without a time limit; a worker whose last note is still on its
    # way gets the parameters when that has come
    mailbox.reachable[1] = 108.0
    mailbox.expect((107, 0, Silence(2)), (109, 2, answer(2, 2)), (110, 1, answer(2, 1)))
    replies = server.exchange(2, 1, THETA, All())
    sent = [(106, 0, "Parameters", 2), (106, 2, "Parameters", 2), (109, 1, "Parameters", 2)]
    assert mailbox.sent() == sent
    assert replies.survivors.tolist() == [False, True, True]
    assert replies.bytes_up == 200

    # an iteration that is given up: what workers owe is taken, so that they can be asked
    class GivingUp(All):
        def remaining(self, answered, elapsed):
            if answered.any():
                raise KeyboardInterrupt
            return 1.0

    mailbox.expect((111, 0, answer(3, 0)), (112, 1, answer(3, 1)))
    with pytest.raises(KeyboardInterrupt):
        server.exchange(3, 1, THETA, GivingUp())
    assert (server.next, server.under_way) == (3, True)
    server.settle(5.0)
    assert server.owes.tolist() == [False, False, True]
    assert mailbox.now == 116.0


def test_late_answers_are_kept_where_they_are_wanted():
    mailbox = Script()
    server = WholeServer(mailbox, 3, WIRES, np.float64, keep_late=True)
    mailbox.expect((1, 1, answer(0, 1, 2)), (2, 0, Silence(0)))
    assert not server.exchange(0, 2, THETA, Fastest(1)).kept
    mailbox.expect((3, 2, answer(0, 2, 2)), (4, 1, answer(1, 1)), (5, 0, answer(1, 0)))
    replies = server.exchange(1, 1, THETA, Fastest(2))
    assert replies.late == [(0, 2, 3.0)]
    (kept,) = replies.kept
    assert kept[:3] == (0, 2, 2)
    np.testing.assert_array_equal(kept.y, [2.0, 2.0])


def columns(t, finished):
    return [np.full((2, count), 10.0 * i + count) for i, count in enumerate(finished)]


def test_unfinished_work():
    mailbox = Script()
    loads = np.full(3, 2)
    server = PartialServer(mailbox, 3, WIRES, np.float64, loads=loads, columns=columns)

    # one has finished when the rule says stop, after 1 s; one says its count when asked, and then
    # no message in time; one says nothing in time. The server waits as long for counts as for the
    # first, and as long again for messages
    mailbox.expect(
        (1, 0, Finished(0, 2, 7)), (1.5, 1, Finished(0, 1, 7)), (2.25, 0, answer(0, 0, 2))
    )
    replies = server.exchange(0, 2, THETA, Fastest(1))
    assert mailbox.sent() == [
        *((0, i, "Parameters", 0) for i in range(3)),
        (1, 1, "Request", 0), (1, 2, "Request", 0),
        (2, 0, "Coefficients", None), (2, 1, "Coefficients", None),
    ]  # fmt: skip
    assert replies.done.finished.tolist() == [2, 1, 0]
    np.testing.assert_allclose(replies.done.seconds, [1, 2, np.nan])  # 1.5 s for 1 and a half
    assert replies.survivors.tolist() == [True, False, False]
    assert replies.arrival_seconds[0] == 2.25
    assert (replies.exchange_seconds, replies.bytes_up) == (3, 114)
    assert server.owes.tolist() == [False, True, True]

    # both come late, and go on with the newest parameters. A count that crosses the request counts
    # as one that does not; who is silent is not waited for
    mailbox.expect((3.25, 2, Finished(0, 2, 7)), (3.5, 1, answer(0, 1, 2)))
    mailbox.expect((4, 0, Finished(1, 2, 7)), (5, 1, Finished(1, 2, 7)), (5, 2, Silence(1)))
    mailbox.expect((5.5, 0, answer(1, 0, 2)), (5.75, 1, answer(1, 1, 2)))
    replies = server.exchange(1, 2, THETA, Fastest(1))
    assert mailbox.sent() == [
        (3, 0, "Parameters", 1), (3.25, 2, "Parameters", 1), (3.5, 1, "Parameters", 1),
        (4, 1, "Request", 1), (4, 2, "Request", 1),
        (5, 0, "Coefficients", None), (5, 1, "Coefficients", None),
    ]  # fmt: skip
    assert replies.late == [(0, 2, 3.25), (0, 1, 3.5)]
    assert replies.done.finished.tolist() == [2, 2, 0]
    assert replies.survivors.tolist() == [True, True, False]
    assert replies.exchange_seconds == 2.75

    # all have finished: nobody is asked, and each gets its own coefficients
    mailbox.expect(*((7, i, Finished(2, 2, 7)) for i in range(3)))
    mailbox.expect(*((8, i, answer(2, i, 2)) for i in range(3)))
    assert server.exchange(2, 2, THETA, All()).survivors.all()
    for i, (_, _, note) in enumerate(mailbox.posted[3:]):
        np.testing.assert_array_equal(note.column, np.full(4, 10.0 * i + 2))


# workers


def message(t, m=1, seconds=0.5):
    return Message(t, m, THETA, Spent(seconds, 0.25))


def test_a_worker_of_whole_answers():
    """A delay in seconds, one in units of computation, silence, and the end in between."""
    delays = np.array([[0.0, 4.0], [0.0, math.inf]])
    worker = WholeWorker(1, Table(delays))
    assert worker.due == math.inf
    parameters = Parameters(0, 2, THETA)
    assert worker.take(parameters, 1.0) is parameters
    worker.computed(message(0, 2), 2.0)
    assert worker.due == 6.0
    again = WholeWorker(1, Table(delays))
    again.restore(worker.kept)
    owed = worker.wake(6.0)
    assert (owed.t, owed.m, owed.spent.delay, worker.due) == (0, 2, 4.0, math.inf)
    assert again.due == 6.0
    assert (again.wake(6.0).t, again.due) == (0, math.inf)

    assert worker.take(Parameters(1, 2, THETA), 7.0) is None
    again.restore(worker.kept)
    for half in (worker, again):
        assert (half.due, half.wake(7.0), half.due) == (7.0, Silence(1), math.inf)

    in_units = WholeWorker(1, Table(delays, "compute"))
    in_units.take(parameters, 1.0)
    in_units.computed(message(0), 2.0)
    assert in_units.due == 4.0
    in_units.take(End(), 3.0)
    assert (in_units.over, in_units.due, in_units.wake(3.0)) == (True, 3.0, Bye())
    worker.take(End(), 8.0)
    assert (worker.over, worker.due) == (True, math.inf)


class Hands:
    """Subsets that take a second each."""

    load = 3

    def __init__(self):
        self.done = []

    def begin(self, parameters):
        self.done.append(parameters.t)

    def compute(self, position):
        self.done.append(f"subset {position}")
        return 1.0

    def encode(self, coefficients):
        self.done.append(coefficients.tolist())
        return THETA, 0.0


def test_a_worker_with_unfinished_work():
    delays = Table(np.array([[6.0], [math.inf]]))  # 2 s a subset
    hands = Hands()
    worker = PartialWorker(0, delays, hands)
    worker.take(Parameters(0, 2, THETA), 0.0)
    assert worker.due == 3.0
    assert worker.wake(3.0) is None

    # asked while it computes, it looks up when that is done, and its second subset does not count
    worker.take(Request(0), 3.5)
    again = PartialWorker(0, delays, Hands())
    again.restore(worker.kept)
    for half in (worker, again):
        assert half.due == 4.0
        assert half.wake(4.0) == Finished(0, 1)
        assert half.due == math.inf
    worker.take(Request(0), 4.0)  # one that has crossed its count
    assert worker.due == math.inf
    worker.take(Coefficients(np.array([1.0, 2.0])), 5.0)
    again.restore(worker.kept)
    owed, lost = worker.wake(5.0), again.wake(5.0)
    assert (lost.t, lost.m, again.due) == (0, 2, math.inf)
    assert (owed.t, owed.m, owed.spent.compute, owed.spent.delay) == (0, 2, 2.0, 2.0)
    assert hands.done == [0, "subset 0", "subset 1", [[1.0], [2.0]]]

    # asked in a delay it answers at once; newer parameters may come in place of coefficients
    worker.take(Parameters(2, 2, THETA), 10.0)
    worker.take(Request(2), 12.0)
    assert (worker.due, worker.wake(12.0)) == (12.0, Finished(2, 0))
    worker.take(Parameters(4, 2, THETA), 20.0)
    for due in (23.0, 26.0, 29.0):
        assert worker.due == due
        owed = worker.wake(due)
    assert owed == Finished(4, 3)

    # silence, which may cross a request, and the end of the run
    worker.take(Parameters(5, 2, THETA), 30.0)
    worker.take(Request(5), 30.0)
    assert (worker.due, worker.wake(30.0)) == (30.0, Silence(5))
    worker.take(Parameters(6, 2, THETA), 31.0)
    worker.take(End(), 32.0)
    assert (worker.due, worker.wake(32.0), worker.due) == (32.0, Bye(), math.inf)


class SlowLink:
    """A half around a half: what the server gets is so many seconds on its way."""

    def __init__(self, half, seconds):
        self.half, self.seconds = half, seconds

    @property
    def due(self):
        return self.half.due + self.seconds

    def __getattr__(self, name):
        return getattr(self.half, name)


def test_a_half_may_be_around_another_half():
    delays = Table(np.zeros((1, 2)))
    fast, slow = [whole_worker(i, lambda t, m, theta: message(t, m), delays, 0.5) for i in (0, 1)]
    slow = slow._replace(half=SlowLink(slow.half, 2.0))
    mailbox = VirtualMailbox([fast, slow], [WIRES, WIRES])
    for t, now in ((0, 0.0), (1, 2.5)):
        for i in (0, 1):
            mailbox.post(i, Parameters(t, 1, THETA))
        assert [(i, note.t, mailbox.now) for _ in range(2) for i, note in mailbox.wait(9.0)] == [
            (0, t, now + 0.5), (1, t, now + 2.5)
        ]  # fmt: skip


def test_a_wait_for_nobody_is_an_error_on_the_virtual_clock():
    """Over MPI such a mistake of the server's half would hang; here it says so."""
    worker = whole_worker(0, lambda t, m, theta: message(t, m), Table(np.zeros((1, 1))), 0.5)
    mailbox = VirtualMailbox([worker], [WIRES])
    mailbox.post(0, Parameters(0, 1, THETA))
    assert [(i, note.t) for i, note in mailbox.wait(math.inf)] == [(0, 0)]
    assert mailbox.now == 0.5
    with pytest.raises(RuntimeError, match="nobody owes"):
        mailbox.wait(math.inf)


def test_after_the_end_a_worker_does_not_listen():
    """What comes next is of another run. The end goes before a message that is due."""
    mailbox = Script()
    mailbox.expect((0, 0, Parameters(0, 1, THETA)), (5, 0, End()), (6, 0, Parameters(0, 1, THETA)))
    half = WholeWorker(0, Table(np.array([[5.0]])))
    for wanted in requests(mailbox, half):
        half.computed(message(wanted.t), mailbox.now)
    assert mailbox.posted == [(5, 0, Bye())]
    assert len(mailbox.coming) == 1
