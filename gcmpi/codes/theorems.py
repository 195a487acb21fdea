"""Which of the theorems that an encoding declares covers a code, and what it says.

The mathematics is in `gcmpi.codes.bounds`; an encoding declares its theorems at its registration,
the exact ones first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes import bounds
from gcmpi.importing import blame
from gcmpi.promises import EncodingPromises, SetTheorem, Theorem
from gcmpi.registry import ENCODINGS, Spec

PLAIN_SUMS = (
    Theorem("exact for a BIBD", bounds.stacked_design),
    Theorem("expander bound", bounds.stacked_expander),
)
"""Of encodings that are A up to the size of its columns, in every part."""
EVERY_SET = SetTheorem("exact for every set (Theorem A)", bounds.groups_error)
"""Of encodings with one vector a worker, any m of a group independent."""
GROUPS = (Theorem("worst case of groups", bounds.blocks), EVERY_SET)
"""Of encodings that decode a group of workers from any m of them."""
TOLERANT = Theorem("exact up to gamma - m", bounds.tolerant)
"""Of encodings that promise to be tolerant."""


class Bound(NamedTuple):
    """What a theorem says of one code for every S of a size: its name, and s -> bound."""

    name: str
    bound: Callable[[int], float]


def closed_form(A: AnyArray, m: int, encoding: Spec) -> Bound | None:
    """Return the theorem that bounds the error of this code for every S of a size, if one does.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    encoding
        Its name and options.
    """
    part = ENCODINGS[encoding.name]
    found = covering(part.promises, A, m, options_of(encoding))
    if found is None or not part.own:
        return found
    name, says = found

    def bound(s: int) -> float:
        with blame(f"the theorem of encoding {encoding.name}"):
            return says(s)

    return Bound(name, bound)


def covering(
    promises: EncodingPromises, A: AnyArray, m: int, options: Mapping[str, Any]
) -> Bound | None:
    """Return the first of the promised theorems that covers a code for every S of a size.

    A theorem that is only cited comes before what follows from the promise to be tolerant.
    """
    for theorem in (*promises.theorems, *([TOLERANT] if promises.tolerant else [])):
        if isinstance(theorem, str):
            return None
        if isinstance(theorem, Theorem):
            says = _applied(theorem, A, m, options)
            try:
                says(0)
            except ValueError:  # it does not cover this code
                continue
            return Bound(theorem.name, says)
    return None


def holds_for_every_set(promises: EncodingPromises, B: Array, m: int) -> bool:
    """Say whether Theorem A is promised and covers this B: no code loses less, for any S."""
    if EVERY_SET not in promises.theorems:
        return False
    try:
        bounds.groups_error(B, m, np.ones(B.shape[1], dtype=np.bool_))
    except ValueError:
        return False
    return True


def cited(encoding: Spec) -> str | None:
    """Return the name of a theorem that an encoding declares and nothing here evaluates."""
    theorems = ENCODINGS[encoding.name].promises.theorems
    return next((f"{x} (not evaluated)" for x in theorems if isinstance(x, str)), None)


def options_of(encoding: Spec) -> dict[str, Any]:
    """Return the options of an encoding, defaults included."""
    return {**defaults(ENCODINGS[encoding.name].options), **encoding.options}


def defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return the values of parameters that have a default."""
    return {key: p.default for key, p in parameters.items() if p.default is not p.empty}


def taken(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of an encoding's options that a theorem's function names."""
    named = inspect.signature(function).parameters
    return {key: value for key, value in options.items() if key in named}


def _applied(
    theorem: Theorem, A: AnyArray, m: int, options: Mapping[str, Any]
) -> Callable[[int], float]:
    chosen = taken(theorem.bound, options)
    return lambda s: float(theorem.bound(A, m, s, **chosen))
