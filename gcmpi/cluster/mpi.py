"""Server and workers over MPI; the only module that imports mpi4py.

Protocol
--------
* At most one theta is on its way to a worker and at most one result is owed by it. The server
  sends theta to idle workers only, whose previous send has completed: above the eager limit a
  send completes when its receiver is ready, so waiting for a send to a straggler means waiting
  for the straggler.
* The iteration travels inside the message. A late result is recognised by it, counted, dropped,
  and answered at once with the newest theta. So a worker never works through a queue of old
  parameters. No request is ever cancelled: a cancelled receive would get the old data next time.
* Nobody blocks: a blocked rank burns its core in both MPI libraries. Everyone tests its requests
  and sleeps in between, longer when nothing happens.
* A worker that a straggler model keeps silent sends a note of one header instead of a result: it
  is idle again, but has not answered.
* For a checkpoint the server asks idle workers what their compression remembers (SHOW), and gives
  it back when a run is resumed (TAKE); the arrays travel like the parts of the experiment at its
  start. Only compression that remembers something is asked for.
* For an audit that workers make (`gcmpi.CodedLoop`) the server asks them between two iterations,
  under a tag of its own (`World.ask`); who owes a result answers when it is sent.
* At the end the server sends STOP to everyone, busy or not; whoever owes a result answers it
  with BYE, even in the middle of a delay.

The server may change m in every iteration: theta says which, and the buffers of results have room
for the longest. A shorter message may arrive in a longer buffer, and only its bytes travel.

A result is ``[header | y]`` and a theta is ``[header | theta]``, headers being a few float64 seen
as elements of the message's own type, so that the count of MPI elements stays far below 2^31.
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
from gcmpi.cluster.messages import Message, Replies
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.wire import Wire, remembered, restore
from gcmpi.formats import storage
from gcmpi.stateful import NOTHING, Arrays

# libfabric's transport of Open MPI costs a second at start-up and gains nothing on one host
os.environ.setdefault("OMPI_MCA_btl", "^ofi")
mpi4py.rc.thread_level = "single"
from mpi4py import MPI  # noqa: E402

ANSWER, SILENT, BYE = 0.0, 1.0, 2.0
UP_HEADER = 6  # kind, iteration, scale, compute, encode and delay seconds
DOWN_HEADER = 2  # iteration and m; or STOP; or SHOW and the next iteration; or TAKE
STOP, SHOW, TAKE = -1, -10, -11
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


class Arrivals:
    """What an iteration has brought so far; seconds count from its start."""

    def __init__(self, t: int, m: int, n: int, parameters: Buffer) -> None:
        self.t, self.m, self.parameters = t, m, parameters
        self.survivors = np.zeros(n, dtype=bool)
        self.arrival, self.compute, self.encode, self.delay = (np.full(n, np.nan) for _ in range(4))
        self.late: list[tuple[int, int, float]] = []
        self.bytes_up = self.bytes_down = 0
        self.elapsed = 0.0
        self._start = time.perf_counter()

    def tick(self) -> float:
        """Bring `elapsed` up to date and return it."""
        self.elapsed = time.perf_counter() - self._start
        return self.elapsed


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
    """

    def __init__(self, world: World, d: int, dtype: Any, wires: Mapping[int, Wire]) -> None:
        self._world, self._comm = world, world.comm
        self.n = world.size - 1
        self._d, self._dtype = d, np.dtype(dtype)
        self._wires = wires
        self._inbox = [_room(wires) for _ in range(self.n)]
        # zeros take no memory until they are written
        self._Y = {m: np.zeros((self.n, w.length), self._dtype) for m, w in wires.items()}
        receives = [
            self._comm.Recv_init(buffer.elements, source=i + 1, tag=DATA_TAG)
            for i, buffer in enumerate(self._inbox)
        ]
        # requests 0..n-1 receive results, n..2n-1 send theta
        self._requests: list[Any] = [*receives, *([MPI.REQUEST_NULL] * self.n)]
        # a send reads its buffer until it is complete: keep the buffer as long
        self._outbox: list[Buffer | None] = [None] * self.n
        self._owes = np.zeros(self.n, dtype=bool)
        self._served = np.full(self.n, STOP)  # newest iteration sent to each worker
        self._m = np.zeros(self.n, dtype=int)  # and its m
        # seconds spent in exchanges so far, and what it was when each iteration began: late
        # answers are timed without what the server did between exchanges
        self._clock = 0.0
        self._began: dict[int, float] = {}
        self._next = 0  # the iteration that comes next, or is under way
        self._under_way = False
        self._burst = _progress_calls()

    @property
    def state(self) -> Arrays:
        """What compression remembers, here and on the workers that owe no answer, which are asked.

        Of a worker that is busy nothing is known. The memories are those before the next iteration,
        also when it was begun and given up; busy workers then have a few seconds to end it.
        """
        if not self._stateful:
            return NOTHING
        give_up = time.perf_counter() + GRACE
        while self._under_way and self._owes.any() and time.perf_counter() < give_up:
            self._owes[self._completed()] = False
            time.sleep(SERVER_SLEEP[1])
        found = remembered({"server": self._wires})
        for i in map(int, np.flatnonzero(~self._owes)):
            self._tell(i, SHOW, self._next)
            if self._world.awaits(i + 1, GRACE):
                found |= self._world.receive(i + 1)
        return found

    @state.setter
    def state(self, arrays: Arrays) -> None:
        if not self._stateful:
            return
        restore({"server": self._wires}, arrays)
        for i in range(self.n):
            mine = {n: value for n, value in arrays.items() if n.startswith(f"worker{i}_")}
            self._tell(i, TAKE, 0)
            self._comm.send(mine, dest=i + 1, tag=SETUP_TAG)

    @property
    def _stateful(self) -> bool:
        return any(wire.stateful for wire in self._wires.values())

    def _tell(self, i: int, what: int, t: int) -> None:
        """Send an idle worker a header; it is listening, so that this takes no time."""
        note = Buffer(DOWN_HEADER, 0, self._dtype)
        note.header[:] = what, t
        self._comm.Send(note.elements, dest=i + 1, tag=DATA_TAG)

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Send theta and m to every idle worker and collect answers until `rule` says stop."""
        now = self._begin(t, m, theta)
        self._collect(now, self._send_to_idle, lambda: rule.remaining(now.survivors, now.elapsed))
        return self._end(now)

    def _begin(self, t: int, m: int, theta: AnyArray) -> Arrivals:
        """Start an iteration and its clock."""
        parameters = Buffer(DOWN_HEADER, self._d, self._dtype)
        parameters.header[:] = t, m
        parameters.body[...] = theta
        self._began[t] = self._clock
        self._next, self._under_way = t, True
        return Arrivals(t, m, self.n, parameters)

    def _collect(
        self, now: Arrivals, send: Callable[[Arrivals], None], remaining: Callable[[], float]
    ) -> None:
        """Send and receive until no time is `remaining`, or nothing can come."""
        pause = SERVER_SLEEP[0]
        while True:
            while completed := self._completed():
                pause = SERVER_SLEEP[0]
                now.tick()
                for i in completed:
                    self._owes[i] = False
                    self._take(i, now)
            send(now)
            now.tick()
            left = remaining()
            if left <= 0 or (math.isinf(left) and not self._owes.any()):
                return
            time.sleep(min(left, pause))
            pause = min(2 * pause, SERVER_SLEEP[1])

    def _take(self, i: int, now: Arrivals) -> None:
        """Use what worker i has sent, or count it as late."""
        kind, iteration = self._inbox[i].header[0], int(self._inbox[i].header[1])
        if kind == SILENT:
            return
        length = self._wires[int(self._m[i])].elements if kind == ANSWER else 0
        now.bytes_up += self._inbox[i].start(length).nbytes
        if not self._use(i, now):
            since = self._clock + now.elapsed - self._began[iteration]
            now.late.append((iteration, i, since))

    def _use(self, i: int, now: Arrivals) -> bool:
        """Take worker i's answer; False if it is not one to this iteration."""
        header = self._inbox[i].header
        if int(header[1]) != now.t:
            return False
        now.survivors[i] = True
        now.arrival[i] = now.elapsed
        now.compute[i], now.encode[i], now.delay[i] = header[3:6]
        wire = self._wires[now.m]
        body = self._inbox[i].body[: wire.elements]
        wire.unpack(body, header[2], now.t, i, self._Y[now.m][i])
        return True

    def _end(self, now: Arrivals) -> Replies:
        """Stop the clock of an iteration."""
        self._clock += now.elapsed
        self._next, self._under_way = now.t + 1, False
        self._forget(now.t)
        return Replies(
            self._Y[now.m],
            now.survivors,
            now.arrival,
            now.compute,
            now.encode,
            now.delay,
            now.elapsed,
            now.late,
            now.bytes_up,
            now.bytes_down,
        )

    def close(self, grace: float = 30.0) -> bool:
        """Tell the workers that the run is over; returns whether all of them said goodbye.

        Parameters
        ----------
        grace
            Seconds to wait for workers in the middle of a computation.
        """
        stop = Buffer(DOWN_HEADER, 0, self._dtype)
        stop.header[0] = STOP
        sends = [self._comm.Isend(stop.elements, dest=i + 1, tag=DATA_TAG) for i in range(self.n)]
        give_up = time.perf_counter() + grace
        while not (MPI.Request.Testall(sends) and not self._owes.any()):
            self._owes[self._completed()] = False
            if time.perf_counter() > give_up:
                return False
            time.sleep(SERVER_SLEEP[1])
        self.free()
        return True

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
        workers = [index for index in indices if index < self.n]
        for i in workers:
            if math.isnan(self._inbox[i].header[0]):
                raise RuntimeError(f"the connection to worker {i} (rank {i + 1}) is lost")
        return workers

    def _send_to_idle(self, now: Arrivals) -> None:
        """Send theta to the workers that have not had it and owe nothing."""
        for i in map(int, np.flatnonzero(~self._owes & (self._served < now.t))):
            if self._send(i, now.parameters, now):
                self._served[i], self._m[i] = now.t, now.m

    def _send(self, i: int, message: Buffer, now: Arrivals) -> bool:
        """Send to a worker, which then owes something; False if its last message is on the way."""
        if self._outbox[i] is not None:
            return False
        if not self._owes[i]:
            self._inbox[i].header[0] = math.nan  # to tell a message from a broken connection
            self._requests[i].Start()
            self._owes[i] = True
        self._requests[self.n + i] = self._comm.Isend(message.elements, dest=i + 1, tag=DATA_TAG)
        self._outbox[i] = message
        now.bytes_down += message.elements.nbytes
        return True

    def _forget(self, t: int) -> None:
        """Keep the start of those iterations only that are still owed."""
        owed = {*self._served[self._owes].tolist(), t}
        self._began = {s: began for s, began in self._began.items() if s in owed}


