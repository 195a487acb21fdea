"""Notes in one process, on a virtual clock: the protocols of this package, no waiting.

Workers compute for a fixed virtual time, and a note travels in no time: who answers when, and so
the whole training, is exactly reproducible, and a run over many minutes of delays takes seconds.
What is due at the same time comes in random order. Decoding and updates take real seconds.

The clock moves the worker's half of a protocol (`gcmpi.cluster.whole.Half`) from event to event.
The numbers of a message are computed when the server reads them: of a late one never, unless it is
kept. So what is on its way when an iteration ends is a few numbers a worker, and the parameters of
late answers that are kept; they are part of the exchange's state, and a run that is resumed has it
arrive when it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.messages import (
    Answer,
    Coefficients,
    Message,
    Note,
    Parameters,
    Replies,
    Spent,
)
from gcmpi.cluster.partial import PartialWorker
from gcmpi.cluster.stragglers import StragglerModel, Unit
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.whole import Half, MakeServer, WholeServer, WholeWorker
from gcmpi.cluster.wire import Wire, remembered, restore
from gcmpi.formats import storage
from gcmpi.stateful import Arrays, need

UNREAD: AnyArray = np.zeros(0)
"""In place of numbers that nobody has read yet."""


class VirtualWorker(NamedTuple):
    """A worker on the virtual clock.

    Attributes
    ----------
    half
        What it does when, with messages without numbers.
    numbers
        Returns the coded vector of one of its messages, of the message and theta.
    """

    half: Half
    numbers: Callable[[Message, AnyArray], AnyArray]


def whole_worker(
    i: int,
    answer: Callable[[int, int, AnyArray], Message],
    stragglers: StragglerModel,
    compute_seconds: float,
) -> VirtualWorker:
    """Return worker i, which sends whole answers.

    Parameters
    ----------
    answer
        Returns its message, of (t, m, theta).
    compute_seconds
        How long it computes.
    """
    half = _Computing(i, stragglers, compute_seconds)
    return VirtualWorker(half, lambda message, theta: answer(message.t, message.m, theta).y)


class _Computing(WholeWorker):
    """The half of a worker that computes for a fixed time."""

    def __init__(self, i: int, stragglers: StragglerModel, seconds: float) -> None:
        super().__init__(i, stragglers)
        self._seconds = seconds

    def take(self, note: Note, now: float) -> None:
        """Take a note; answer parameters after the computation and the delay."""
        wanted = super().take(note, now)
        if isinstance(wanted, Parameters):
            message = Message(wanted.t, wanted.m, UNREAD, Spent(self._seconds, 0.0))
            self.computed(message, now + self._seconds)


def partial_worker(
    i: int,
    load: int,
    message: Callable[[int, AnyArray, AnyArray], AnyArray],
    stragglers: StragglerModel,
    compute_seconds: float,
) -> VirtualWorker:
    """Return worker i, which computes one subset gradient after the other.

    Parameters
    ----------
    load
        How many subsets it holds.
    message
        Returns its coded vector, of (t, theta, coefficients).
    compute_seconds
        How long it computes all of its subsets.
    """
    hands = _Hands(load, compute_seconds)
    half = PartialWorker(i, stragglers, hands)
    return VirtualWorker(half, lambda sent, theta: message(sent.t, theta, hands.coefficients))


class _Hands:
    """Computations that take their time, and happen when a message is read."""

    def __init__(self, load: int, seconds: float) -> None:
        self.load, self._seconds, self.coefficients = load, seconds, UNREAD

    def begin(self, parameters: Parameters) -> None:
        """Do nothing."""

    def compute(self, position: int) -> float:
        """Return how long a subset takes."""
        return self._seconds / self.load

    def encode(self, coefficients: AnyArray) -> tuple[AnyArray, float]:
        """Keep the coefficients, in no time."""
        self.coefficients = coefficients
        return UNREAD, 0.0


class VirtualMailbox:
    """The server's mailbox, with all workers behind it.

    Parameters
    ----------
    workers
        Worker 0 to n - 1.
    wires
        How their coded vectors travel, by m, one each: a wire may remember what it left out.

    Attributes
    ----------
    thetas
        The parameters of each iteration whose messages may still be read.
    """

    def __init__(
        self, workers: Sequence[VirtualWorker], wires: Sequence[Mapping[int, Wire]]
    ) -> None:
        self.now = 0.0
        self._wires, self._numbers = wires, [worker.numbers for worker in workers]
        self._halves = [worker.half for worker in workers]
        self._sent = {m: np.zeros(w.elements, storage(w.dtype)) for m, w in wires[0].items()}
        self._due = np.full(len(workers), math.inf)
        self._order = np.arange(len(workers))
        self.thetas: dict[int, AnyArray] = {}

    def begin(self, t: int) -> None:
        """Draw the order in which notes of iteration t come that are due at the same time."""
        self._order = np.random.default_rng(t).permutation(len(self._halves))

    def post(self, i: int, note: Note) -> bool:
        """Give worker i a note at once."""
        if isinstance(note, Parameters):
            self.thetas[note.t] = note.theta
        self._halves[i].take(note, self.now)
        self._due[i] = self._halves[i].due
        return True

    def wait(self, seconds: float) -> list[tuple[int, Note]]:
        """Jump to what is due next, or so long if nothing is due by then; in no time nothing is."""
        if seconds <= 0:
            return []
        i = int(self._order[self._due[self._order].argmin()])
        due = float(self._due[i])
        if math.isinf(due) and math.isinf(seconds):
            raise RuntimeError("the server waits for a note that nobody owes")
        if due > self.now + seconds:
            self.now += seconds
            return []
        self.now = max(self.now, due)
        note = self._halves[i].wake(self.now)
        self._due[i] = self._halves[i].due
        if note is None:
            return []
        return [(i, self._arrived(i, note) if isinstance(note, Message) else note)]

    def size(self, note: Note) -> int:
        """Return how many bytes a note to a worker takes; headers take none."""
        if isinstance(note, Parameters):
            return note.theta.nbytes
        return note.column.nbytes if isinstance(note, Coefficients) else 0

    @property
    def kept(self) -> dict[str, AnyArray]:
        """The clock, and what each worker remembers from event to event."""
        found = [half.kept for half in self._halves]
        return {
            "now": np.array(self.now),
            **{name: np.array([kept[name] for kept in found]) for name in found[0]},
        }

    def restore(self, arrays: Arrays) -> None:
        """Go on with what was `kept`."""
        names = tuple(self._halves[0].kept)
        need(arrays, ("now", *names), "the exchange on a virtual clock")
        self.now = float(arrays["now"])
        for i, half in enumerate(self._halves):
            half.restore({name: arrays[name][i].item() for name in names})
            self._due[i] = half.due

    def _arrived(self, i: int, message: Message) -> Answer:
        """Return a message as the server sees it."""
        nbytes = self._sent[message.m].nbytes

        def read(out: AnyArray) -> None:
            wire, sent = self._wires[i][message.m], self._sent[message.m]
            y = self._numbers[i](message, self.thetas[message.t])
            scale = wire.pack(y, message.t, i, sent)
            wire.unpack(sent, scale, message.t, i, out)

        return Answer(message.t, message.m, nbytes, message.spent, read)


class SimulatedExchange:
    """The server's side and all workers.

    Parameters
    ----------
    workers
        Worker 0 to n - 1.
    wires
        How their coded vectors travel, by m, one each.
    dtype
        The type of the parameters.
    server
        Makes the server's half of the protocol.
    """

    def __init__(
        self,
        workers: Sequence[VirtualWorker],
        wires: Sequence[Mapping[int, Wire]],
        dtype: Any,
        server: MakeServer = WholeServer,
    ) -> None:
        self._mailbox = VirtualMailbox(workers, wires)
        self._server = server(self._mailbox, len(workers), wires[0], dtype)
        self._by_owner = {f"worker{i}": by_m for i, by_m in enumerate(wires)}

    @property
    def state(self) -> Arrays:
        """The virtual clock, what each worker owes, and what compression left out."""
        owes, began = self._server.debts
        mine = {"owes": owes, "began": began}
        if self._server.keep_late:
            thetas = self._mailbox.thetas
            mine |= {"thetas_of": np.array(list(thetas), np.int64)}
            mine |= {"thetas": np.array(list(thetas.values()))}
        return {**self._mailbox.kept, **mine, **remembered(self._by_owner)}

    @state.setter
    def state(self, arrays: Arrays) -> None:
        need(arrays, ("owes", "began"), "the exchange on a virtual clock")
        self._mailbox.restore(arrays)
        self._server.debts = arrays["owes"], arrays["began"]
        self._mailbox.thetas.clear()
        if self._server.keep_late:
            need(arrays, ("thetas_of", "thetas"), "the exchange on a virtual clock")
            of = map(int, arrays["thetas_of"])
            self._mailbox.thetas.update(zip(of, arrays["thetas"], strict=True))
        restore(self._by_owner, arrays)

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Do one iteration; the contract of `gcmpi.cluster.mpi.MpiExchange.exchange`.

        An iteration that is given up leaves no trace: it may be done again.
        """
        before = self.state
        try:
            self._mailbox.begin(t)
            replies = self._server.exchange(t, m, theta, rule)
        except BaseException:
            self.state = before
            raise
        self._forget(t)
        return replies

    def _forget(self, now: int) -> None:
        """Forget parameters that no message will be computed with; copy those of now if kept."""
        thetas = self._mailbox.thetas
        owed = set(self._server.debts[0].tolist()) if self._server.keep_late else set()
        for t in thetas.keys() - owed:
            del thetas[t]
        if now in thetas:  # the caller may change its own
            thetas[now] = thetas[now].copy()


class LastDelays:
    """A straggler model that is asked by one worker after the other: it computes each row once."""

    def __init__(self, model: StragglerModel) -> None:
        self._model, self._t, self._row = model, -1, np.zeros(0)
        self.unit: Unit = model.unit
        self.odds: Array | None = model.odds

    def delays(self, t: int) -> Array:
        """Return the delays of iteration t, shape (n,)."""
        if t != self._t:
            self._t, self._row = t, self._model.delays(t)
        return self._row
