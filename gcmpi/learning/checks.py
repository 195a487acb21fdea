"""What rows and targets may be: every refusal shows the shapes that the user's arrays have."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np

from gcmpi.arrays import AnyArray

BLOCK = 1 << 24
"""Bytes that are looked at, or read from a file, in one go."""
NUMBER = "numpy.unique(y, return_inverse=True)[1]"
OTHER_KINDS = {
    "c": ("complex numbers", "give real and imaginary parts as two features"),
    "M": ("dates", "turn dates into numbers, for example with astype('datetime64[s]')"),
    "m": ("durations", "turn durations into numbers, for example with X / numpy.timedelta64(1)"),
    "U": ("texts", "turn texts into numbers"),
    "S": ("texts", "turn texts into numbers"),
    "T": ("texts", "turn texts into numbers"),
    "V": ("records", "make numbers of records with numpy.lib.recfunctions"),
    "O": ("texts or other Python objects", "give every row the same shape, and numbers only"),
}


class Shaped(Protocol):
    """An array, or what stands for one that is not in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        ...

    @property
    def dtype(self) -> Any:
        """The type of an element."""
        ...


@dataclass(frozen=True)
class Targets:
    """What y holds.

    Attributes
    ----------
    classes
        Labels are 0 to classes - 1; with 0 classes y holds numbers, the targets of a regression.
    one_hot
        Whether a label is a row with a single 1.
    """

    classes: int
    one_hot: bool = False

    def convert(self, y: AnyArray) -> AnyArray:
        """Return labels (r,) as whole numbers, or the targets of a regression as floats."""
        if not self.classes:
            return y.astype(np.result_type(y.dtype, np.float32), copy=False)
        labels: AnyArray = y.argmax(axis=1) if self.one_hot else y.reshape(-1)
        return labels.astype(np.int64)


@dataclass
class Extent:
    """What the numbers of an array are like; grows with every block that `see` is given.

    Attributes
    ----------
    low, high
        The smallest and the largest of them; NaN if one is.
    whole
        Whether all are whole numbers.
    one_hot
        Whether every row is a single 1 among zeros.
    """

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True
    one_hot: bool = True

    @property
    def finite(self) -> bool:
        """Whether all are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def see(self, block: AnyArray) -> None:
        """Take more rows into account."""
        if not block.size:
            return
        # minimum and maximum of numpy pass NaN on
        self.low = float(np.minimum(self.low, float(block.min())))
        self.high = float(np.maximum(self.high, float(block.max())))
        if not self.finite:
            return
        if self.whole and block.dtype.kind == "f":
            self.whole = bool((block == np.rint(block)).all())
        self.one_hot = self.one_hot and block.ndim == 2 and _one_hot(block)


def _one_hot(block: AnyArray) -> bool:
    ones = block == 1
    return bool((ones | (block == 0)).all() and (ones.sum(axis=1) == 1).all())


def blocks(array: Shaped, size: int | None = None) -> Iterator[slice]:
    """Yield slices of consecutive rows that have at most `size` bytes, or are single rows.

    The size is `BLOCK` unless it is given.
    """
    row = max(1, math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize)
    step = max(1, (size or BLOCK) // row)
    for start in range(0, array.shape[0], step):
        yield slice(start, min(start + step, array.shape[0]))


def finite(X: AnyArray) -> bool:
    """Say whether all numbers are finite."""
    return X.dtype.kind in "biu" or all(bool(np.isfinite(X[rows]).all()) for rows in blocks(X))


def shapes(arrays: Mapping[str, Shaped]) -> str:
    """Return ``X (100, 3), y (99,)``."""
    return ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"


class RefusedError(ValueError):
    """A data set cannot be used; the message goes on after its name."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of the data set in front of a refusal."""
    try:
        yield
    except RefusedError as error:
        raise ValueError(f"dataset {name} {error}") from error


def refuse(arrays: Mapping[str, Shaped], what: str) -> NoReturn:
    """Raise RefusedError with the shapes of a data set."""
    raise RefusedError(f"has {shapes(arrays)}: {what}")


def check_shapes(arrays: Mapping[str, Shaped]) -> None:
    """Check types and shapes of X, y or of X_train, y_train, X_test, y_test, in this order.

    Raises
    ------
    RefusedError
        If an array does not hold numbers or is empty, or the shapes do not fit together.
    """
    keys = list(arrays)
    for X, y in zip(keys[::2], keys[1::2], strict=True):
        _check_kind(arrays, X)
        _check_kind(arrays, y)
        rows, targets = arrays[X].shape, arrays[y].shape
        if len(rows) < 2:
            refuse(arrays, f"{X} must have a row for each element of {y}: (rows, features)")
        if not targets:
            refuse(arrays, f"{y} must have an element for each row of {X}")
        if rows[0] != targets[0]:
            refuse(arrays, f"{X} and {y} must have the same number of rows")
        if not math.prod(rows) or not math.prod(targets):
            refuse(arrays, "there must be rows, and features in them")
    for first, second in zip(keys[:2], keys[2:], strict=False):
        if arrays[first].shape[1:] != arrays[second].shape[1:]:
            refuse(arrays, f"rows of {first} and {second} must have the same shape")


