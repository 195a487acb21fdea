"""Dual frames: encodings whose blocks are left inverses of one matrix on the holders of a subset.

For K = [R Z] with R (n, m) and Z (n, t) let B_j (m, gamma_j), the coefficients of subset j, be
the first m rows of a left inverse of K(H_j), the rows of K at the workers H_j that hold it. Then
B R = F and B Z = 0, so the code is exact when nobody straggles. It is exact for every s <= t
stragglers too if every t rows of Z are independent: for the stragglers T solve Z_T X = R_T; then
R - Z X is zero on T and B (R - Z X) = F.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.codes.code import check_assignment

FULL_RANK = 1e-8
"""Largest entry of K^+ K - I up to which K(H_j) counts as of full column rank."""


class Holders(NamedTuple):
    """The workers of each subset, padded to a common number.

    Attributes
    ----------
    workers : (k, gamma)
        The holders of each subset, then other workers.
    held : (k, gamma)
        Which of them are holders.
    """

    workers: IntArray
    held: BoolArray

    @classmethod
    def of(cls, A: AnyArray) -> Holders:
        """Read them from the assignment matrix A (k, n)."""
        gamma = A.sum(axis=1, dtype=np.intp)
        first = np.argsort(A == 0, axis=1, kind="stable")
        held: BoolArray = np.arange(gamma.max()) < gamma[:, None]
        return cls(first[:, : gamma.max()], held)

    def rows(self, K: Array) -> Array:
        """Return K(H_j) for each subset, zeros where there is no holder: (k, gamma, r)."""
        rows: Array = K[self.workers] * self.held[:, :, None]
        return rows

    def gather(self, B: Array, m: int) -> Array:
        """Return the coefficients (k, m, gamma) of an encoding matrix B (m * k, n)."""
        k, gamma = self.workers.shape
        blocks = B.reshape(m, k, -1).transpose(1, 0, 2)
        index = np.broadcast_to(self.workers[:, None], (k, m, gamma))
        found: Array = np.take_along_axis(blocks, index, axis=2) * self.held[:, None]
        return found

    def scatter(self, blocks: Array, n: int) -> Array:
        """Return the encoding matrix (m * k, n) with coefficients `blocks` (k, m, gamma)."""
        k, m, gamma = blocks.shape
        B = np.zeros((k, m, n))
        index = np.broadcast_to(self.workers[:, None], (k, m, gamma))
        np.put_along_axis(B, index, blocks * self.held[:, None], axis=2)
        return B.transpose(1, 0, 2).reshape(m * k, n)


def dual_frame(A: AnyArray, K: Array, m: int) -> Array | None:
    """Return B with B K = [F 0] of least norm, or None if some K(H_j) has dependent columns.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    K : (n, m + t)
        R and Z side by side.
    m
        Communication reduction factor.

    Returns
    -------
    B : (m * k, n)
    """
    holders = Holders.of(A)
    rows = holders.rows(K)
    inverses: Array = np.asarray(np.linalg.pinv(rows), np.float64)
    if not np.abs(inverses @ rows - np.eye(K.shape[1])).max() < FULL_RANK:
        return None
    return holders.scatter(inverses[:, :m], A.shape[1])


def is_cyclic(A: AnyArray) -> bool:
    """Say whether A stays the same when all subsets and workers move on by one."""
    return bool((np.roll(A, (1, 1), axis=(0, 1)) == A).all())


def largest_t(A: AnyArray, m: int, name: str, t: int | None = None) -> int:
    """Return gamma - m, the most stragglers that a dual frame on A can make good.

    Raises
    ------
    ValueError
        If a subset has fewer than m holders, or fewer than m + t.
    """
    check_assignment(A)
    gammas = A.sum(axis=1, dtype=np.intp)
    j = int(gammas.argmin())
    gamma = int(gammas[j])
    if gamma < m:
        raise ValueError(
            f"{name} needs every subset on at least m={m} workers; subset {j} is on {gamma}: "
            f"take m={gamma} or an assignment with more replication"
        )
    if t is not None and not 0 <= t <= gamma - m:
        raise ValueError(
            f"{name} needs 0 <= t <= gamma - m = {gamma - m} (gamma={gamma}, m={m}), not t={t}"
        )
    return gamma - m


def most_stragglers(n: int, stragglers: int | None, name: str) -> int:
    """Return up to how many stragglers a code is to be good: a quarter of n unless given.

    Raises
    ------
    ValueError
        If it is not in 0..n - 1.
    """
    most = min(-(-n // 4), n - 1) if stragglers is None else stragglers
    if not 0 <= most < n:
        raise ValueError(f"{name} needs stragglers in 0..{n - 1}, not stragglers={stragglers}")
    return most
