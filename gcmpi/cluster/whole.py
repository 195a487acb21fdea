"""The protocol of whole answers: what server and workers do with notes, whatever carries them.

* At most one theta is on its way to a worker and at most one answer is owed by it. The server
  posts theta to workers only that owe nothing.
* Every note has its iteration. A late answer is recognised by it, counted, dropped (or kept for a
  server with memory), and answered at once with the newest theta. So a worker never works through
  a queue of old parameters.
* A worker that a straggler model keeps silent says so: it is idle again, but has not answered.
* The end of the run reaches busy workers too; whoever owes an answer says goodbye in its place,
  even in the middle of a delay.

The server may change m in every iteration: parameters say which, and so does an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.cluster.messages import (
    UNKNOWN,
    Answer,
    Bye,
    Call,
    End,
    Finished,
    Late,
    Mailbox,
    Message,
    Note,
    Parameters,
    Replies,
    ServerMailbox,
    Silence,
)
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.wire import Wire

NOBODY = -1
"""In place of an iteration that a worker owes or was served: none."""
SILENT = 0
"""In place of the m of an owed answer: there will be none."""


class Arrivals:
    """What an iteration has brought so far; seconds count from its start."""

    def __init__(self, t: int, m: int, n: int, start: float) -> None:
        self.t, self.m, self.start, self.elapsed = t, m, start, 0.0
        self.survivors = np.zeros(n, dtype=bool)
        self.arrival, self.compute, self.encode, self.delay = (np.full(n, np.nan) for _ in range(4))
        self.late: list[tuple[int, int, float]] = []
        self.kept: list[Late] = []
        self.unserved: list[int] = []  # workers that owe nothing and have not had theta
        self.bytes_up = self.bytes_down = 0


class WholeServer:
    """The server's half.

    Parameters
    ----------
    mailbox
        What carries notes to and from n workers.
    n
        How many workers there are.
    wires
        How coded vectors travel, by m.
    dtype
        The type of the coded vectors' numbers.
    keep_late
        Whether the numbers of late answers are kept.

    Attributes
    ----------
    keep_late
        As given.
    owes : (n,) bool
        The workers that have been sent something and have not answered.
    next
        The iteration that comes next, or is under way.
    under_way
        Whether an iteration has begun and not ended: it was given up.
    """

    def __init__(
        self,
        mailbox: ServerMailbox,
        n: int,
        wires: Mapping[int, Wire],
        dtype: Any,
        *,
        keep_late: bool = False,
    ) -> None:
        self._mailbox, self._n, self.keep_late = mailbox, n, keep_late
        # zeros take no memory until they are written
        self._Y = {m: np.zeros((n, wire.length), dtype) for m, wire in wires.items()}
        self.owes = np.zeros(n, dtype=bool)
        self.next, self.under_way = 0, False
        self._served = np.full(n, NOBODY)  # newest iteration sent to each worker
        # and when that began, by a clock that stands still between exchanges: late answers are
        # timed without what the server did there
        self._began = np.zeros(n)
        self._between, self._ended = 0.0, mailbox.now

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Send theta and m to every idle worker and collect answers until `rule` says stop."""
        now, parameters = self._begin(t, m), Parameters(t, m, theta)
        self._collect(
            now,
            lambda: self._send_to_idle(parameters, now),
            lambda: rule.remaining(now.survivors, now.elapsed),
        )
        return self._end(now)

    def settle(self, seconds: float) -> None:
        """Let workers finish what they owe, so long at most; what comes is dropped."""
        end = self._mailbox.now + seconds
        while self.owes.any() and (left := end - self._mailbox.now) > 0:
            for i, _ in self._mailbox.wait(left):
                self.owes[i] = False

    @property
    def debts(self) -> tuple[IntArray, Array]:
        """The iteration that each worker owes, and when it began, by the mailbox's clock."""
        return np.where(self.owes, self._served, NOBODY), self._began.copy()

    @debts.setter
    def debts(self, found: tuple[IntArray, Array]) -> None:
        owed, began = found
        self.owes, self._served, self._began = owed > NOBODY, owed.copy(), began.copy()
        self._between, self._ended = 0.0, self._mailbox.now

    def _begin(self, t: int, m: int) -> Arrivals:
        """Start an iteration and its clock."""
        start = self._mailbox.now
        self._between += start - self._ended
        self.next, self.under_way = t, True
        now = Arrivals(t, m, self._n, start)
        now.unserved += np.flatnonzero(~self.owes & (self._served < t)).tolist()
        return now

    def _collect(
        self, now: Arrivals, send: Callable[[], None], remaining: Callable[[], float]
    ) -> None:
        """Send and take until no time is `remaining`, or nothing can come."""
        mailbox, seconds = self._mailbox, 0.0
        while True:
            for i, note in mailbox.wait(seconds):
                now.elapsed = mailbox.now - now.start
                self.owes[i] = False
                if self._served[i] < now.t:
                    now.unserved.append(i)
                if isinstance(note, (Answer, Finished)):
                    self._take(i, note, now)
            send()
            now.elapsed = mailbox.now - now.start
            seconds = remaining()
            if seconds <= 0 or (math.isinf(seconds) and not self.owes.any()):
                return

    def _take(self, i: int, note: Answer | Finished, now: Arrivals) -> None:
        """Use what worker i has sent, or count it as late."""
        now.bytes_up += note.nbytes
        if not self._use(i, note, now):
            since = self._mailbox.now - self._between - self._began[i]
            now.late.append((note.t, i, float(since)))
            if self.keep_late and isinstance(note, Answer):
                y = np.empty_like(self._Y[note.m][i])
                note.read(y)
                now.kept.append(Late(note.t, note.m, i, y))

    def _use(self, i: int, note: Answer | Finished, now: Arrivals) -> bool:
        """Take worker i's answer; False if it is not one to this iteration."""
        if not isinstance(note, Answer) or note.t != now.t:
            return False
        now.survivors[i], now.arrival[i] = True, now.elapsed
        now.compute[i], now.encode[i], now.delay[i] = note.spent
        note.read(self._Y[now.m][i])
        return True

    def _end(self, now: Arrivals) -> Replies:
        """Stop the clock of an iteration."""
        self._ended = self._mailbox.now
        self.next, self.under_way = now.t + 1, False
        return Replies(
            Y=self._Y[now.m],
            survivors=now.survivors,
            arrival_seconds=now.arrival,
            compute_seconds=now.compute,
            encode_seconds=now.encode,
            delay_seconds=now.delay,
            exchange_seconds=now.elapsed,
            late=now.late,
            bytes_up=now.bytes_up,
            bytes_down=now.bytes_down,
            kept=now.kept,
        )

    def _send_to_idle(self, parameters: Parameters, now: Arrivals) -> None:
        """Send theta to the workers that have not had it and owe nothing."""
        unserved, now.unserved = now.unserved, []
        for i in unserved:
            if self._send(i, parameters, now):
                self._served[i], self._began[i] = now.t, now.start - self._between
            else:
                now.unserved.append(i)

    def _send(self, i: int, note: Note, now: Arrivals) -> bool:
        """Send to a worker, which then owes something; False if its last note is on the way."""
        if not self._mailbox.post(i, note):
            return False
        self.owes[i] = True
        now.bytes_down += self._mailbox.size(note)
        return True