def _check_kind(arrays: Mapping[str, Shaped], key: str) -> None:
    kind = np.dtype(arrays[key].dtype).kind
    if kind in "biuf":
        return
    what, remedy = OTHER_KINDS[kind]
    if kind in "USTO" and key in list(arrays)[1::2]:
        remedy = f"number them from 0 with {NUMBER}"
    refuse(arrays, f"{key} holds {what}, not numbers: {remedy}")


def find_targets(
    arrays: Mapping[str, Shaped],
    y: Iterable[AnyArray],
    *,
    regression: bool,
    remedy: str = "give regression=true",
) -> Targets:
    """Find out what targets are.

    Parameters
    ----------
    arrays
        For messages; the second array is y.
    y
        All targets, block by block.
    regression
        Whether y holds numbers even where they are whole.
    remedy
        What to do if y holds whole numbers that are no labels.

    Raises
    ------
    RefusedError
        If targets are not finite, or whole numbers that are no labels.
    """
    extent, y_shape = Extent(), list(arrays.values())[1].shape
    for block in y:
        extent.see(block)
    if not extent.finite:
        refuse(arrays, "y must be finite, without NaN")
    if regression or not extent.whole:
        return Targets(0)
    if math.prod(y_shape[1:]) > 1:
        if extent.one_hot:
            return Targets(y_shape[1], one_hot=True)
        refuse(
            arrays,
            "whole numbers y must be labels (rows,) or one-hot rows with a single 1; "
            f"if they are quantities, {remedy}",
        )
    if extent.low < 0 or not 1 <= extent.high < y_shape[0]:
        refuse(
            arrays,
            "labels must be 0, 1, ... for at least two classes, fewer than there are rows, and not "
            f"{extent.low:.10g} to {extent.high:.10g}: number them with {NUMBER}, or {remedy} if "
            "they are quantities",
        )
    return Targets(int(extent.high) + 1)


def check_finite(arrays: Mapping[str, AnyArray]) -> str:
    """Check rows X in memory.

    Returns
    -------
    warning
        What is odd about the rows, as "has ...": floats that look like pixels; empty if nothing is.

    Raises
    ------
    RefusedError
        If X is not finite.
    """
    warning = ""
    for key, X in list(arrays.items())[::2]:
        if X.dtype.kind != "f":
            continue
        extent = Extent(one_hot=False)
        for rows in blocks(X):
            extent.see(X[rows])
        if not extent.finite:
            refuse(arrays, f"{key} must be finite, without NaN")
        if _pixels(extent):
            warning = (
                f"has floating-point rows {key} from {extent.low:g} to {extent.high:g}, and "
                "training expects numbers of about 1: divide X by 255 if they are pixels, or "
                "standardise the features"
            )
    return warning


def _pixels(extent: Extent) -> bool:
    """Say whether these are 0 to 255, or the whole numbers of fewer grey levels."""
    least = 2 if extent.whole else 127
    return extent.low >= 0 and least < extent.high <= 255


_warned: set[str] = set()


def warn(text: str) -> None:
    """Print a warning, once in a process."""
    if text not in _warned:
        _warned.add(text)
        print(f"gcmpi: {text}", file=sys.stderr)


def standardised(X: AnyArray, X_test: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Give every feature mean 0 and standard deviation 1 over the training rows X.

    Constant features become 0. The test rows are changed in the same way.
    """
    low, high = X[0].astype(np.float64), X[0].astype(np.float64)
    for rows in blocks(X):
        np.minimum(low, X[rows].min(axis=0), out=low)
        np.maximum(high, X[rows].max(axis=0), out=high)
    varies = high > low
    span = np.where(varies, high - low, 1.0)

    def unit(some: AnyArray) -> AnyArray:
        """Return rows with features from 0 to 1: their squares do not overflow."""
        return np.asarray((some - low) / span)

    mean = sum((unit(X[rows]).sum(axis=0) for rows in blocks(X)), np.zeros(low.shape)) / len(X)
    squares = sum(
        (((unit(X[rows]) - mean) ** 2).sum(axis=0) for rows in blocks(X)), np.zeros(low.shape)
    )
    factor = np.divide(1, np.sqrt(squares / len(X)), out=np.zeros(low.shape), where=varies)

    def scaled(some: AnyArray) -> AnyArray:
        values = np.empty(some.shape, np.result_type(some.dtype, np.float32))
        for rows in blocks(some):
            values[rows] = (unit(some[rows]) - mean) * factor
        return values

    return scaled(X), scaled(X_test)
