"""Server and workers over MPI; the only module that imports mpi4py.

It carries notes and tells the time; what notes are for is in `gcmpi.cluster.whole` and
`gcmpi.cluster.partial`.

* A send is tried only when the last one to that worker has completed: above the eager limit a
  send completes when its receiver is ready, so waiting for a send to a straggler means waiting
  for the straggler. No request is ever cancelled: a cancelled receive would get the old data next
  time. One persistent receive a worker, started when the worker comes to owe something.
* Nobody blocks: a blocked rank burns its core in both MPI libraries. Everyone tests its requests
  and sleeps in between, longer when nothing happens.
* For a checkpoint the server asks idle workers what their compression remembers (SHOW), and gives
  it back when a run is resumed (TAKE); the arrays travel like the parts of the experiment at its
  start. Only compression that remembers something is asked for.
* For an audit that workers make (`gcmpi.CodedLoop`) the server asks them between two iterations,
  under a tag of its own (`World.ask`); who owes a result answers when it is sent.
* At the end the server sends STOP to everyone, busy or not.

Buffers of results have room for the longest. A shorter message may arrive in a longer buffer, and
only its bytes travel. A note is ``[header | body]``: the header is a few float64 seen as elements
of the body's type, so that the count of MPI elements stays far below 2^31.
"""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import mpi4py
import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.cluster.messages import (
    Answer,
    Bye,
    Call,
    Coefficients,
    End,
    Finished,
    Message,
    Note,
    Parameters,
    Replies,
    Request,
    Silence,
    Spent,
)
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.whole import MakeServer, WholeServer
from gcmpi.cluster.wire import Wire, remembered, restore
from gcmpi.formats import storage
from gcmpi.stateful import NOTHING, Arrays

# libfabric's transport of Open MPI costs a second at start-up and gains nothing on one host
os.environ.setdefault("OMPI_MCA_btl", "^ofi")
mpi4py.rc.thread_level = "single"
from mpi4py import MPI  # noqa: E402

UP_HEADER = 3 + len(Spent._fields)  # m or a kind, iteration, scale or count; what was spent
UP_BYTES = 8 * UP_HEADER
DOWN_HEADER = 2  # iteration and m; or a kind and what it needs
SILENT, BYE, FINISHED = 0, -1, -2
"""Kinds of notes to the server, in place of the m of an answer."""
STOP, REQUEST, COEFFICIENTS, SHOW, TAKE = -1, -2, -3, -10, -11
"""Kinds of notes to a worker, in place of the iteration of parameters."""
GRACE = 5.0
"""Seconds to wait for workers in the middle of a computation when an iteration is given up."""
DATA_TAG, SETUP_TAG, QUESTION_TAG, HOST_TAG = 7, 8, 9, 10

ABORT_PATIENCE = 0.3
"""Seconds before all ranks are ended: MPICH's launcher may lose what a rank has just said."""
IDLE_SLEEP = (50e-6, 2e-3)  # a worker: seconds between two tests, first and at most
SERVER_SLEEP = (50e-6, 500e-6)


