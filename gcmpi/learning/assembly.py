"""Data sets made of arrays: of a file's, or of what a user's function returns."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.learning import checks
from gcmpi.learning.checks import Targets
from gcmpi.learning.files import Content
from gcmpi.learning.rows import Dataset
from gcmpi.learning.stored import AnyRows, StoredRows, Table


def from_value(name: str, value: object, rng: np.random.Generator) -> Dataset:
    """Make a data set of what a user's dataset function returns.

    Parameters
    ----------
    name
        The function, for messages.
    value
        A `Dataset`, which stays in its order; (X, y), of which one fifth is kept for testing; or
        (X_train, y_train, X_test, y_test). Arrays, or what `numpy.asarray` makes arrays of.
    rng
        Shuffles the training rows of arrays.

    Raises
    ------
    ValueError
        If the value is something else, or its arrays do not fit together.
    """
    with checks.naming(name):
        return complete(value, rng)


def complete(value: object, rng: np.random.Generator) -> Dataset:
    """Do what `from_value` does, for a caller that puts the name in front of a refusal.

    Raises
    ------
    RefusedError
        As "must return ...".
    """
    if isinstance(value, Dataset):
        data, warning = _checked(value)
    elif isinstance(value, tuple | list) and len(value) in (2, 4):
        keys = ("X", "y") if len(value) == 2 else ("X_train", "y_train", "X_test", "y_test")
        arrays = {key: _array(key, item) for key, item in zip(keys, value, strict=True)}
        remedy = "return a gcmpi.learning.Dataset with classes=0"
        data, warning = assemble(arrays, rng, remedy=remedy)
    else:
        raise checks.RefusedError(
            "must return (X, y), (X_train, y_train, X_test, y_test) or a "
            f"gcmpi.learning.Dataset, not {_described(value)}"
        )
    if warning:
        checks.warn(
            f"what your function returns {warning} (gcmpi.learning.Dataset has standardised())"
        )
    return data


def assemble(
    content: Mapping[str, Content],
    rng: np.random.Generator,
    *,
    test: int | None = None,
    regression: bool = False,
    remedy: str = "give regression=true",
) -> tuple[Dataset, str]:
    """Check arrays, shuffle the training rows and set test rows aside where none are given.

    Parameters
    ----------
    content
        X, y or X_train, y_train, X_test, y_test, in this order.
    test
        How many rows are set aside; one fifth by default.
    regression, remedy
        See `gcmpi.learning.checks.find_targets`.

    Returns
    -------
    dataset, warning
        The warning is empty if nothing is odd.
    """
    checks.check_shapes(content)
    items = list(content.values())
    blocks = itertools.chain.from_iterable(_blocks(y) for y in items[1::2])
    targets = checks.find_targets(content, blocks, regression=regression, remedy=remedy)
    arrays = {key: item for key, item in content.items() if not isinstance(item, Table)}
    warning = checks.check_finite(arrays) if len(arrays) == len(content) else ""
    X, y = _rows(items[0]), _rows(items[1], targets)
    if len(items) == 2:
        test = len(X) // 5 if test is None else test
        if not 0 < test < len(X):
            checks.refuse(
                content,
                f"test must be 1 to {len(X) - 1} rows, not {test} (one fifth if it is not given)",
            )
    order = rng.permutation(len(X))
    if len(items) == 4:
        X_test, y_test = _rows(items[2]), _rows(items[3], targets)
        return Dataset(X[order], y[order], X_test, y_test, targets.classes), warning
    train, held_out = order[test:], order[:test]
    return Dataset(X[train], y[train], X[held_out], y[held_out], targets.classes), warning


def _rows(item: Content, targets: Targets | None = None) -> AnyRows:
    """Return rows X, or targets y in the form that they are used in."""
    if isinstance(item, Table):
        return dataclasses.replace(StoredRows.all_of(item), targets=targets)
    return item if targets is None else targets.convert(item)


def _blocks(y: Content) -> Iterable[AnyArray]:
    return y.blocks() if isinstance(y, Table) else (y[rows] for rows in checks.blocks(y))


def _checked(data: Dataset) -> tuple[Dataset, str]:
    """Return a user's data set in its order, with arrays of the right types, and a warning.

    Raises
    ------
    RefusedError
        If its arrays do not fit together, or its labels do not fit its classes.
    """
    keys = ("X", "y", "X_test", "y_test")
    if any(isinstance(getattr(data, key), StoredRows) for key in keys):
        return data, ""
    arrays = {key: _array(key, getattr(data, key)) for key in keys}
    checks.check_shapes(arrays)
    warning = checks.check_finite(arrays)
    extent = checks.Extent()
    for y in (arrays["y"], arrays["y_test"]):
        extent.see(y)
    classes = data.classes
    if not extent.finite:
        checks.refuse(arrays, "y must be finite, without NaN")
    labelled = extent.whole and extent.low >= 0 and extent.high < classes
    if classes and not (labelled and classes > 1 and arrays["y"].ndim == 1):
        checks.refuse(
            arrays,
            f"with classes={classes}, y must hold labels 0 to classes - 1 of at least two classes; "
            "classes=0 is for targets that are numbers",
        )
    y, y_test = (Targets(classes).convert(arrays[key]) for key in ("y", "y_test"))
    return Dataset(arrays["X"], y, arrays["X_test"], y_test, classes), warning


def _array(key: str, item: Any) -> AnyArray:
    """Return the array of a list, a tensor or whatever else has numbers."""
    try:
        return np.asarray(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise checks.RefusedError(
            f"returned {_described(item)} as {key}, which cannot be made an array; give every row "
            f"the same shape: {error}"
        ) from error


def _described(value: object) -> str:
    """Return what a value is, without its contents."""
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if isinstance(value, tuple | list) else f"a {kind}"
