"""The protocol of codes that use what stragglers have finished, whatever carries the notes.

What `gcmpi.cluster.whole` says of theta, late notes, silence and the end holds here too. An
iteration has three phases:

* The server sends theta. A worker that has finished all its subsets says so, unasked: for the
  stop rule it has answered.
* When the rule says stop, the server asks those that owe a count. A worker looks for the request
  after every subset and in the middle of a delay. It says how many subsets it has finished; as
  their order is known, the number says which.
* From the counts follow the coefficients. The server sends every worker its own, and the worker
  sends its message.

The server waits for the counts, and then for the messages, at most as long each as the first phase
took: without a count a worker has finished nothing. What comes later is late: a worker that has
said its count takes newer parameters in place of coefficients, and one that has said it unasked
ignores a request that crossed its count. Who comes late while the server waits for counts or
messages has its newer parameters with the next iteration: with those of this one it would be late
again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, IntArray
from gcmpi.cluster.messages import (
    UNKNOWN,
    Answer,
    Bye,
    Coefficients,
    Done,
    End,
    Finished,
    Message,
    Note,
    Parameters,
    Replies,
    Request,
    ServerMailbox,
    Silence,
    Spent,
    seconds_needed,
)
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.waiting import StopRule, until
from gcmpi.cluster.whole import NOBODY, Arrivals, WholeServer
from gcmpi.cluster.wire import Wire


class PartialServer(WholeServer):
    """The server's half.

    Parameters
    ----------
    mailbox, n, wires, dtype
        As in `gcmpi.cluster.whole.WholeServer`.
    loads : (n,)
        How many subsets each worker holds.
    columns
        Returns each worker's coefficients (m, finished[i]), of t and finished (n,).
    """

    def __init__(
        self,
        mailbox: ServerMailbox,
        n: int,
        wires: Mapping[int, Wire],
        dtype: Any,
        *,
        loads: IntArray,
        columns: Callable[[int, IntArray], Sequence[AnyArray]],
    ) -> None:
        super().__init__(mailbox, n, wires, dtype)
        self._dtype, self._loads, self._columns = np.dtype(dtype), loads, columns

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Do one iteration: theta until `rule` says stop, then counts, then messages."""
        now, parameters = self._begin(t, m), Parameters(t, m, theta)
        self._finished = np.zeros(self._n, dtype=np.intp)
        self._counted = np.full(self._n, np.nan)
        self._open = True
        self._collect(
            now,
            lambda: self._send_to_idle(parameters, now),
            lambda: rule.remaining(~np.isnan(self._counted), now.elapsed),
        )
        limit, request = now.elapsed, Request(t)
        busy = self.owes & (self._served == t)
        unasked = busy.copy()

        def ask() -> None:
            for i in map(int, np.flatnonzero(unasked & self.owes)):  # a count may have crossed
                unasked[i] = not self._send(i, request, now)

        self._phase(now, limit, rule, ask, lambda: bool((self.owes & busy).any()))
        self._open = False
        used, unsent = self._finished > 0, self._coefficients(t)

        def instruct() -> None:
            for i in [i for i, note in unsent.items() if self._send(i, note, now)]:
                del unsent[i]

        self._phase(now, limit, rule, instruct, lambda: bool(unsent or (self.owes & used).any()))
        seconds = seconds_needed(self._counted, self._finished, self._loads)
        return replace(self._end(now), done=Done(self._finished, seconds))

    def _phase(
        self,
        now: Arrivals,
        seconds: float,
        rule: StopRule,
        send: Callable[[], None],
        waiting: Callable[[], bool],
    ) -> None:
        """Send, and take what comes while there is something to wait for, at most so long."""
        end = self._mailbox.now - now.start + seconds

        def remaining() -> float:
            # asked on because it also sees that the run is to end
            rule.remaining(self._finished == self._loads, now.elapsed)
            return until(end, now.elapsed) if waiting() else 0.0

        self._collect(now, send, remaining)

    def _use(self, i: int, note: Answer | Finished, now: Arrivals) -> bool:
        """Take worker i's count or answer; False if it is late."""
        if isinstance(note, Answer):
            return super()._use(i, note, now)
        if note.t != now.t or not self._open:
            return False
        self._finished[i], self._counted[i] = note.subsets, now.elapsed
        return True

    def _coefficients(self, t: int) -> dict[int, Coefficients]:
        """Return the notes to the workers that have finished something."""
        columns = enumerate(self._columns(t, self._finished))
        return {i: Coefficients(c.ravel().astype(self._dtype)) for i, c in columns if c.size}


