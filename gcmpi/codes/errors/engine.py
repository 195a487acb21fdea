"""Err_S = min_R ||B_S R - F||_F^2 over many straggler sets, far cheaper than one solve a set.

Two facts carry this module; both read errors off one Cholesky factor, whose rows grow with the
workers.

* Add survivors one at a time, in any order: with G = B'B and P = B'F, the last m rows of the
  Cholesky factor of ``[[G, P], [P', c I]]`` in that order are Y = P'L^-T, and the error with the
  first p survivors is ``m k`` minus the sum of |Y|^2 over the first p columns. One factor of size
  n gives the errors of n + 1 sets, each contained in the next.
* Remove stragglers one at a time: with H = G^-1 and X = H P, losing the workers T costs exactly
  ``tr X_T' (H_TT)^-1 X_T``, so the same factor of H, of the size of the largest T, gives them all.

The second is cheaper for few stragglers but needs a well-conditioned G. The first is right for any
B with one precaution: the pivots of the factor are the squared sines of the angles between the
column of a worker and those before it, and where one is small the Gram matrix has lost too many
digits. Those orders are orthogonalised anew from B itself, leaving out the workers whose column
depends on those before; in the rare cases that even this leaves open, the set is solved as
`Code.decode` does.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import Array, BoolArray, IntArray
from gcmpi.codes.decoders.least_squares import inverse

DOWNDATE_CONDITION = 1e5
"""Condition of B'B up to which stragglers are removed from its inverse."""
SAFE_PIVOT = 1e-5
"""Squared sine from which the Cholesky factor of G is trusted: Err_S is then good to 1e-10."""
DEPENDENT, INDEPENDENT = 1e-12, 1e-9
"""Sines up to which a column of B counts as dependent on those before, from which as not."""
CHUNK = 1 << 16
"""Matrix entries worked on at a time: 512 KiB, so that they stay in a core's cache."""


