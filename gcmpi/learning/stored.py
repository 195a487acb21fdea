"""Rows that stay in their file: each rank opens the file and reads the rows that it needs.

A `Table` says where an array lies, `StoredRows` which of its rows are meant and in which order.
Both are small and travel to the workers in place of the rows. numpy only: h5py is imported where
an HDF5 file is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray
from gcmpi.learning.checks import Targets, blocks, finite


@dataclass(frozen=True)
class Table:
    """An array in a file.

    Attributes
    ----------
    path
        The file as the user wrote it, relative to the working directory of every rank.
    name
        The data set in an HDF5 file; empty for a .npy file.
    shape, dtype
        What the file had when the run started.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Give the array for reading by slices: a memory map or an HDF5 data set.

        Raises
        ------
        ValueError
            If the file is not there, cannot be read or holds something else than at the start.
        """
        with ExitStack() as stack:
            try:
                array = self._array(stack)
            except (OSError, KeyError, ValueError) as error:
                raise ValueError(self._absent(reason(error))) from error
            if array.shape != self.shape or array.dtype != self.dtype:
                raise ValueError(
                    self._absent(
                        f"it holds {array.dtype} {array.shape}, not {self.dtype} {self.shape}"
                    )
                )
            yield array

    def _array(self, stack: ExitStack) -> Any:
        if not Path(self.path).is_file():
            raise ValueError("no file is there")
        if not self.name:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        import h5py

        return stack.enter_context(h5py.File(self.path, "r"))[self.name]

    def _absent(self, why: str) -> str:
        what = f"{self.name} of {self.path}" if self.name else self.path
        return (
            f"cannot read {what}: {why}; where=worker needs the same file under this path on every "
            "host: copy the file there, or give a path on a file system that all hosts share"
        )

    def read(self, rows: AnyArray | None = None) -> AnyArray:
        """Return the array, or rows of it in the order asked for, a block of the file at a time."""
        with self.open() as array:
            if rows is None:
                whole: AnyArray = np.array(array) if isinstance(array, np.memmap) else array[:]
                return whole
            order = np.argsort(rows, kind="stable")
            ascending = rows[order]
            chosen = np.empty((len(rows), *self.shape[1:]), self.dtype)
            for block in blocks(array):
                first, last = np.searchsorted(ascending, (block.start, block.stop))
                if first == last:
                    continue
                wanted = ascending[first:last].astype(np.intp)
                start = int(wanted[0])
                piece = array[start : int(wanted[-1]) + 1]
                chosen[order[first:last]] = piece[wanted - start]
            return chosen

    def blocks(self) -> Iterator[AnyArray]:
        """Yield all rows, a few megabytes at a time."""
        with self.open() as array:
            for block in blocks(array):
                yield np.asarray(array[block])


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Some rows of a table, not read yet; an index gives fewer of them, not read either.

    Attributes
    ----------
    table
        Where the rows lie.
    order : (r,)
        Their numbers in the table.
    targets
        What the rows are made into when they are targets; None for rows X.
    """

    table: Table
    order: AnyArray
    targets: Targets | None = None

    @classmethod
    def all_of(cls, table: Table) -> StoredRows:
        """Return all rows of a table, in numbers as short as the table allows."""
        small = table.shape[0] <= np.iinfo(np.uint32).max
        return cls(table, np.arange(table.shape[0], dtype=np.uint32 if small else np.uint64))

    def __len__(self) -> int:
        return len(self.order)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what `read` returns."""
        flat = self.targets is not None and self.targets.classes > 0
        return (len(self), *(() if flat else self.table.shape[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a number in the file."""
        return self.table.dtype

    def __getitem__(self, index: slice | AnyArray) -> StoredRows:
        return dataclasses.replace(self, order=self.order[index])

    def read(self) -> AnyArray:
        """Read the rows.

        Raises
        ------
        ValueError
            If the file cannot be read here, or if rows X are not finite.
        """
        try:
            rows = self.table.read(self.order)
        except OSError as error:
            raise ValueError(f"cannot read rows of {self.table.path}: {reason(error)}") from error
        if self.targets is not None:
            return self.targets.convert(rows)
        if not finite(rows):
            raise ValueError(
                f"rows of {self.table.path} hold NaN or infinity: X must be finite, so write the "
                "file again without these rows or with other values"
            )
        return rows


class Lazy:
    """What is made of rows in a file, made anew for those that an index asks for.

    It stands where an array of all of them would be: ``lazy[a:b]`` is an array.
    """

    def __init__(self, rows: StoredRows, make: Callable[[StoredRows], AnyArray]) -> None:
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | AnyArray) -> AnyArray:
        return self._make(self._rows[index])

    def then(self, make: Callable[[AnyArray], AnyArray]) -> Lazy:
        """Return what `make` makes of that."""
        return Lazy(self._rows, lambda some: make(self._make(some)))


AnyRows = npt.NDArray[Any] | StoredRows
"""Rows in memory, or rows that lie in a file."""


def in_memory(rows: AnyRows) -> AnyArray:
    """Return rows as an array; reads them where they lie in a file."""
    return rows.read() if isinstance(rows, StoredRows) else rows


def reason(error: BaseException) -> str:
    """Return what an error says, without the number of the operating system's error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error.args[0]) if error.args else type(error).__name__