class World:
    """All ranks: rank 0 is the server, rank i + 1 is worker i."""

    def __init__(self) -> None:
        self.comm = MPI.COMM_WORLD
        self.rank = self.comm.rank
        self.size = self.comm.size
        self._burst = _progress_calls()
        if self.rank:
            self.comm.send(MPI.Get_processor_name(), dest=0, tag=HOST_TAG)

    @cached_property
    def hosts(self) -> list[str]:
        """The host of each rank, as MPI calls it; for rank 0, which waits for all ranks."""
        told = (self.comm.recv(source=rank, tag=HOST_TAG) for rank in range(1, self.size))
        return [MPI.Get_processor_name(), *told]

    @property
    def library(self) -> str:
        """The MPI library and its version."""
        first = MPI.Get_library_version().strip("\0\n ").splitlines()[0]
        return " ".join(first.partition(",")[0].replace("Version:", "").split())

    def hand_out(self, values: Iterable[object]) -> None:
        """Send the next value to each worker in turn; only one of them is in memory at a time."""
        for worker, value in enumerate(values):
            self.comm.send(value, dest=worker + 1, tag=SETUP_TAG)

    def send_up(self, value: object) -> None:
        """Send a value to the server."""
        self.comm.send(value, dest=0, tag=SETUP_TAG)

    def receive(self, source: int = 0) -> Any:
        """Return what `hand_out` or `send_up` sends to this rank, asleep until it is there.

        A collective would have every rank that waits burn a core that the others still need.
        """
        while not self.comm.Iprobe(source=source, tag=SETUP_TAG):
            time.sleep(IDLE_SLEEP[1])
        return self.comm.recv(source=source, tag=SETUP_TAG)

    def awaits(self, source: int, seconds: float) -> bool:
        """Return whether something for `receive` comes from a rank, asleep for so long at most."""
        give_up = time.perf_counter() + seconds
        while not (there := self.comm.Iprobe(source=source, tag=SETUP_TAG)):
            if time.perf_counter() > give_up:
                break
            time.sleep(SERVER_SLEEP[1])
        return bool(there)

    def ask(self, questions: Mapping[int, object]) -> Iterator[tuple[int, Any]]:
        """Ask workers between two exchanges; yields (worker, answer), asleep until it is there.

        A worker answers when it has sent what it owes: see `MpiLink.called`.
        """
        sends = [self._post(question, i + 1) for i, question in questions.items()]
        for i in questions:
            there = partial(self.comm.Iprobe, source=i + 1, tag=QUESTION_TAG)
            while not self._moves(there):
                time.sleep(IDLE_SLEEP[1])
            yield i, self.comm.recv(source=i + 1, tag=QUESTION_TAG)
        MPI.Request.waitall(sends)  # an answer has come to each

    def asked(self) -> bool:
        """Say whether the server asks this worker something."""
        return bool(self.comm.Iprobe(source=0, tag=QUESTION_TAG))

    def question(self) -> Any:
        """Return what the server asks."""
        return self.comm.recv(source=0, tag=QUESTION_TAG)

    def answer(self, value: object) -> None:
        """Answer the server's question, asleep until it takes the answer."""
        send = self._post(value, 0)
        while not self._moves(lambda: send.test()[0]):
            time.sleep(IDLE_SLEEP[1])

    def _post(self, value: object, rank: int) -> Any:
        return self.comm.isend(value, dest=rank, tag=QUESTION_TAG)

    def _moves(self, test: Callable[[], bool]) -> bool:
        """Test as often as it takes to move what is under way."""
        return any(test() for _ in range(self._burst))

    def abort(self, code: int) -> None:
        """End all ranks with an exit code, whatever they are doing."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(ABORT_PATIENCE)
        self.comm.Abort(code)

    def abort_on(self, error: BaseException) -> None:
        """Print the traceback of this rank's error and end the job.

        An exception that ended one rank only would leave the others waiting for ever.
        """
        told = traceback.format_exception(error)
        last = f"gcmpi: rank {self.rank} failed, ending all ranks: {told[-1]}"
        print("".join(told) + last, end="", file=sys.stderr)
        self.abort(1)


class Buffer:
    """A message: a header of float64 in front of a body, in elements of the body's type.

    It travels as unsigned integers of that size: MPI has no float16, and bits are to arrive as
    they are.
    """

    def __init__(self, header: int, length: int, dtype: Any) -> None:
        dtype = np.dtype(dtype)
        self.offset = header * 8 // dtype.itemsize
        # float64 memory, so that the header is aligned
        memory = np.zeros(header + -(-length * dtype.itemsize // 8))
        self.header = memory[:header]
        elements = memory.view(f"u{dtype.itemsize}")[: self.offset + length]
        self.elements = elements
        self.body = elements.view(dtype)[self.offset :]

    def start(self, length: int) -> AnyArray:
        """Return the elements of the header and of the first numbers of the body."""
        return self.elements[: self.offset + length]


def _room(wires: Mapping[int, Wire]) -> Buffer:
    """Return a buffer for the longest of the messages up."""
    longest = max(wires.values(), key=lambda wire: wire.elements)
    return Buffer(UP_HEADER, longest.elements, storage(longest.dtype))


class MpiMailbox:
    """The server's mailbox.

    Parameters
    ----------
    world
        Rank 0 and n workers.
    dtype
        The type of the parameters.
    wires
        How coded vectors travel, by m.
    """

    def __init__(self, world: World, dtype: Any, wires: Mapping[int, Wire]) -> None:
        self._comm, self._dtype, self._wires = world.comm, np.dtype(dtype), wires
        self.n = world.size - 1
        self._inbox = [_room(wires) for _ in range(self.n)]
        receives = [
            self._comm.Recv_init(buffer.elements, source=i + 1, tag=DATA_TAG)
            for i, buffer in enumerate(self._inbox)
        ]
        # requests 0..n-1 receive results, n..2n-1 send theta
        self._requests: list[Any] = [*receives, *([MPI.REQUEST_NULL] * self.n)]
        # a send reads its buffer until it is complete: keep the buffer as long
        self._outbox: list[Buffer | None] = [None] * self.n
        self._expects = [False] * self.n
        # the last note as it travels: one that goes to many workers is laid out once
        self._nothing: tuple[Note, Buffer] = (End(), self._header(STOP, 0))
        self._last: tuple[Note, Buffer] = self._nothing
        self._pause = SERVER_SLEEP[0]
        self._burst = _progress_calls()

    @property
    def now(self) -> float:
        """Seconds of this rank's clock."""
        return time.perf_counter()

    def post(self, i: int, note: Note) -> bool:
        """Send a note to worker i; False while the last one is on its way."""
        if self._outbox[i] is not None:
            return False
        buffer = self._laid_out(note)
        if not self._expects[i]:
            self._inbox[i].header[0] = math.nan  # to tell a message from a broken connection
            self._requests[i].Start()
            self._expects[i] = True
        self._requests[self.n + i] = self._comm.Isend(buffer.elements, dest=i + 1, tag=DATA_TAG)
        self._outbox[i] = buffer
        return True

    def wait(self, seconds: float) -> Iterator[tuple[int, Note]]:
        """Sleep for a moment, so long at most, and yield what has come by then."""
        if seconds > 0:
            time.sleep(min(seconds, self._pause))
            self._pause = min(2 * self._pause, SERVER_SLEEP[1])
        while completed := self._completed():
            self._pause = SERVER_SLEEP[0]
            for i in completed:
                yield i, self._open(i)

    def size(self, note: Note) -> int:
        """Return how many bytes a note to a worker takes, its header included."""
        return self._laid_out(note).elements.nbytes

    def tell(self, i: int, what: int, t: int = 0) -> None:
        """Send an idle worker a header; it is listening, so that this takes no time."""
        note = self._header(what, t)
        self._comm.Send(note.elements, dest=i + 1, tag=DATA_TAG)

    def stop(self) -> list[Any]:
        """Send STOP to everyone, busy or not; returns the requests."""
        stop = self._nothing[1].elements
        return [self._comm.Isend(stop, dest=i + 1, tag=DATA_TAG) for i in range(self.n)]

    def free(self) -> None:
        """Give the receives back to MPI; nothing is on its way."""
        for receive in self._requests[: self.n]:
            receive.Free()

    def _completed(self) -> list[int]:
        """Return the workers whose result has arrived since the last call."""
        for _ in range(self._burst - 1):
            self._comm.Iprobe(source=0, tag=DATA_TAG)  # finds nothing, but moves what is under way
        indices = MPI.Request.Testsome(self._requests) or []
        for index in indices:
            if index >= self.n:
                self._outbox[index - self.n] = None
        return [index for index in indices if index < self.n]

    def _open(self, i: int) -> Note:
        """Return the note that has come from worker i."""
        self._expects[i] = False
        buffer = self._inbox[i]
        kind, t, scale, *spent = buffer.header.tolist()
        if kind > 0:
            t, m = int(t), int(kind)
            wire = self._wires[m]
            body = buffer.body[: wire.elements]
            read = partial(wire.unpack, body, scale, t, i)
            return Answer(t, m, UP_BYTES + body.nbytes, Spent(*spent), read)
        if math.isnan(kind):
            raise RuntimeError(f"the connection to worker {i} (rank {i + 1}) is lost")
        if kind == FINISHED:
            return Finished(int(t), int(scale), UP_BYTES)
        return Silence(int(t)) if kind == SILENT else Bye()

    def _laid_out(self, note: Note) -> Buffer:
        """Return a note as it travels, a snapshot; made anew only if it is not the last one."""
        if note is not self._last[0]:
            self._last = self._nothing  # let go of it before there is another
            self._last = note, self._lay_out(note)
        return self._last[1]

    def _lay_out(self, note: Note) -> Buffer:
        if isinstance(note, Parameters):
            return self._header(note.t, note.m, note.theta)
        if isinstance(note, Coefficients):
            return self._header(COEFFICIENTS, note.column.size, note.column)
        if isinstance(note, Request):
            return self._header(REQUEST, note.t)
        raise TypeError(f"a server does not send {type(note).__name__}")

    def _header(self, kind: int, number: int, body: AnyArray | None = None) -> Buffer:
        buffer = Buffer(DOWN_HEADER, 0 if body is None else body.size, self._dtype)
        buffer.header[:] = kind, number
        if body is not None:
            buffer.body[...] = body
        return buffer