class ErrorEngine:
    """min_R ||B_S R - F||_F^2 for one B and many sets S of its columns.

    Parameters
    ----------
    B : (r, n)
        The encoding matrix of a code, r = m k (or any matrix).
    F : (r, m)
        What B R is to be: `target(B, m)` for a code.

    Raises
    ------
    ValueError
        If F has not as many rows as B.
    """

    def __init__(self, B: Array, F: Array) -> None:
        if B.shape[0] != F.shape[0]:
            raise ValueError(f"B and F need equally many rows, not {B.shape[0]} and {F.shape[0]}")
        self.n, self.m = B.shape[1], F.shape[1]
        # the error does not change when a column is scaled; a worker without data keeps its zeros
        scale = np.sqrt(np.einsum("ij,ij->j", B, B))
        self._B = np.asarray(B / np.where(scale > 0, scale, 1.0))
        self._F = F
        self.total = float(np.sum(F**2))  # the error with nobody left
        self._G: Array = self._B.T @ self._B
        self._P: Array = self._B.T @ F

    @cached_property
    def _inverse(self) -> tuple[Array, Array, float] | None:
        """H = G^-1, X = H P and the error when nobody straggles, if G is well conditioned."""
        H = inverse(self._G, DOWNDATE_CONDITION) if self.n <= len(self._B) else None
        if H is None:
            return None
        X: Array = H @ self._P
        return H, X, self.total - float(np.sum(self._P * X))

    def errors(self, survivors: BoolArray) -> Array:
        """Return Err_S for each row of `survivors`, shape (sets,).

        Parameters
        ----------
        survivors : (sets, n) bool
            The workers that answered, one set a row.
        """
        orders = np.argsort(survivors, axis=1, kind="stable")  # stragglers first
        return self.nested(orders, np.sum(~survivors, axis=1)[:, None])[:, 0]

    def nested(self, orders: IntArray, counts: npt.ArrayLike) -> Array:
        """Return the errors when the first s workers of each row straggle, for each s in `counts`.

        Parameters
        ----------
        orders : (sets, n)
            In each row the workers in some order, stragglers first.
        counts : (c,) or (sets, c)
            Straggler counts, 0 to n.

        Returns
        -------
        errors : (sets, c)
        """
        s = np.broadcast_to(counts, (len(orders), np.shape(counts)[-1])).astype(np.intp)
        errors = np.empty(s.shape)
        most, least = int(s.max(initial=0)), int(s.min(initial=self.n))
        downdate = 2 * most <= self.n and self._inverse is not None
        depth = most if downdate else self.n - least
        step = max(1, CHUNK // (depth + self.m) ** 2)
        for start in range(0, len(orders), step):
            part = slice(start, start + step)
            if downdate:
                errors[part] = self._remove(orders[part, :most], s[part])
            else:
                errors[part] = self._add(orders[part, ::-1][:, :depth], self.n - s[part])
        return np.clip(errors, 0.0, self.total, out=errors)

    def _remove(self, stragglers: IntArray, s: IntArray) -> Array:
        """Return the errors without the first s workers of each row."""
        assert self._inverse is not None
        H, X, least = self._inverse
        Y, _ = _factor(_ordered(H, X, stragglers, self.total), self.m)
        errors: Array = least + np.take_along_axis(_running(Y), s, axis=1)
        return errors

    def _add(self, survivors: IntArray, p: IntArray) -> Array:
        """Return the errors with the first p workers of each row."""
        Y = np.zeros((len(survivors), self.m, survivors.shape[1]))  # kept by sets of nobody
        clear = np.zeros(len(survivors), dtype=np.intp)
        with suppress(np.linalg.LinAlgError):  # raised if one set of them is rank deficient
            Y, pivots = _factor(_ordered(self._G, self._P, survivors, self.total), self.m)
            clear = _leading(pivots**2 >= SAFE_PIVOT)
        again = np.flatnonzero(clear < p.max(axis=1, initial=0))
        if again.size:
            C, f = self._compact
            Y[again], clear[again] = _orthogonalise(C.T[survivors[again]], f)
        errors: Array = self.total - np.take_along_axis(_running(Y), p, axis=1)
        for i, j in np.argwhere(p > clear[:, None]):
            errors[i, j] = self._solve(survivors[i, : p[i, j]])
        return errors

    @cached_property
    def _compact(self) -> tuple[Array, Array]:
        """B and F in an orthonormal basis of the column space of B: (r, n) and (r, m)."""
        U, sigma, Vt = np.linalg.svd(self._B, full_matrices=False)
        r = int(np.sum(sigma > max(self._B.shape) * np.finfo(np.float64).eps * sigma[0]))
        return sigma[:r, None] * Vt[:r], U[:, :r].T @ self._F

    def _solve(self, workers: IntArray) -> float:
        """Return the error with these workers from a rank-revealing least-squares solve."""
        B_S = self._B[:, workers]
        R = np.linalg.lstsq(B_S, self._F, rcond=None)[0]
        return float(np.sum((B_S @ R - self._F) ** 2))


def target(B: Array, m: int) -> Array:
    """Return F = I_m kron 1_k of the code with encoding matrix B (m * k, n), shape (m * k, m).

    Raises
    ------
    ValueError
        If the number of rows of B is not a multiple of m.
    """
    k, rest = divmod(B.shape[0], m)
    if rest:
        raise ValueError(f"B must have m*k rows, a multiple of m={m}, not {B.shape[0]}")
    return np.asarray(np.kron(np.eye(m), np.ones((k, 1))))


def _ordered(M: Array, V: Array, orders: IntArray, bound: float) -> Array:
    """Return [[M, V], [V', c I]] in each order of M's rows, c above V_T' M_TT^-1 V_T <= bound.

    Shapes: M (n, n), V (n, m), orders (sets, p); returns (sets, p + m, p + m).
    """
    n, m = V.shape
    whole = np.block([[M, V], [V.T, (bound + 1) * np.eye(m)]])
    index = np.hstack([orders, np.broadcast_to(np.arange(n, n + m), (len(orders), m))])
    ordered: Array = whole[index[:, :, None], index[:, None, :]]
    return ordered


def _factor(M: Array, m: int) -> tuple[Array, Array]:
    """Return the last m rows of the Cholesky factors, and their pivots.

    Shapes: M (sets, p + m, p + m); returns Y (sets, m, p) and pivots (sets, p).
    """
    p = M.shape[1] - m
    L = np.asarray(np.linalg.cholesky(M), dtype=np.float64)
    return L[:, p:, :p], np.diagonal(L, axis1=1, axis2=2)[:, :p]


def _orthogonalise(V: Array, f: Array) -> tuple[Array, IntArray]:
    """Return f'Q for Q the Gram-Schmidt basis of the rows of V, and how many are beyond doubt.

    Twice is enough: a second pass makes Q orthonormal to rounding. A row that depends on those
    before it gets a zero in place of a basis vector.

    Shapes: V (sets, p, r), f (r, m); returns Y (sets, m, p) and counts (sets,).
    """
    Q, clear = np.zeros_like(V), np.ones(V.shape[:2], dtype=np.bool_)
    found = np.zeros(len(V), dtype=np.intp)
    for i in range(V.shape[1]):
        if found.min(initial=V.shape[2]) == V.shape[2]:
            break  # the bases are complete: all other rows depend on them
        v, before = V[:, i, :, None], Q[:, :i]
        for _ in range(2):
            v = v - before.transpose(0, 2, 1) @ (before @ v)
        sine = np.sqrt(np.sum(v**2, axis=1))
        kept = sine > DEPENDENT
        found += kept[:, 0]
        Q[:, i] = v[:, :, 0] / np.where(kept, sine, np.inf)
        clear[:, i] = (~kept | (sine >= INDEPENDENT))[:, 0]
    return (Q @ f).transpose(0, 2, 1), _leading(clear)


def _running(Y: Array) -> Array:
    """Return the sums of |Y|^2 over the first 0, 1, .. p columns, shape (sets, p + 1)."""
    sums = np.zeros((Y.shape[0], Y.shape[2] + 1))
    np.cumsum(np.sum(Y**2, axis=1), axis=1, out=sums[:, 1:])
    return sums


def _leading(clear: BoolArray) -> IntArray:
    """Return how many entries of each row come before the first False."""
    count: IntArray = np.cumprod(clear, axis=1, dtype=np.intp).sum(axis=1)
    return count
