"""How much a server with memory learns in an iteration at least, whatever the direction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gcmpi import seeds
from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.decoders.least_squares import pseudo_inverse
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.spaces import Space, spaces

FEW = 10
"""Workers of a component up to which all their sets are gone through."""

ROUNDING = 1e-12
"""Eigenvalues up to which are zero."""


def renewal(codes: Ensemble, odds: npt.ArrayLike, *, sets: int = 1000, seed: int = 0) -> float:
    """Return the least eigenvalue p of E[P_S] on V, with independent stragglers.

    P_S is the orthogonal projection on the range of B_S, and V is spanned by the columns of F and
    the range of every B_S. docs/memory.md has the theorem that it is for: the larger p is, the
    faster is training with memory. Uncoded it is 1 - q, and 0 for a code that loses something of
    the gradient even if nobody straggles.

    Parameters
    ----------
    codes
        The codes.
    odds : (n,) or one number
        Each worker's probability to straggle.
    sets
        How many random sets and draws of B are averaged over. A component of at most `FEW` workers
        is gone through exactly unless B is redrawn.
    seed
        Seed of the sets.

    Raises
    ------
    ValueError
        If a probability is not in [0, 1].
    """
    q = np.broadcast_to(np.asarray(odds, dtype=np.float64), codes.n)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"probabilities to straggle must be between 0 and 1, not {q}")
    rng = seeds.generator(seed, seeds.MONTE_CARLO)
    return min(_least(codes, space, q[space.workers], sets, rng) for space in spaces(codes))


def _least(codes: Ensemble, space: Space, q: Array, sets: int, rng: np.random.Generator) -> float:
    """Return p of one component."""
    fixed = not (codes.changes or codes.relabel)
    mean = np.zeros((space.dimension, space.dimension))
    for t, (weight, survivors) in enumerate(_sets(q, sets, rng, every=fixed and q.size <= FEW)):
        if not t or not fixed:
            B = space.columns(codes.at(t))
        mean += weight * _projection(B[:, survivors])
    values, vectors = np.linalg.eigh(mean + _projection(space.target))
    V = vectors[:, values > ROUNDING]
    least = float(np.linalg.eigvalsh(V.T @ mean @ V)[0])
    return least if least > ROUNDING else 0.0


def _sets(
    q: Array, sets: int, rng: np.random.Generator, *, every: bool
) -> Iterator[tuple[float, BoolArray]]:
    """Yield survivors with their weights, which add up to 1: every set, or random ones."""
    if every:
        for answers in itertools.product((False, True), repeat=q.size):
            survivors = np.array(answers)
            yield float(np.prod(np.where(survivors, 1 - q, q))), survivors
    else:
        for _ in range(sets):
            yield 1 / sets, rng.random(q.size) >= q


def _projection(B: Array) -> Array:
    """Return the orthogonal projection on the range of B, (r, r)."""
    return B @ pseudo_inverse(B)
