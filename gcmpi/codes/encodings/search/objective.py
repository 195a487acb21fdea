"""The mean error of a code over random straggler sets, and its gradient in closed form.

With columns b_i of B at unit norm, ``min_R ||F - B_S R||^2 + eps ||R||^2`` is what is lost with
ridge decoding. Its R is differentiable, so by the envelope theorem the derivative by B_S is that
with R held fixed: ``-2 (F - B_S R) R'``. All R of one B come from one inverse H = (B'B + eps I)^-1:
with X = H B'F, losing the workers T turns X into ``X - H[:, T] H_TT^-1 X_T``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import Array, BoolArray, IntArray


@dataclass(frozen=True)
class Stragglers:
    """Straggler sets of different sizes, padded.

    Attributes
    ----------
    workers : (sets, p)
        Distinct workers in each row; the first of them straggle.
    lost : (sets, p)
        Which of them straggle.
    weights : (sets,) or None
        How much each set counts in a mean; all the same if None.
    """

    workers: IntArray
    lost: BoolArray
    weights: Array | None = None

    @classmethod
    def draw(cls, n: int, counts: IntArray, rng: np.random.Generator) -> Stragglers:
        """Draw a set of each of these sizes."""
        p = int(counts.max(initial=0))
        order = rng.random((len(counts), n)).argsort(axis=1)
        return cls(order[:, :p], np.arange(p) < counts[:, None])

    @classmethod
    def of(cls, late: BoolArray, weights: Array | None = None) -> Stragglers:
        """Return the sets whose stragglers are marked in the rows of `late` (sets, n)."""
        counts = late.sum(axis=1, dtype=np.intp)
        p = int(counts.max(initial=0))
        order = np.argsort(~late, axis=1, kind="stable")
        return cls(order[:, :p], np.arange(p) < counts[:, None], weights)

    def late(self, n: int) -> BoolArray:
        """Return who straggles, (sets, n)."""
        marks = np.zeros((len(self.workers), n), dtype=np.bool_)
        np.put_along_axis(marks, self.workers, self.lost, axis=1)
        return marks

    def mean(self, values: Array) -> float:
        """Return the mean of one value a set, shape (sets,)."""
        return float(np.average(values, weights=self.weights))


def unit_columns(B: Array) -> tuple[Array, Array]:
    """Return B with columns of norm one, and the norms (n,), 1 for a column of zeros."""
    norms = np.sqrt(np.einsum("ri,ri->i", B, B))
    norms = np.where(norms > 0, norms, 1.0)
    return B / norms, norms


def decodings(U: Array, m: int, stragglers: Stragglers, eps: float) -> tuple[Array, Array]:
    """Return the ridge decoding matrices of U with unit columns, and what is lost with them.

    Returns
    -------
    R : (sets, n, m)
    losses : (sets,)
        ``min_R ||F - U_S R||^2 + eps ||R||^2``.
    """
    rows, n = U.shape
    P = U.reshape(m, rows // m, n).sum(axis=1).T  # U'F
    H = np.linalg.inv(U.T @ U + eps * np.eye(n))
    X = H @ P
    T, lost = stragglers.workers, stragglers.lost
    H_TT = H[T[:, :, None], T[:, None, :]] * (lost[:, :, None] & lost[:, None, :])
    p = np.arange(T.shape[1])
    H_TT[:, p, p] += ~lost  # the padding solves 1 y = 0
    W = np.zeros((len(T), n, m))
    y = np.linalg.solve(H_TT, X[T] * lost[:, :, None])
    np.put_along_axis(W, T[:, :, None], y, axis=1)
    R: Array = X - H @ W
    return R, rows - np.einsum("nm,snm->s", P, R)


def losses(B: Array, m: int, stragglers: Stragglers, eps: float) -> Array:
    """Return what each straggler set costs, shape (sets,)."""
    return decodings(unit_columns(B)[0], m, stragglers, eps)[1]


def mean_and_gradient(B: Array, m: int, stragglers: Stragglers, eps: float) -> tuple[float, Array]:
    """Return the mean over the sets of what is lost, and its derivative by B, (m * k, n)."""
    U, norms = unit_columns(B)
    R, lost = decodings(U, m, stragglers, eps)
    n = B.shape[1]
    summed = R.sum(axis=0)
    if stragglers.weights is not None:
        share = stragglers.weights / stragglers.weights.mean()
        summed = np.tensordot(share, R, axes=1)
        R = R * np.sqrt(share)[:, None, None]
    flat = R.transpose(1, 0, 2).reshape(n, -1)
    # the sum over the sets of -(F - U R) R', where row (u, j) of F R' is column u of R
    gradient = U @ (flat @ flat.T) - np.repeat(summed.T, B.shape[0] // m, axis=0)
    gradient *= 2 / len(lost)
    gradient -= U * np.einsum("ri,ri->i", U, gradient)  # U is scaled to unit norm
    return stragglers.mean(lost), gradient / norms
