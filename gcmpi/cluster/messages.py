"""What passes between server and workers, and how each of them sees the other.

`gcmpi.cluster` has an `Exchange` and a `Link` over MPI, and the exchange in one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.cluster.waiting import StopRule
from gcmpi.stateful import Arrays


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
        since that iteration's start). They are counted as stale and dropped.
    bytes_up, bytes_down
        Bytes received from and sent to workers, headers and stale messages included.
    done
        What the messages are made of, where workers say it: ``codes.at(t, done.finished)``
        is their code.
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


class Model(Protocol):
    """What a transport needs to know of a model: the size and the type of parameters."""

    @property
    def d(self) -> int: ...  # noqa: D102

    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102


class Answering(Protocol):
    """A worker that a transport in one process calls."""

    @property
    def problem(self) -> Model:
        """The loss."""
        ...

    def answer(self, t: int, m: int, theta: AnyArray) -> Message:
        """Return the message of iteration t, without a delay."""
        ...


class AnsweringInParts(Protocol):
    """A worker that computes one subset gradient after the other."""

    @property
    def problem(self) -> Model:
        """The loss."""
        ...

    @property
    def load(self) -> int:
        """How many subsets the worker holds."""
        ...

    def begin(self, t: int, theta: AnyArray) -> None:
        """Take the parameters of iteration t."""
        ...

    def compute(self, position: int) -> None:
        """Compute the gradient of one subset and keep it."""
        ...

    def encode(self, coefficients: AnyArray) -> AnyArray:
        """Return the message of the first subsets with these coefficients (m, finished)."""
        ...


class Link(Protocol):
    """A worker's view of the server."""

    def receive(self) -> tuple[int, int, AnyArray] | None:
        """Wait for the newest parameters: (iteration, m, theta), or None when the run is over."""
        ...

    def reply(self, message: Message) -> None:
        """Send the message after its delay."""
        ...

    def stay_silent(self, t: int) -> None:
        """Straggle through iteration t: the server gets no answer to it."""
        ...


@dataclass(frozen=True)
class Message:
    """A worker's answer to one iteration; `y` has shape (ceil(d / m),)."""

    t: int
    y: AnyArray
    compute_seconds: float
    encode_seconds: float
    delay_seconds: float = 0.0


def seconds_needed(reported: Array, finished: IntArray, loads: IntArray) -> Array:
    """Return when workers had finished everything, or would have at the pace of their count.

    Parameters
    ----------
    reported : (n,)
        When the count came; NaN without one.
    finished, loads : (n,)
        How many subsets the worker had finished then, and how many it holds.
    """
    # in the middle of a subset, as far as one knows
    pace: Array = np.where(finished < loads, loads / (finished + 0.5), 1.0)
    return reported * pace
