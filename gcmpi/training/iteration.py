"""The row of an iteration, whose fields are the columns of a run file.

A new column is a field of `Iteration` and its value in `Iteration.of`, nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.codes.code import Code
from gcmpi.training.messages import Replies, Report, all_or_none
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
        What R makes of the messages.
    divisor
        The gradient is `decoded` divided by it.
    """

    scheme: Scheme
    code: Code
    replies: Replies
    R: Array
    decoded: AnyArray
    divisor: float

    @cached_property
    def report(self) -> Report:
        """What the workers had finished, as far as they said."""
        return self.replies.report or all_or_none(self.scheme.codes.A, self.replies)


@dataclass(frozen=True)
class Field:
    """One column: a data set of ``/iterations`` in a run file."""

    long_name: str
    units: str = "1"
    dtype: str = "f8"
    by_worker: bool = False
    name: str = ""


def column(
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
    options
        What `dataclasses.field` takes.
    """
    described = Field(long_name, units, dtype, by_worker, name)
    return dataclasses.field(metadata={"column": described}, **options)


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One row of a run's record.

    `seconds` is the training time up to the end of the iteration: exchanges, decoding and updates
    without the audits in between. Audited quantities are NaN in iterations without an audit.
    `finished` is how many subsets a worker had finished when the server stopped waiting, as far
    as it said: all or none, unless the code asks for reports. `late` has the answers to earlier
    iterations that came in this one: (iteration, worker, seconds since that iteration's start);
    their column has them in the row of the iteration that they answer.
    """

    iteration: int
    m: int = column("communication reduction: messages of d/m numbers", dtype="i8")
    seconds: float = column("training time up to the end of the iteration, without audits", "s")
    loss: float = column("mean training loss after the iteration")
    accuracy: float = column("test accuracy after the iteration")
    gradient_error: float = column(
        "relative error of the gradient, ||g_hat - g|| / ||g||, g over the rows that were used"
    )
    full_gradient_error: float = column(
        "relative error against the gradient over all rows, mini-batch or not"
    )
    approximation_error: float = column("||B R - F||_F^2, between 0 and m k")
    divisor: float = column("what the decoded gradient was divided by (alpha)")
    check: int = column(
        "decoded gradient is what the code promises: 1 yes, 0 no, 255 not audited", dtype="u1"
    )
    survivors: BoolArray = column("answer in time", dtype="u1", by_worker=True)
    finished: IntArray = column("subsets finished when waiting ended", dtype="i4", by_worker=True)
    arrival_seconds: Array = column(
        "answer's arrival, from the iteration's start", "s", by_worker=True
    )
    late: list[tuple[int, int, float]] = column(
        "arrival of an answer that was too late",
        "s",
        by_worker=True,
        name="late_seconds",
        default_factory=list,
    )
    compute_seconds: Array = column("worker's gradients", "s", by_worker=True)
    encode_seconds: Array = column("worker's encoding", "s", by_worker=True)
    delay_seconds: Array = column("worker's delay by the straggler model", "s", by_worker=True)
    exchange_seconds: float = column("from the first send to the end of waiting", "s")
    decode_seconds: float = column("drawing the code and decoding", "s")
    update_seconds: float = column("optimizer", "s")
    bytes_up: int = column("received from workers", "byte", "i8")
    bytes_down: int = column("sent to workers", "byte", "i8")
    stale_messages: int = column("answers to earlier iterations, dropped", dtype="i8")
    warmup: bool = column("left out of timing tables", dtype="u1")

    @classmethod
    def of(
        cls,
        before: State,
        after: State,
        decoding: Decoding,
        audit: Audit,
        seconds: Mapping[str, float],
    ) -> Iteration:
        """Return the row of the iteration between two states.

        Parameters
        ----------
        seconds
            What decode and update took.
        """
        replies = decoding.replies
        return cls(
            iteration=before.t,
            m=decoding.scheme.m,
            seconds=after.seconds,
            loss=audit.loss,
            accuracy=audit.accuracy,
            gradient_error=audit.error,
            full_gradient_error=audit.full_error,
            approximation_error=decoding.code.residual(decoding.R),
            divisor=decoding.divisor,
            check=audit.check,
            survivors=replies.survivors,
            finished=decoding.report.finished,
            arrival_seconds=replies.arrival_seconds,
            late=replies.late,
            compute_seconds=replies.compute_seconds,
            encode_seconds=replies.encode_seconds,
            delay_seconds=replies.delay_seconds,
            exchange_seconds=replies.exchange_seconds,
            decode_seconds=seconds["decode"],
            update_seconds=seconds["update"],
            bytes_up=replies.bytes_up,
            bytes_down=replies.bytes_down,
            stale_messages=len(replies.late),
            warmup=before.warming_up,
        )


def _columns() -> dict[str, Field]:
    """Return the columns by name, in the order of the fields."""
    described = {
        field.name: field.metadata["column"]
        for field in dataclasses.fields(Iteration)
        if "column" in field.metadata
    }
    return {field.name or name: field for name, field in described.items()}


FIELDS: Mapping[str, Field] = _columns()
"""The columns by name; the scale `iteration` aside."""
