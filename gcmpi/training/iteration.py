"""The row of an iteration, whose fields are the columns of a run file.

A new column is a field of `Iteration` with its value, nothing else. What workers measure needs
besides: a field of `gcmpi.cluster.messages.Spent`, which the workers fill; and an array of
`gcmpi.cluster.whole.Arrivals` and of `gcmpi.cluster.messages.Replies` to hold it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.cluster.messages import Done, Replies, all_or_none
from gcmpi.codes.code import Code
from gcmpi.training.memory import Recalled
from gcmpi.training.scheme import Scheme
from gcmpi.training.state import State

NOT_AUDITED = 255


class Audit(NamedTuple):
    """What an audit finds; NaN and 255 without one.

    Attributes
    ----------
    loss, accuracy
        Of the parameters after the iteration; the loss of parameters that are no numbers is inf.
    error, full_error
        Relative errors of the gradient against the one over the rows that were used, and against
        the one over all rows.
    check
        1 if the decoded gradient is what the code promises, 0 if not, 255 where nothing is
        promised.
    """

    loss: float = np.nan
    accuracy: float = np.nan
    error: float = np.nan
    full_error: float = np.nan
    check: int = NOT_AUDITED


@dataclass(frozen=True)
class Decoding:
    """How the gradient of an iteration came about.

    Attributes
    ----------
    scheme, code
        The m of the iteration with all that belongs to it, and its code.
    replies
        What the workers sent.
    R : (n, m)
        The decoding matrix.
    decoded : (d,)
        What R makes of the messages, and memory adds.
    recalled
        What memory has added; None without memory, and unless the iteration is audited.
    """

    scheme: Scheme
    code: Code
    replies: Replies
    R: Array
    decoded: AnyArray
    recalled: Recalled | None

    @cached_property
    def divisor(self) -> float:
        """The gradient is `decoded` divided by it."""
        return self.scheme.divisor(self.replies.survivors)

    @cached_property
    def done(self) -> Done:
        """What the workers had finished, as far as they said."""
        return self.replies.done or all_or_none(self.scheme.codes.A, self.replies)


@dataclass(frozen=True)
class Field:
    """One column: a data set of ``/iterations`` in a run file."""

    long_name: str
    units: str = "1"
    dtype: str = "f8"
    by_worker: bool = False
    name: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an iteration came to.

    Attributes
    ----------
    before, after
        Where training stood.
    decoding, audit
        The gradient, and the truth about it.
    seconds
        What decode and update took.
    """

    before: State
    after: State
    decoding: Decoding
    audit: Audit
    seconds: Mapping[str, float]

    @property
    def replies(self) -> Replies:
        """What the workers sent."""
        return self.decoding.replies


def column(
    of: Callable[[Outcome], Any],
    long_name: str,
    units: str = "1",
    dtype: str = "f8",
    *,
    by_worker: bool = False,
    name: str = "",
    **options: Any,
) -> Any:
    """Return a field of `Iteration` that is a column, called like the field unless it has a name.

    Parameters
    ----------
    of
        Its value.
    options
        What `dataclasses.field` takes.
    """
    described = Field(long_name, units, dtype, by_worker, name)
    return dataclasses.field(metadata={"column": (of, described)}, **options)


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One row of a run's record.

    `seconds` is the training time up to the end of the iteration: exchanges, decoding and updates
    without the audits in between. Audited quantities are NaN in iterations without an audit.
    `finished` is how many subsets a worker had finished when the server stopped waiting, as far
    as it said: all or none, unless the code asks for counts. `late` has the answers to earlier
    iterations that came in this one: (iteration, worker, seconds since that iteration's start);
    their column has them in the row of the iteration that they answer.
    """

    iteration: int
    m: int = column(
        lambda x: x.decoding.scheme.m,
        "communication reduction: messages of d/m numbers",
        dtype="i8",
    )
    seconds: float = column(
        lambda x: x.after.seconds,
        "training time up to the end of the iteration, without audits",
        "s",
    )
    loss: float = column(lambda x: x.audit.loss, "mean training loss after the iteration")
    accuracy: float = column(lambda x: x.audit.accuracy, "test accuracy after the iteration")
    gradient_error: float = column(
        lambda x: x.audit.error,
        "relative error of the gradient, ||g_hat - g|| / ||g||, g over the rows that were used",
    )
    full_gradient_error: float = column(
        lambda x: x.audit.full_error,
        "relative error against the gradient over all rows, mini-batch or not",
    )
    approximation_error: float = column(
        lambda x: x.decoding.code.residual(x.decoding.R), "||B R - F||_F^2, between 0 and m k"
    )
    divisor: float = column(
        lambda x: x.decoding.divisor, "what the decoded gradient was divided by (alpha)"
    )
    check: int = column(
        lambda x: x.audit.check,
        "decoded gradient is what the code promises: 1 yes, 0 no, 255 not audited",
        dtype="u1",
    )
    survivors: BoolArray = column(
        lambda x: x.replies.survivors, "answer in time", dtype="u1", by_worker=True
    )
    finished: IntArray = column(
        lambda x: x.decoding.done.finished,
        "subsets finished when waiting ended",
        dtype="i4",
        by_worker=True,
    )
    arrival_seconds: Array = column(
        lambda x: x.replies.arrival_seconds,
        "answer's arrival, from the iteration's start",
        "s",
        by_worker=True,
    )
    late: list[tuple[int, int, float]] = column(
        lambda x: x.replies.late,
        "arrival of an answer that was too late",
        "s",
        by_worker=True,
        name="late_seconds",
        default_factory=list,
    )
    compute_seconds: Array = column(
        lambda x: x.replies.compute_seconds, "worker's gradients", "s", by_worker=True
    )
    encode_seconds: Array = column(
        lambda x: x.replies.encode_seconds, "worker's encoding", "s", by_worker=True
    )
    delay_seconds: Array = column(
        lambda x: x.replies.delay_seconds,
        "worker's delay by the straggler model",
        "s",
        by_worker=True,
    )
    exchange_seconds: float = column(
        lambda x: x.replies.exchange_seconds, "from the first send to the end of waiting", "s"
    )
    decode_seconds: float = column(
        lambda x: x.seconds["decode"], "drawing the code and decoding", "s"
    )
    update_seconds: float = column(lambda x: x.seconds["update"], "optimizer", "s")
    bytes_up: int = column(lambda x: x.replies.bytes_up, "received from workers", "byte", "i8")
    bytes_down: int = column(lambda x: x.replies.bytes_down, "sent to workers", "byte", "i8")
    stale_messages: int = column(
        lambda x: len(x.replies.late), "answers to earlier iterations", dtype="i8"
    )
    warmup: bool = column(lambda x: x.before.warming_up, "left out of timing tables", dtype="u1")

    @classmethod
    def of(cls, outcome: Outcome) -> Iteration:
        """Return the row of an iteration."""
        values = {name: of(outcome) for name, (of, _) in _described().items()}
        return cls(iteration=outcome.before.t, **values)


@functools.cache
def _described() -> dict[str, tuple[Callable[[Outcome], Any], Field]]:
    """Return the value of each column and what it is, by the name of the field."""
    return {
        field.name: field.metadata["column"]
        for field in dataclasses.fields(Iteration)
        if "column" in field.metadata
    }


FIELDS: Mapping[str, Field] = {
    described.name or name: described for name, (_, described) in _described().items()
}
"""The columns by name; the scale `iteration` aside."""