MakeServer = Callable[[ServerMailbox, int, Mapping[int, Wire], Any], WholeServer]
"""Makes the server's half of a protocol for a mailbox, n, wires and the type of the numbers."""


class Half(Protocol):
    """A worker's half of a protocol: a state machine that notes and the clock drive.

    A half may be around another half: a delay on the way up, for example, is a half that is due
    later than the one inside.
    """

    @property
    def due(self) -> float:
        """When it has to wake, by the clock of its mailbox; infinite while it only listens."""
        ...

    @property
    def over(self) -> bool:
        """Whether the run is over."""
        ...

    def take(self, note: Note, now: float) -> Parameters | Call | None:
        """Take a note; return it if somebody else has to do something about it."""
        ...

    def wake(self, now: float) -> Note | None:
        """Do what is due; return what the server is to get, if anything."""
        ...

    @property
    def kept(self) -> dict[str, float]:
        """What it remembers from one event to the next, numbers of messages aside."""
        ...

    def restore(self, kept: Mapping[str, float]) -> None:
        """Go on with what was `kept`: what is owed comes late, and its numbers are not missed."""
        ...


class WholeWorker:
    """The worker's half: an answer to each iteration after a delay, or silence.

    Parameters
    ----------
    i
        The worker.
    stragglers
        The delays.

    Attributes
    ----------
    owes, m
        The iteration whose answer is owed, and its m; -1 where none is, and m = 0 where it will be
        silence.
    """

    def __init__(self, i: int, stragglers: StragglerModel) -> None:
        self._i, self._stragglers = i, stragglers
        self.owes, self.m, self.due, self.over = NOBODY, SILENT, math.inf, False
        self._delay = 0.0
        self._message: Message | None = None

    def take(self, note: Note, now: float) -> Parameters | Call | None:
        """Take a note.

        Returns
        -------
        wanted
            Parameters whose message is to be handed to `computed`, a question to be answered, or
            nothing.
        """
        if isinstance(note, Call):
            return note
        if isinstance(note, End):
            self.over = True
            self.due = now if self.owes > NOBODY else math.inf
            return None
        if not isinstance(note, Parameters):
            raise TypeError(f"whole answers follow parameters, not {type(note).__name__}")
        self.owes, self._delay = note.t, float(self._stragglers.delays(note.t)[self._i])
        if math.isinf(self._delay):
            self.m, self.due = SILENT, now
            return None
        self.m = note.m
        return note

    def computed(self, message: Message, now: float) -> None:
        """Owe a message, which was computed by now, until its delay has passed."""
        unit = message.spent.compute if self._stragglers.unit == "compute" else 1.0
        delay = self._delay * unit
        self._message = replace(message, spent=message.spent._replace(delay=delay))
        self.due = now + delay

    def wake(self, now: float) -> Note | None:
        """Return what is owed: a message, silence, or a goodbye when the run is over."""
        t, self.owes, self.due = self.owes, NOBODY, math.inf
        message, self._message = self._message, None
        return Bye() if self.over else message if self.m != SILENT else Silence(t)

    @property
    def kept(self) -> dict[str, float]:
        """What is owed, and when."""
        return {"owes": self.owes, "m": self.m, "due": self.due}

    def restore(self, kept: Mapping[str, float]) -> None:
        """Go on with what was `kept`."""
        self.owes, self.m, self.due = int(kept["owes"]), int(kept["m"]), float(kept["due"])
        self._message = None
        if self.owes > NOBODY and self.m != SILENT:
            self._message = Message(self.owes, self.m, np.zeros(0), UNKNOWN)


def requests(mailbox: Mailbox, half: Half) -> Iterator[Parameters | Call]:
    """Let a worker take part until the run is over; yields what somebody else has to answer.

    A note goes before what is due: the end of the run, or a request, is seen in time.
    """
    while not half.over or math.isfinite(half.due):
        # after the end nothing comes
        notes = [] if half.over else list(mailbox.wait(half.due - mailbox.now))
        for _, note in notes:
            if (wanted := half.take(note, mailbox.now)) is not None:
                yield wanted
        if notes or half.due > mailbox.now:
            continue
        if (owed := half.wake(mailbox.now)) is not None:
            mailbox.post(0, owed)
