"""A data set in memory or in a file, its k subsets, and its rows made ready for a model."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray
from gcmpi.learning import checks
from gcmpi.learning.stored import AnyRows, Lazy, StoredRows, in_memory

PIECE = 1 << 28
"""Bytes of rows from a file that an audit has in memory at a time."""


@dataclass(frozen=True)
class Dataset:
    """Rows and their targets, shuffled or by label.

    Attributes
    ----------
    X : (N, *shape)
        Training rows of any shape; integers (pixels) are divided by 255 when they are used.
    y : (N,) or (N, c)
        Labels 0 to classes - 1, whole numbers; or floats, the targets of a regression.
    X_test, y_test
        Rows that no worker sees.
    classes
        The number of classes; 0 where targets are numbers.

    Notes
    -----
    AnyRows may lie in a file (`StoredRows`): an index then says which rows are meant, and
    `in_memory` reads them.
    """

    X: AnyRows
    y: AnyRows
    X_test: AnyRows
    y_test: AnyRows
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.X.shape[1:]

    @property
    def features(self) -> int:
        """How many numbers a row has."""
        return math.prod(self.shape)

    @property
    def stored(self) -> bool:
        """Whether rows stay in a file until they are used."""
        return isinstance(self.X, StoredRows)

    def by_label(self) -> Dataset:
        """Return the data set with the training rows sorted by label.

        A subset then has rows of one or two labels only, and subset gradients differ as much as
        they can: what a code loses weighs more than with shuffled rows.

        Raises
        ------
        ValueError
            If a row has several targets: they have no order.
        """
        y = in_memory(self.y)
        if y.ndim > 1 and y.size > len(y):
            raise ValueError(f"by_label=true sorts by one target a row, not by y {y.shape}")
        order = np.argsort(y.reshape(-1), kind="stable")
        return dataclasses.replace(self, X=self.X[order], y=self.y[order])

    def standardised(self) -> Dataset:
        """Return the data set with features of mean 0 and standard deviation 1.

        Both are taken over the training rows; constant features become 0.

        Raises
        ------
        ValueError
            If the rows lie in a file.
        """
        if self.stored:
            raise ValueError(
                "standardise=true needs the rows in memory: leave out where=worker, or standardise "
                "the rows when you write the file"
            )
        X, X_test = checks.standardised(in_memory(self.X), in_memory(self.X_test))
        return dataclasses.replace(self, X=X, X_test=X_test)

    def principal(self, components: int) -> Dataset:
        """Return the data set with rows of so many principal components.

        Rows are centred, turned into the directions of largest variance, and divided by one
        number, the standard deviation of all entries that are left; all taken over the training
        rows, in float64. The largest entry of a direction is positive.

        Raises
        ------
        ValueError
            If there are not so many components, or the rows lie in a file.
        """
        if self.stored:
            raise ValueError(
                "components= needs the rows in memory: leave out where=worker, or turn the rows "
                "when you write the file"
            )
        most = min(self.features, len(self.X) - 1)
        if not 1 <= components <= most:
            raise ValueError(
                f"components must be 1 to {most}, not {components}: {len(self.X)} training rows "
                f"of {self.features} features have no more (0 keeps the features)"
            )
        X, X_test = (
            prepare(rows, np.float64).reshape(len(rows), -1) for rows in (self.X, self.X_test)
        )
        mean = X.mean(axis=0)
        X -= mean
        V = np.linalg.eigh(X.T @ X)[1][:, : -components - 1 : -1]
        V *= np.sign(V[np.abs(V).argmax(axis=0), np.arange(components)])
        X, X_test = X @ V, (X_test - mean) @ V
        deviation = X.std()
        if not deviation:
            raise ValueError(f"components={components} of rows that are all the same are zero")
        return dataclasses.replace(self, X=X / deviation, X_test=X_test / deviation)


def partition(rows: int, k: int) -> list[slice]:
    """Cut `rows` training rows into k consecutive subsets whose sizes differ by at most one.

    Nothing is left out, so that the full gradient is the same for every code.

    Raises
    ------
    ValueError
        If there are fewer rows than subsets.
    """
    if rows < k:
        raise ValueError(f"{k} subsets need at least {k} training rows, not {rows}")
    bounds = [rows * j // k for j in range(k + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def prepare(X: AnyRows, dtype: npt.DTypeLike) -> AnyArray:
    """Return rows as floating-point numbers; integers are taken for pixels, 0 to 255.

    Rows that lie in a file are read.
    """
    dtype = np.dtype(dtype)
    kind = X.dtype
    # what was read for this call alone needs no copy
    rows: AnyArray = in_memory(X).astype(dtype, copy=not isinstance(X, StoredRows))
    if np.issubdtype(kind, np.integer):
        rows /= dtype.type(255)
    return rows


def prepared(X: AnyRows, dtype: npt.DTypeLike) -> AnyArray | Lazy:
    """Return what gives prepared rows by ``[slice]``.

    Rows in memory are prepared once; rows in a file are read and prepared each time, so that no
    more of them are in memory than were asked for.
    """
    if isinstance(X, StoredRows):
        return Lazy(X, lambda rows: prepare(rows, dtype))
    return prepare(X, dtype)


def given(y: AnyRows) -> AnyArray | Lazy:
    """Return what gives targets y, as they are in the data set, by ``[slice]``."""
    return Lazy(y, in_memory) if isinstance(y, StoredRows) else y


def made(y: AnyArray | Lazy, targets: Callable[[AnyArray], AnyArray]) -> AnyArray | Lazy:
    """Return what gives ``targets(y)`` by ``[slice]``: made once of what is in memory."""
    return y.then(targets) if isinstance(y, Lazy) else targets(y)


def pieces(X: AnyRows) -> list[slice]:
    """Cut rows into what may be in memory at a time: all rows, unless they lie in a file."""
    if isinstance(X, StoredRows):
        return list(checks.blocks(X, PIECE))
    return [slice(0, len(X))]
