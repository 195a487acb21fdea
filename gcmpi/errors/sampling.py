"""Monte Carlo over encodings and random straggler sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gcmpi.code import Array
from gcmpi.errors.engine import ErrorEngine

Draw = Callable[[np.random.Generator], Array]
"""Returns an encoding matrix B (m * k, n): a fresh one or the same one at every call."""


def alpha(
    draw: Draw,
    m: int,
    rng: np.random.Generator,
    *,
    counts: Sequence[int] | None = None,
    draws: int = 200,
    sets: int = 1,
) -> Array:
    """Return alpha_s = 1 - E[Err_S] / (m k) for each straggler count s, shape (c,).

    Where the decoded gradient is unbiased, E[B_S R] = alpha F over B and the sets S of one size,
    so dividing by alpha removes the shrinkage. It is 1 for an exact code and 0 when everybody
    straggles. One order of the workers gives a set of every size.

    Parameters
    ----------
    draw
        Gives an encoding matrix B (m * k, n), called `draws` times.
    m
        Communication reduction factor.
    rng
        Source of the encodings and of the straggler sets.
    counts : (c,)
        Straggler counts; all of 0 to n unless given.
    draws, sets
        Encodings, and random sets of each size for each encoding.

    References
    ----------
    Munim and Ramamoorthy, arXiv 2603.22514, section 5: the trace of F'B_S R is m k - Err_S.
    """
    total: Array | float = 0.0
    for _ in range(draws):
        B = draw(rng)
        rows, n = B.shape
        counts = range(n + 1) if counts is None else counts
        orders = rng.permuted(np.tile(np.arange(n), (sets, 1)), axis=1)
        total = total + ErrorEngine(B, m).nested(orders, counts).mean(axis=0)
    result: Array = 1.0 - np.asarray(total) / (draws * rows)
    return result