def _never() -> bool:
    return False


class MpiLink:
    """A worker's side; the parameters are those of `MpiExchange`."""

    def __init__(self, world: World, d: int, dtype: Any, wires: Mapping[int, Wire]) -> None:
        self._comm = world.comm
        self._inbox = Buffer(DOWN_HEADER, d, dtype)
        self._wires = wires
        self._own_wires = {f"worker{self._comm.rank - 1}": wires}
        self._outbox = _room(wires)
        self._receive = self._comm.Recv_init(self._inbox.elements, source=0, tag=DATA_TAG)
        self._listening = False
        self._m = 0  # of the parameters received last
        # the iteration of the last message, and what its compression remembered before
        self._before: tuple[int, Arrays] = (STOP, NOTHING)
        self._send: Any = MPI.REQUEST_NULL
        self._burst = _progress_calls()

    def receive(self) -> tuple[int, int, AnyArray] | None:
        """Wait for the newest parameters: (iteration, m, theta), or None when the run is over.

        theta is a view of the receive buffer: it is valid until the reply.
        """
        self.called(_never)
        self._listening = False
        t = int(self._inbox.header[0])
        if t == STOP:
            self._receive.Free()
            return None
        self._m = int(self._inbox.header[1])
        return t, self._m, self._inbox.body

    def called(self, asked: Callable[[], bool]) -> bool:
        """Sleep until there is something to `receive`, or `asked`; returns whether it was asked."""
        while self._wait(asked):
            t = int(self._inbox.header[0])
            if t not in (SHOW, TAKE):
                return False
            self._listening = False
            self._show(int(self._inbox.header[1])) if t == SHOW else self._take()
        return True

    def reply(self, message: Message) -> None:
        """Send the message after its delay; a STOP in the meantime turns it into BYE."""
        due = time.perf_counter() + message.delay_seconds
        self._listen()  # nothing but STOP can come before the server has this reply
        length = self._pack(message)
        stopped = self._receive.Test()
        while not stopped and (left := due - time.perf_counter()) > 0:
            time.sleep(min(left, IDLE_SLEEP[1]))
            stopped = self._receive.Test()
        if stopped:
            self._outbox.header[0] = BYE
        self._post(0 if stopped else length)

    def stay_silent(self, t: int) -> None:
        """Tell the transport, not the server's algorithm, that no answer to t will come."""
        self._outbox.header[:2] = SILENT, t
        self._post(0)

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
        wire = self._wires[self._m]
        if wire.stateful:
            self._before = message.t, remembered(self._own_wires)
        body = self._outbox.body[: wire.elements]
        scale = wire.pack(message.y, message.t, self._comm.rank - 1, body)
        self._outbox.header[:] = (
            ANSWER,
            message.t,
            scale,
            message.compute_seconds,
            message.encode_seconds,
            message.delay_seconds,
        )
        return wire.elements

    def _post(self, length: int) -> None:
        self._send = self._comm.Isend(self._outbox.start(length), dest=0, tag=DATA_TAG)

    def _listen(self) -> None:
        if not self._listening:
            self._receive.Start()
            self._listening = True

    def _wait(self, asked: Callable[[], bool] = _never) -> bool:
        """Sleep until a message has come and the last one is sent, or `asked`; False if asked."""
        self._listen()
        pause = IDLE_SLEEP[0]
        while not (self._test(self._receive) and self._test(self._send)):
            if asked():
                return False
            time.sleep(pause)
            pause = min(2 * pause, IDLE_SLEEP[1])
        return True

    def _test(self, request: Any) -> bool:
        return any(request.Test() for _ in range(self._burst))


def _progress_calls() -> int:
    """How often to test at a wake-up.

    MPICH moves about one cell of 8 kB a call when it has to copy through shared memory; an idle
    test of Open MPI yields the processor, so that one is enough.
    """
    return 64 if "MPICH" in MPI.Get_library_version() else 1