class Hands(Protocol):
    """What computes for a worker's half, one subset gradient after the other.

    Attributes
    ----------
    load
        How many subsets there are.
    """

    load: int

    def begin(self, parameters: Parameters) -> None:
        """Take the parameters of an iteration; theta may change when this returns."""
        ...

    def compute(self, position: int) -> float:
        """Compute the gradient of one subset and keep it; return the seconds that it took."""
        ...

    def encode(self, coefficients: AnyArray) -> tuple[AnyArray, float]:
        """Return the message with coefficients (m, finished), and the seconds that it took."""
        ...


IDLE, WORKING, COUNTED, READY, SILENT = range(5)
"""Stages of a worker: nothing to do; between two subsets; waits for coefficients; owes a message;
owes a note of silence."""


class PartialWorker:
    """The worker's half: subset after subset until the server asks, then a count, then a message.

    The delay of the straggler model is spread evenly over the subsets. A subset counts when its
    share of the delay has passed.

    Parameters
    ----------
    i
        The worker.
    stragglers
        The delays.
    hands
        What computes.
    """

    def __init__(self, i: int, stragglers: StragglerModel, hands: Hands) -> None:
        self._i, self._stragglers, self._hands = i, stragglers, hands
        self.over, self.due = False, math.inf
        self._stage, self._t, self._m = IDLE, NOBODY, 0
        self._finished, self._asked = 0, False
        self._delay = self._share = self._computed = 0.0
        self._computing = self._sleeping = 0.0
        self._message: Message | None = None

    def take(self, note: Note, now: float) -> None:
        """Take a note of the server."""
        if isinstance(note, Parameters):
            self._begin(note, now)
        elif isinstance(note, Request):
            if self._stage == WORKING:  # else it has crossed a count or silence
                self._asked, self.due = True, max(now, self._computed)
        elif isinstance(note, Coefficients):
            self._encode(note.column.reshape(self._m, self._finished), now)
        elif isinstance(note, End):
            self.over = True
            self.due = now if self._stage in (WORKING, READY, SILENT) else math.inf
        else:
            raise TypeError(f"unfinished work has no use for {type(note).__name__}")

    def wake(self, now: float) -> Note | None:
        """Go on to the next subset, or return what the server is to get."""
        if self._stage == WORKING and not self.over:
            self._sleeping += min(now - self._computed, self._share)
            self._finished += now >= self._computed + self._share
            if not self._asked and self._finished < self._hands.load:
                self._compute(now)
                return None
        stage, self._stage, self.due = self._stage, IDLE, math.inf
        if self.over:
            return Bye()
        if stage == WORKING:
            self._stage = COUNTED
            return Finished(self._t, self._finished)
        message, self._message = self._message, None
        return message if stage == READY else Silence(self._t)

    def _begin(self, parameters: Parameters, now: float) -> None:
        self._t, self._m, _ = parameters
        self._delay = float(self._stragglers.delays(self._t)[self._i])
        if math.isinf(self._delay):
            self._stage, self.due = SILENT, now
            return
        self._stage, self._finished, self._asked = WORKING, 0, False
        self._computing = self._sleeping = 0.0
        self._hands.begin(parameters)
        self._compute(now)

    def _compute(self, now: float) -> None:
        """Compute the next subset, and sleep for its share of the delay."""
        seconds = self._hands.compute(self._finished)
        self._computing += seconds
        unit = seconds if self._stragglers.unit == "compute" else 1 / self._hands.load
        self._computed, self._share = now + seconds, self._delay * unit
        self.due = self._computed + self._share

    def _encode(self, coefficients: AnyArray, now: float) -> None:
        y, seconds = self._hands.encode(coefficients)
        spent = Spent(self._computing, seconds, self._sleeping)
        self._message = Message(self._t, self._m, y, spent)
        self._stage, self.due = READY, now + seconds

    @property
    def kept(self) -> dict[str, float]:
        """Where it is in its work, and when it goes on."""
        return {
            "stage": self._stage,
            "t": self._t,
            "m": self._m,
            "finished": self._finished,
            "asked": self._asked,
            "computed": self._computed,
            "share": self._share,
            "due": self.due,
        }

    def restore(self, kept: Mapping[str, float]) -> None:
        """Go on with what was `kept`."""
        self._stage, self._t, self._m = int(kept["stage"]), int(kept["t"]), int(kept["m"])
        self._finished, self._asked = int(kept["finished"]), bool(kept["asked"])
        self._computed, self._share = float(kept["computed"]), float(kept["share"])
        self.due = float(kept["due"])
        if self._stage != IDLE:
            self._delay = float(self._stragglers.delays(self._t)[self._i])
        self._message = None
        if self._stage == READY:
            self._message = Message(self._t, self._m, np.zeros(0), UNKNOWN)
