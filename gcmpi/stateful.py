"""What a part remembers from iteration to iteration: named arrays, so that a file can hold them.

A part exposes them as `state` and accepts them there. What `state` returns is never changed later:
it may be kept, and given back to a new part, which then goes on as the first one would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray

Arrays = Mapping[str, AnyArray]
"""Arrays by name."""

NOTHING: Arrays = {}
"""The state of a part that remembers nothing."""


def need(arrays: Arrays, names: tuple[str, ...], whose: str) -> None:
    """Refuse a state in which an array is missing.

    Raises
    ------
    ValueError
        With what is missing.
    """
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(
            f"the state of {whose} needs {', '.join(names)}, but {', '.join(missing)} is missing: "
            "start the run anew"
        )


def own_state(made: object) -> dict[str, AnyArray]:
    """Return copies of the arrays in `state` of a user's part; nothing if it has no `state`."""
    state: Mapping[str, Any] = getattr(made, "state", NOTHING)
    return {name: np.array(value) for name, value in state.items()}


def restore_own(made: object, arrays: Arrays, kind: str) -> None:
    """Give a user's part the arrays that it had as `state`.

    Raises
    ------
    ValueError
        If it does not take them.
    """
    if not hasattr(made, "state"):
        if arrays:
            raise ValueError(
                f"the run has a state of the {kind} ({', '.join(arrays)}), but the {kind} has no "
                "`state` to put it into: use the part that the run was started with"
            )
        return
    try:
        made.state = {name: value.copy() for name, value in arrays.items()}
    except AttributeError as error:
        raise ValueError(
            f"the {kind} must accept `state`, arrays by name, as well as show it: {error}"
        ) from error
