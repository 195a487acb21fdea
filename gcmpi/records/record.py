"""The rows of a run in memory, and as columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.training import FIELDS, Iteration


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
