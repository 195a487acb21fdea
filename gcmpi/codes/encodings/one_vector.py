"""The encoding that costs a worker one plain gradient: one vector for all of its subsets."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.assignments.structure import groups
from gcmpi.codes.encodings.communication_efficient import generator
from gcmpi.codes.encodings.search.straggler_sets import expected
from gcmpi.codes.theorems import EVERY_SET
from gcmpi.registry import ENCODINGS

DRAWS, SETS, NOISE = 20, 200, 1e-4
"""Draws, straggler sets by which they are judged, and the relative noise power of the messages."""
LARGE = 256
"""Workers above which the first draw is taken: judging it would take longer than seconds."""
TEN = {1: 0, 3: 8, 4: 26}
"""Offsets of the angles of the 30 edges (v, v + d) of the circulant graph C10(1, 3, 4), by d."""


@ENCODINGS.register("frame", {}, theorem=EVERY_SET)
def frame(A: AnyArray, m: int, seed: int = 0) -> Array:
    """One vector a worker: b_ij = d_i in R^m for all subsets j of worker i.

    A worker computes one plain gradient over all that it holds, of any model, and combines the m
    parts of it by the m numbers d_i. What the vectors are depends on the assignment:

    * On groups, waves inside each group (`generator`): any m of them are independent, and as well
      conditioned as m of g vectors can be for m = 2. Err_S is then as small as it can be on
      these groups, for every S (Theorem A, `gcmpi.bounds.groups_error`); a group with
      h >= m survivors is decoded exactly, and balanced groups have the least mean error of
      all codes of their load (`gcmpi.bounds.load_bound`).
    * On the circulant graph of ``graph:n=30,c=5,r=2``, for m = 2, angles in closed form.
    * Elsewhere vectors spread over the sphere: for m = 2 the angles pi i / n in a random order,
      for m > 2 random directions. Of 20 draws the one is taken that amplifies noise in the
      messages least, over random stragglers; of more than 256 workers, the first.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    seed
        Of the draws.

    Returns
    -------
    B : (m * k, n), columns of A times vectors of norm sqrt(m)

    Raises
    ------
    ValueError
        If the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"frame needs a seed of at least 0, not seed={seed}")
    vectors = _waves(A, m)
    if vectors is None:
        vectors = _ten_vertices(A) if m == 2 else None
    if vectors is None:
        vectors = _spread(A, m, seed)
    return _weighted(A, vectors)


def _weighted(A: AnyArray, vectors: Array) -> Array:
    """Return B (m * k, n) with the same vector, a row of `vectors` (n, m), for all subsets."""
    B: Array = (A * vectors.T[:, None, :]).reshape(-1, A.shape[1])
    return B


def _waves(A: AnyArray, m: int) -> Array | None:
    """Return waves inside each group, (n, m), or None if the workers are in no groups."""
    try:
        group = groups("frame", A)
    except ValueError:
        return None
    vectors = np.empty((len(group), m))
    for number in range(group.max() + 1):
        members = np.flatnonzero(group == number)
        vectors[members] = generator(len(members), m)
    return vectors


def _ten_vertices(A: AnyArray) -> Array | None:
    """Return the angles pi (9 v + o) / 30 of the edges (v, v + d) of C10(1, 3, 4), else None."""
    edges = {frozenset((v, (v + d) % 10)): (9 * v + o) for d, o in TEN.items() for v in range(10)}
    held = [frozenset(np.flatnonzero(column).tolist()) for column in A.T] if len(A) == 10 else []
    if len(held) != len(edges) or {*held} != {*edges}:
        return None
    return _circle(np.array([edges[pair] for pair in held]))


def _spread(A: AnyArray, m: int, seed: int) -> Array:
    """Return vectors over the sphere, (n, m): the draw that amplifies noise least."""
    n = A.shape[1]
    rng = np.random.default_rng(seed)
    law = expected(n, "frame", None, None)
    judged = law.judge(SETS, rng)
    draws = [_draw(n, m, rng) for _ in range(DRAWS if 1 < m and n <= LARGE else 1)]
    if len(draws) == 1:
        return draws[0]
    # the error is the same for all draws but for degenerate ones: noise makes the difference
    means = [law.loss(_weighted(A, vectors), m, judged, NOISE) for vectors in draws]
    return draws[int(np.argmin(means))]


def _draw(n: int, m: int, rng: np.random.Generator) -> Array:
    if m == 1:
        return np.ones((n, 1))
    if m == 2:
        return _circle(rng.permutation(n))
    directions = rng.standard_normal((n, m))
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    spread: Array = directions * np.sqrt(m) / norms
    return spread


def _circle(steps: AnyArray) -> Array:
    """Return vectors of norm sqrt(2) at the angles pi steps / n, (n, 2)."""
    angle = np.pi * steps / len(steps)
    vectors: Array = np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return vectors
