"""The exchange of codes that use what stragglers have finished; built on `gcmpi.cluster.mpi`.

Protocol
--------
What `gcmpi.cluster.mpi` says of theta, results, late ones, silence and STOP holds here too. An
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
reported takes newer parameters in place of coefficients, and one that has reported unasked ignores
a request that crossed its count. Who comes late while the server waits for counts or messages
has its newer parameters with the next iteration: with those of this one it would be late again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.cluster.messages import Done, Message, Replies, seconds_needed
from gcmpi.cluster.mpi import (
    BYE,
    DOWN_HEADER,
    IDLE_SLEEP,
    STOP,
    Arrivals,
    Buffer,
    MpiExchange,
    MpiLink,
    World,
)
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.wire import Wire
from gcmpi.codes.ensemble import Ensemble

FINISHED = 3.0  # a worker's kind of message: kind, iteration, number of finished subsets
REQUEST, COEFFICIENTS = -2, -3  # of the server, in place of an iteration; neither is STOP


class MpiPartialExchange(MpiExchange):
    """The server's side; `codes` says what follows from counts, the rest is as in its base."""

    def __init__(
        self, world: World, d: int, dtype: Any, wires: Mapping[int, Wire], codes: Ensemble
    ) -> None:
        super().__init__(world, d, dtype, wires)
        self._codes = codes
        self._loads = codes.A.sum(axis=0, dtype=np.intp)
        self._request = Buffer(DOWN_HEADER, 0, self._dtype)
        self._request.header[0] = REQUEST

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Do one iteration: theta until `rule` says stop, then counts, then messages."""
        now = self._begin(t, m, theta)
        self._finished = np.zeros(self.n, dtype=np.intp)
        self._reported = np.full(self.n, np.nan)
        self._open = True
        self._collect(
            now, self._send_to_idle, lambda: rule.remaining(~np.isnan(self._reported), now.elapsed)
        )
        limit = now.elapsed
        busy = self._owes & (self._served == t)
        unasked = busy.copy()

        def ask(now: Arrivals) -> None:
            for i in map(int, np.flatnonzero(unasked & self._owes)):  # a count may have crossed
                unasked[i] = not self._send(i, self._request, now)

        self._phase(now, limit, rule, ask, lambda: bool((self._owes & busy).any()))
        self._open = False
        used, unsent = self._finished > 0, self._coefficients(t)

        def instruct(now: Arrivals) -> None:
            for i in [i for i, message in unsent.items() if self._send(i, message, now)]:
                del unsent[i]

        self._phase(now, limit, rule, instruct, lambda: bool(unsent or (self._owes & used).any()))
        seconds = seconds_needed(self._reported, self._finished, self._loads)
        return replace(self._end(now), done=Done(self._finished, seconds))

    def _phase(
        self,
        now: Arrivals,
        seconds: float,
        rule: StopRule,
        send: Callable[[Arrivals], None],
        waiting: Callable[[], bool],
    ) -> None:
        """Send, and take what comes while there is something to wait for, at most so long."""
        end = now.tick() + seconds

        def remaining() -> float:
            # asked on because it also sees that the run is to end
            rule.remaining(self._finished == self._loads, now.elapsed)
            return end - now.elapsed if waiting() else 0.0

        self._collect(now, send, remaining)

    def _use(self, i: int, now: Arrivals) -> bool:
        """Take worker i's count or answer; False if it is late."""
        header = self._inbox[i].header
        if header[0] != FINISHED:
            return super()._use(i, now)
        if int(header[1]) != now.t or not self._open:
            return False
        self._finished[i], self._reported[i] = int(header[2]), now.elapsed
        return True

    def _coefficients(self, t: int) -> dict[int, Buffer]:
        """Return the messages to the workers that have finished something."""
        messages = {}
        for i, column in enumerate(self._codes.columns(t, self._finished)):
            if column.size:
                messages[i] = Buffer(DOWN_HEADER, column.size, self._dtype)
                messages[i].header[0] = COEFFICIENTS
                messages[i].body[...] = column.ravel()
        return messages


class MpiPartialLink(MpiLink):
    """A worker's side.

    Parameters
    ----------
    world, d, dtype, wires
        As in `MpiExchange`.
    load
        How many subsets the worker holds.
    """

    def __init__(
        self, world: World, d: int, dtype: Any, wires: Mapping[int, Wire], load: int
    ) -> None:
        super().__init__(world, max(d, max(wires) * load), dtype, wires)
        self._theta = np.empty(d, dtype)

    def receive(self) -> tuple[int, int, AnyArray] | None:
        """Wait for the newest parameters: (iteration, m, theta), or None when the run is over.

        theta is a copy: the server may send something else while it is in use.
        """
        while (request := super().receive()) is not None:
            t, m, body = request
            if t != REQUEST:  # one that crossed a note of silence
                self._theta[...] = body[: self._theta.size]
                return t, m, self._theta
        return None

    def asked(self, seconds: float) -> bool:
        """Sleep so long, or until the server asks for a count or ends the run; says if it did."""
        due = time.perf_counter() + seconds
        self._listen()
        while not (asked := self._test(self._receive)) and (left := due - time.perf_counter()) > 0:
            time.sleep(min(left, IDLE_SLEEP[1]))
        return asked

    def say_finished(self, t: int, finished: int) -> AnyArray | None:
        """Done, or say BYE at the end of the run; return the coefficients (m, finished), if any.

        Anything else that comes, STOP or newer parameters, is left to `receive`.
        """
        self._listen()
        stopped = self._test(self._receive) and self._inbox.header[0] == STOP
        self._outbox.header[:3] = BYE if stopped else FINISHED, t, finished
        self._post(0)
        self._wait()
        while self._inbox.header[0] == REQUEST:
            self._listening = False
            self._wait()
        if self._inbox.header[0] != COEFFICIENTS:
            return None
        self._listening = False
        column: AnyArray = self._inbox.body[: self._m * finished].reshape(self._m, finished)
        return column

    def reply(self, message: Message) -> None:
        """Send the message; its delay has passed."""
        self._post(self._pack(message))