class MpiExchange:
    """The server's side.

    Parameters
    ----------
    world
        Rank 0 and n workers.
    d, dtype
        Number and type of the parameters.
    wires
        How coded vectors travel, by m.
    server
        Makes the server's half of the protocol.
    """

    def __init__(
        self,
        world: World,
        d: int,
        dtype: Any,
        wires: Mapping[int, Wire],
        server: MakeServer = WholeServer,
    ) -> None:
        self._world, self._wires = world, wires
        self._mailbox = MpiMailbox(world, dtype, wires)
        self._server = server(self._mailbox, self._mailbox.n, wires, np.dtype(dtype))

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Send theta and m to every idle worker and collect answers until `rule` says stop."""
        return self._server.exchange(t, m, theta, rule)

    @property
    def state(self) -> Arrays:
        """What compression remembers, here and on the workers that owe no answer, which are asked.

        Of a worker that is busy nothing is known. The memories are those before the next iteration,
        also when it was begun and given up; busy workers then have a few seconds to end it.
        """
        if not self._stateful:
            return NOTHING
        if self._server.under_way:
            self._server.settle(GRACE)
        found = remembered({"server": self._wires})
        for i in map(int, np.flatnonzero(~self._server.owes)):
            self._mailbox.tell(i, SHOW, self._server.next)
            if self._world.awaits(i + 1, GRACE):
                found |= self._world.receive(i + 1)
        return found

    @state.setter
    def state(self, arrays: Arrays) -> None:
        if not self._stateful:
            return
        restore({"server": self._wires}, arrays)
        for i in range(self._mailbox.n):
            mine = {n: value for n, value in arrays.items() if n.startswith(f"worker{i}_")}
            self._mailbox.tell(i, TAKE)
            self._world.comm.send(mine, dest=i + 1, tag=SETUP_TAG)

    @property
    def _stateful(self) -> bool:
        return any(wire.stateful for wire in self._wires.values())

    def close(self, grace: float = 30.0) -> bool:
        """Tell the workers that the run is over; returns whether all of them said goodbye.

        Parameters
        ----------
        grace
            Seconds to wait for workers in the middle of a computation.
        """
        sends = self._mailbox.stop()
        give_up = time.perf_counter() + grace
        while not (MPI.Request.Testall(sends) and not self._server.owes.any()):
            if time.perf_counter() > give_up:
                return False
            time.sleep(SERVER_SLEEP[1])
            self._server.settle(SERVER_SLEEP[1])
        self.free()
        return True

    def free(self) -> None:
        """Give the receives back to MPI; nothing is on its way."""
        self._mailbox.free()


def _never() -> bool:
    return False


class MpiLink:
    """A worker's mailbox.

    Parameters
    ----------
    world, d, dtype, wires
        As in `MpiExchange`.
    room
        How many numbers a note to the worker may have, if they may be more than d.
    asked
        Says whether the server asks something under another tag, as `World.asked` does: that is a
        `Call`.
    """

    def __init__(
        self,
        world: World,
        d: int,
        dtype: Any,
        wires: Mapping[int, Wire],
        room: int = 0,
        asked: Callable[[], bool] = _never,
    ) -> None:
        self._comm, self._d, self._asked = world.comm, d, asked
        self._inbox = Buffer(DOWN_HEADER, max(d, room), dtype)
        self._wires = wires
        self._own_wires = {f"worker{self._comm.rank - 1}": wires}
        self._outbox = _room(wires)
        self._receive = self._comm.Recv_init(self._inbox.elements, source=0, tag=DATA_TAG)
        self._listening = False
        # the iteration of the last message, and what its compression remembered before
        self._before: tuple[int, Arrays] = (STOP, NOTHING)
        self._send: Any = MPI.REQUEST_NULL
        self._burst = _progress_calls()

    @property
    def now(self) -> float:
        """Seconds of this rank's clock."""
        return time.perf_counter()

    def post(self, i: int, note: Note) -> bool:
        """Send the server a note: the last one has been sent when a note of the server has come."""
        length = 0
        if isinstance(note, Message):
            length = self._pack(note)
        elif isinstance(note, Finished):
            self._outbox.header[:3] = FINISHED, note.t, note.subsets
        elif isinstance(note, Silence):
            self._outbox.header[:2] = SILENT, note.t
        elif isinstance(note, Bye):
            self._outbox.header[0] = BYE
        else:
            raise TypeError(f"a worker does not send {type(note).__name__}")
        self._send = self._comm.Isend(self._outbox.start(length), dest=0, tag=DATA_TAG)
        return True

    def wait(self, seconds: float) -> list[tuple[int, Note]]:
        """Return what comes from the server, asleep so long at most.

        Its arrays are views of the receive buffer: they are valid until the next call.
        """
        if not self._listening:
            self._receive.Start()
            self._listening = True
        if seconds <= 0 and not self._receive.Test():
            return []
        forever = seconds == math.inf
        give_up = math.inf if forever else self.now + seconds
        pause = IDLE_SLEEP[0]
        while True:
            if self._test(self._receive) and self._test(self._send):
                self._listening = False
                if (note := self._open()) is not None:
                    return [(0, note)]
                return self.wait(seconds)
            if forever and self._asked():
                return [(0, Call())]
            if not forever and (left := give_up - self.now) < pause:
                if left <= 0:
                    return []
                pause = left
            time.sleep(pause)
            pause = min(2 * pause, IDLE_SLEEP[1])

    def close(self) -> None:
        """Wait until the last note is sent, after the end of the run."""
        while not self._test(self._send):
            time.sleep(IDLE_SLEEP[1])
        self._receive.Free()

    def _open(self) -> Note | None:
        """Return the note that has come; None if it was for this link alone."""
        kind, number = self._inbox.header.tolist()
        if kind >= 0:
            return Parameters(int(kind), int(number), self._inbox.body[: self._d])
        number = int(number)
        if kind == COEFFICIENTS:
            return Coefficients(self._inbox.body[:number])
        if kind in (SHOW, TAKE):
            self._show(number) if kind == SHOW else self._take()
            return None
        return End() if kind == STOP else Request(number)

    def _show(self, t: int) -> None:
        """Send what compression remembered before iteration t."""
        packed, before = self._before
        state = before if packed == t else remembered(self._own_wires)
        self._comm.send(state, dest=0, tag=SETUP_TAG)

    def _take(self) -> None:
        """Go on with what compression remembered when the run was stopped."""
        restore(self._own_wires, self._comm.recv(source=0, tag=SETUP_TAG))

    def _pack(self, message: Message) -> int:
        """Write an answer into the send buffer; returns the length of its body."""
        wire = self._wires[message.m]
        if wire.stateful:
            self._before = message.t, remembered(self._own_wires)
        body = self._outbox.body[: wire.elements]
        scale = wire.pack(message.y, message.t, self._comm.rank - 1, body)
        self._outbox.header[:] = (message.m, message.t, scale, *message.spent)
        return wire.elements

    def _test(self, request: Any) -> bool:
        return any(request.Test() for _ in range(self._burst))


def _progress_calls() -> int:
    """How often to test at a wake-up.

    MPICH moves about one cell of 8 kB a call when it has to copy through shared memory; an idle
    test of Open MPI yields the processor, so that one is enough.
    """
    return 64 if "MPICH" in MPI.Get_library_version() else 1
