"""The straggler sets that hurt most: all holders of some subsets, or one by one, then swaps."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.errors.engine import ErrorEngine, target
from gcmpi.codes.errors.sampling import check_counts

RIDGE = 1e-9
"""Added to B'B for the search, so that it can be inverted; the errors returned are exact."""
BEAM, UNIONS = 32, 4
"""Unions of holder sets that are kept at each size, and that a search starts from."""
NOBODY = np.zeros(0, dtype=np.intp)


def worst_set(
    A: AnyArray, B: Array, m: int, s: int, rng: np.random.Generator, restarts: int = 8
) -> tuple[IntArray, float]:
    """Return s stragglers with a large Err_S, and that error: a lower estimate of the worst case.

    Starts from the workers removed one by one at the greatest cost, from all holders of a few
    subsets (the sets behind Claim 1, and the worst unions of whole holder sets), and from random
    sets; each is improved by the best swap of a straggler for a survivor until none helps.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    B : (m * k, n)
        Encoding matrix.
    m
        Communication reduction factor.
    s
        The number of stragglers.
    rng
        Source of the random sets.
    restarts
        The number of random sets.

    Returns
    -------
    stragglers : (s,), ascending
    error
        Err_S without them.

    Raises
    ------
    ValueError
        If s is not in 0..n.
    """
    n = B.shape[1]
    check_counts([s], n)
    search = Search(B, m)
    starts = [search.greedy(s), _holders(A, s)]
    unions = sorted((search.greedy(s, T) for T in _unions(A, m, s)), key=search.error)
    starts += unions[-UNIONS:]
    starts += [rng.permutation(n)[:s] for _ in range(restarts)]
    results = [search.improve(start) for start in starts]
    stragglers, error = max(results, key=lambda result: result[1])
    return np.sort(stragglers), error


class Search:
    """What removing one more worker costs, from the inverse of B'B as in `ErrorEngine`."""

    def __init__(self, B: Array, m: int) -> None:
        F = target(B, m)
        self._engine = ErrorEngine(B, F)
        scale = np.sqrt(np.einsum("ij,ij->j", B, B))
        unit = B / np.where(scale > 0, scale, 1.0)
        self._H = np.asarray(np.linalg.inv(unit.T @ unit + RIDGE * np.eye(B.shape[1])), np.float64)
        self._X: Array = self._H @ (unit.T @ F)

    def costs(self, T: IntArray) -> Array:
        """Return what losing each worker costs when T is lost, (n,); 0 for the workers of T."""
        rows = self._H[T]
        Z = np.linalg.solve(rows[:, T], np.hstack([rows, self._X[T]]))
        X = self._X - rows.T @ Z[:, self._H.shape[0] :]
        left = np.diagonal(self._H) - np.einsum("ti,ti->i", rows, Z[:, : self._H.shape[0]])
        left[T] = np.inf
        cost: Array = np.sum(X**2, axis=1) / left
        return cost

    def greedy(self, s: int, T: IntArray = NOBODY) -> IntArray:
        """Return s workers: T, and others removed one by one, each at the greatest cost."""
        for _ in range(s - len(T)):
            costs = self.costs(T)
            costs[T] = -1.0
            T = np.append(T, costs.argmax())
        return T

    def error(self, T: IntArray) -> float:
        """Return Err_S without the workers T."""
        survivors = np.ones((1, self._engine.n), dtype=np.bool_)
        survivors[0, T] = False
        return float(self._engine.errors(survivors)[0])

    def improve(self, T: IntArray) -> tuple[IntArray, float]:
        """Swap a straggler for a survivor while that raises the error."""
        error = self.error(T)
        while 0 < len(T) < self._engine.n:
            gains, candidates = [], []
            for t in range(len(T)):
                others = np.delete(T, t)
                costs = self.costs(others)
                gains.append(costs.max() - costs[T[t]])
                candidates.append(np.append(others, costs.argmax()))
            best = candidates[int(np.argmax(gains))]
            improved = self.error(best)
            if improved <= error * (1 + 1e-9) + 1e-9:
                break
            T, error = best, improved
        return T, error


def _holders(A: AnyArray, s: int) -> IntArray:
    """Return s workers that hold as many subsets as possible all by themselves, greedily."""
    left = A.astype(np.bool_)
    T: list[int] = []
    while len(T) < s:
        missing = left.sum(axis=1)
        open_subsets = np.flatnonzero(missing)
        j = open_subsets[missing[open_subsets].argmin()] if open_subsets.size else None
        more = np.flatnonzero(left[j]) if j is not None else np.setdiff1d(np.arange(A.shape[1]), T)
        more = more[: s - len(T)]
        T.extend(int(i) for i in more)
        left[:, more] = False
    return np.array(T, dtype=np.intp)


def _unions(A: AnyArray, m: int, s: int) -> list[IntArray]:
    """Return sets of up to s workers that hold as many subsets as possible all by themselves.

    Unions of the holder sets of one subset, of two, and so on, as long as they are at most s
    workers; of each number those are kept that take most parts of subsets away, and of these the
    smallest. The largest unions are returned, and those of one subset less.
    """
    holders = A.astype(np.bool_)
    levels = [np.zeros((1, A.shape[1]), dtype=np.bool_)]
    while len(levels[-1]):
        wider = levels[-1][:, None] | holders
        size = wider.sum(axis=2)
        grown = (size > levels[-1].sum(axis=1)[:, None]) & (size <= s)
        found = np.unique(wider[grown], axis=0)
        left = (~found).astype(np.intp) @ A.T.astype(np.intp)
        lost = np.maximum(m - left, 0).sum(axis=1)
        levels.append(found[np.lexsort((found.sum(axis=1), -lost))[:BEAM]])
    return [np.flatnonzero(union) for level in levels[1:][-3:] for union in level]
