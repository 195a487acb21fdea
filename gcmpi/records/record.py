"""The rows of a run in memory, and what the data sets of ``/iterations`` are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.training import Iteration


@dataclass(frozen=True)
class Field:
    """One data set of ``/iterations``."""

    long_name: str
    units: str = "1"
    dtype: str = "f8"
    by_worker: bool = False


FIELDS: Mapping[str, Field] = {
    "m": Field("communication reduction: messages of d/m numbers", dtype="i8"),
    "seconds": Field("training time up to the end of the iteration, without audits", "s"),
    "loss": Field("mean training loss after the iteration"),
    "accuracy": Field("test accuracy after the iteration"),
    "gradient_error": Field(
        "relative error of the gradient, ||g_hat - g|| / ||g||, g over the rows that were used"
    ),
    "full_gradient_error": Field(
        "relative error against the gradient over all rows, mini-batch or not"
    ),
    "approximation_error": Field("||B R - F||_F^2, between 0 and m k"),
    "divisor": Field("what the decoded gradient was divided by (alpha)"),
    "check": Field(
        "decoded gradient is what the code promises: 1 yes, 0 no, 255 not audited", dtype="u1"
    ),
    "survivors": Field("answer in time", dtype="u1", by_worker=True),
    "finished": Field("subsets finished when waiting ended", dtype="i4", by_worker=True),
    "arrival_seconds": Field("answer's arrival, from the iteration's start", "s", by_worker=True),
    "late_seconds": Field("arrival of an answer that was too late", "s", by_worker=True),
    "compute_seconds": Field("worker's gradients", "s", by_worker=True),
    "encode_seconds": Field("worker's encoding", "s", by_worker=True),
    "delay_seconds": Field("worker's delay by the straggler model", "s", by_worker=True),
    "exchange_seconds": Field("from the first send to the end of waiting", "s"),
    "decode_seconds": Field("drawing the code and decoding", "s"),
    "update_seconds": Field("optimizer", "s"),
    "bytes_up": Field("received from workers", "byte", "i8"),
    "bytes_down": Field("sent to workers", "byte", "i8"),
    "stale_messages": Field("answers to earlier iterations, dropped", dtype="i8"),
    "warmup": Field("left out of timing tables", dtype="u1"),
}


class Record:
    """The rows of a run in memory.

    Parameters
    ----------
    n
        The number of workers.
    earlier
        Columns of the run that this one resumes.
    """

    def __init__(self, n: int, earlier: Mapping[str, AnyArray] | None = None) -> None:
        self.n = n
        self._earlier = earlier
        self._rows: list[Iteration] = []

    def append(self, row: Iteration) -> None:
        """Add the next iteration."""
        self._rows.append(row)

    @property
    def columns(self) -> dict[str, AnyArray]:
        """The data sets of ``/iterations`` with the scale `iteration`, by name."""
        columns: dict[str, AnyArray] = {
            "iteration": np.array([row.iteration for row in self._rows], dtype="i8")
        }
        for name, field in FIELDS.items():
            shape = (len(self._rows), self.n) if field.by_worker else (len(self._rows),)
            if name == "late_seconds":
                columns[name] = np.full(shape, np.nan)
                continue
            values = [getattr(row, name) for row in self._rows]
            columns[name] = np.array(values, dtype=field.dtype).reshape(shape)
        if self._earlier is not None:
            before = self._earlier
            missing = len(
                before["iteration"]
            )  # rows of a column that an older version did not write
            columns = {
                name: np.concatenate([before.get(name, _blank(new, missing)), new])
                for name, new in columns.items()
            }
        position = {int(t): row for row, t in enumerate(columns["iteration"])}
        for row in self._rows:
            for t, worker, seconds in row.late:
                columns["late_seconds"][position[t], worker] = seconds
        return columns


def _blank(column: AnyArray, rows: int) -> AnyArray:
    """Return rows for a column of which nothing is known: NaN, or zero for whole numbers."""
    unknown = np.nan if column.dtype.kind == "f" else 0
    return np.full((rows, *column.shape[1:]), unknown, column.dtype)
