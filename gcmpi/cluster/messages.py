"""What passes between server and workers, and what a protocol asks of a transport.

A protocol says what is done with notes: `gcmpi.cluster.whole` and `gcmpi.cluster.partial` have the
server's half and the worker's half of one each. A transport carries notes and tells the time:
`gcmpi.cluster.mpi` between ranks, `gcmpi.cluster.virtual` in one process. Between them is a
`Mailbox`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.cluster.waiting import StopRule
from gcmpi.stateful import Arrays

# notes to workers


class Parameters(NamedTuple):
    """Iteration t begins, with codes of this m.

    A worker may read `theta`, shape (d,), until it waits for its next note.
    """

    t: int
    m: int
    theta: AnyArray


class Request(NamedTuple):
    """The server asks how many subsets are finished in iteration t."""

    t: int


class Coefficients(NamedTuple):
    """What the message of the iteration is made with: `column` has shape (m * finished,)."""

    column: AnyArray


class Call(NamedTuple):
    """The server calls between two iterations: it asks something in another way than by notes."""


class End(NamedTuple):
    """The run is over."""


# notes to the server


class Silence(NamedTuple):
    """No answer to iteration t will come: for the transport, not for the server's algorithm."""

    t: int


class Finished(NamedTuple):
    """So many subsets are finished in iteration t; as their order is known, that says which.

    `nbytes` is what the note takes on its way, for the server.
    """

    t: int
    subsets: int
    nbytes: int = 0


class Bye(NamedTuple):
    """What a worker says to the end of a run in place of what it owes."""


class Spent(NamedTuple):
    """The seconds that a worker spent on gradients, encoding and its delay.

    The fields travel in the header of its message, in this order.
    """

    compute: float
    encode: float
    delay: float = 0.0


UNKNOWN = Spent(math.nan, math.nan, math.nan)
"""What was spent on a message that is owed by a run that is resumed."""


@dataclass(frozen=True)
class Message:
    """A worker's answer to one iteration; `y` has shape (ceil(d / m),)."""

    t: int
    m: int
    y: AnyArray
    spent: Spent


class Answer(NamedTuple):
    """A message as it comes to the server.

    Attributes
    ----------
    t, m
        The iteration that it answers, and its m.
    nbytes
        What it takes on its way.
    spent
        What the worker says it spent.
    read
        Writes y into an array (ceil(d / m),); only until the worker gets its next note.
    """

    t: int
    m: int
    nbytes: int
    spent: Spent
    read: Callable[[AnyArray], None]


Note = (
    Parameters | Request | Coefficients | Call | End | Silence | Finished | Bye | Message | Answer
)


class Mailbox(Protocol):
    """What carries notes and tells the time, real or virtual.

    The server knows its workers as 0 to n - 1; a worker knows the server as 0.
    """

    @property
    def now(self) -> float:
        """Seconds of its clock."""
        ...

    def post(self, i: int, note: Note) -> bool:
        """Send a note; False while the last one to i is still on its way: try again later."""
        ...

    def wait(self, seconds: float) -> Iterable[tuple[int, Note]]:
        """Return what has come, with its senders: asleep, or jumping, at most so long for it.

        It may come back earlier with nothing.
        """
        ...


class ServerMailbox(Mailbox, Protocol):
    """The server's, which counts bytes."""

    def size(self, note: Note) -> int:
        """Return how many bytes a note to a worker takes on its way."""
        ...


# what the training loop sees


class Done(NamedTuple):
    """What workers had done when the server stopped waiting, as far as they said.

    Attributes
    ----------
    finished : (n,)
        How many subsets each of them has finished.
    seconds : (n,)
        When each had finished all of its subsets, or would have at its pace; NaN without a count.
    """

    finished: IntArray
    seconds: Array


class Late(NamedTuple):
    """A late answer whose numbers are kept: worker i's to iteration t, with the m of that time."""

    t: int
    m: int
    i: int
    y: AnyArray


@dataclass(frozen=True)
class Replies:
    """What the server has when an iteration ends. Seconds count from the iteration's start.

    Attributes
    ----------
    Y : (n, ceil(d / m))
        The messages of the survivors; other rows may hold anything.
    survivors : (n,) bool
        The workers whose answer to this iteration came in time.
    arrival_seconds : (n,)
        When a survivor's answer came; NaN for the others.
    compute_seconds, encode_seconds, delay_seconds : (n,)
        What survivors say they spent; NaN for the others.
    exchange_seconds
        How long the iteration's exchange took.
    late
        Answers to earlier iterations that came during this exchange: (iteration, worker, seconds
        since that iteration's start). They are counted as stale, and dropped but for `kept`.
    bytes_up, bytes_down
        Bytes received from and sent to workers, headers and stale messages included.
    done
        What the messages are made of, where workers say it: ``codes.at(t, done.finished)``
        is their code.
    kept
        The late answers, where the server is to keep them.
    """

    Y: AnyArray
    survivors: BoolArray
    arrival_seconds: Array
    compute_seconds: Array
    encode_seconds: Array
    delay_seconds: Array
    exchange_seconds: float
    late: list[tuple[int, int, float]]
    bytes_up: int
    bytes_down: int
    done: Done | None = None
    kept: Sequence[Late] = ()


def all_or_none(A: AnyArray, replies: Replies) -> Done:
    """Return what is known of workers that only send whole answers."""
    return Done(A.sum(axis=0, dtype=np.intp) * replies.survivors, replies.arrival_seconds)


class Exchange(Protocol):
    """The server's view of the workers.

    Attributes
    ----------
    state
        What server and workers remember between iterations: who owes which answer and when it is
        due on a virtual clock, and what compression left out. Over MPI the workers are asked.
    """

    state: Arrays

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Send theta and m to every idle worker and collect answers until `rule` says stop."""
        ...


def seconds_needed(counted: Array, finished: IntArray, loads: IntArray) -> Array:
    """Return when workers had finished everything, or would have at the pace of their count.

    Parameters
    ----------
    counted : (n,)
        When the count came; NaN without one.
    finished, loads : (n,)
        How many subsets the worker had finished then, and how many it holds.
    """
    # in the middle of a subset, as far as one knows
    pace: Array = np.where(finished < loads, loads / (finished + 0.5), 1.0)
    return counted * pace
