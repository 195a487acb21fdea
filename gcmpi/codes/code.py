"""A gradient code: assignment A, encoding B, communication reduction factor m.

Notation of Munim and Ramamoorthy, *Communication-Efficient Approximate Gradient Coding*
(arXiv 2603.22514). Row ``u * k + j`` of B belongs to part u of subset j; workers are columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray


@dataclass(frozen=True, eq=False)
class Code:
    """A code for n workers and k data subsets whose messages have length ceil(d / m).

    Parameters
    ----------
    A : (k, n), zeros and ones
        Assignment matrix: ``A[j, i] = 1`` iff worker i holds subset j.
    B : (m * k, n)
        Encoding matrix, m blocks of k rows one below the other, each with the support of A.
    m
        Communication reduction factor.

    Raises
    ------
    ValueError
        If a shape is wrong, A is not zeros and ones, a subset has no worker, or B is not finite
        or has a non-zero entry where A has none.
    """

    A: AnyArray
    B: AnyArray
    m: int

    def __post_init__(self) -> None:
        A, B, m = np.asarray(self.A), np.asarray(self.B, dtype=np.float64), self.m
        if m < 1:
            raise ValueError(f"m must be at least 1, not {m}")
        check_assignment(A)
        k, n = A.shape
        if B.shape != (m * k, n):
            raise ValueError(f"B must have shape (m*k, n) = ({m * k}, {n}), not {B.shape}")
        if not np.isfinite(B).all():
            raise ValueError("B must be finite")
        if ((B.reshape(m, k, n) != 0) & (A == 0)).any():
            raise ValueError("B must be zero wherever A is: a worker encodes only what it holds")
        object.__setattr__(self, "A", _frozen(A.astype(np.uint8)))
        object.__setattr__(self, "B", _frozen(B))

    def __repr__(self) -> str:
        """Return the code in one line."""
        return (
            f"Code: {self.n} workers, {self.k} subsets, m={self.m}, load {self.delta}, "
            f"replication {self.gamma}"
        )

    @property
    def k(self) -> int:
        """The number of data subsets."""
        return int(self.A.shape[0])

    @property
    def n(self) -> int:
        """The number of workers."""
        return int(self.A.shape[1])

    @cached_property
    def delta(self) -> int:
        """The computation load: subsets held by the worker that holds most."""
        return int(self.A.sum(axis=0, dtype=np.intp).max())

    @cached_property
    def gamma(self) -> int:
        """The replication factor: workers holding the subset that is held least."""
        return int(self.A.sum(axis=1, dtype=np.intp).min())

    @cached_property
    def plain_gradients(self) -> int:
        """The most gradients of a model of one's own that a worker computes.

        One over all rows of a worker whose coefficients of each part are the same for all of its
        subsets; otherwise one a subset.
        """
        blocks = self.B.reshape(self.m, self.k, self.n)
        held = self.A != 0
        highest = np.where(held, blocks, -np.inf).max(axis=1)
        lowest = np.where(held, blocks, np.inf).min(axis=1)
        same = ((highest == lowest) | ~held.any(axis=0)).all(axis=0)
        loads = self.A.sum(axis=0, dtype=np.intp)
        return int(np.where(same, np.minimum(loads, 1), loads).max())

    @cached_property
    def target(self) -> Array:
        """F = I_m kron 1_k, shape (m * k, m): what B R has to be."""
        return np.repeat(np.eye(self.m), self.k, axis=0)

    def subsets(self, i: int) -> IntArray:
        """Return the subsets of worker i, ascending, shape (delta_i,)."""
        return np.flatnonzero(self.A[:, i])

    def coefficients(self, i: int) -> Array:
        """Return worker i's coefficients, shape (m, delta_i): part u of its subset j counts so."""
        blocks: Array = self.B.reshape(self.m, self.k, self.n)[:, self.subsets(i), i]
        return blocks

    def encode(self, i: int, G: AnyArray) -> AnyArray:
        """Return worker i's message from its subset gradients.

        Parameters
        ----------
        i
            The worker.
        G : (delta_i, d)
            The gradients over ``subsets(i)``, in that order.

        Returns
        -------
        y : (ceil(d / m),), the type of G
        """
        return encode(self.coefficients(i), G)

    def decode(self, survivors: BoolArray) -> Array:
        """Return R minimising ||B R - F||_F with zero rows for stragglers, shape (n, m).

        The least-squares solution, by a rank-revealing factorisation of B with columns of norm 1:
        B may be rank deficient, and the size of a column does not matter. With no survivor R is
        zero.

        Parameters
        ----------
        survivors : (n,) bool
            The workers that answered.

        Raises
        ------
        ValueError
            If `survivors` is not a boolean array of shape (n,).
        """
        survivors = self.check_survivors(survivors)
        R = np.zeros((self.n, self.m))
        size = np.linalg.norm(self.B, axis=0)
        used = survivors & (size > 0)
        if used.any():
            unit = self.B[:, used] / size[used]
            R[used] = np.linalg.lstsq(unit, self.target, rcond=None)[0] / size[used, None]
        return R

    def error(self, survivors: BoolArray) -> float:
        """Return Err_S = min_R ||B_S R - F||_F^2, between 0 (exact) and m k."""
        return self.residual(self.decode(survivors))

    def residual(self, R: Array) -> float:
        """Return ||B R - F||_F^2 of a decoding matrix R, shape (n, m)."""
        return float(np.sum((self.B @ R - self.target) ** 2))

    def check_survivors(self, survivors: BoolArray) -> BoolArray:
        """Return `survivors` as an array; refuse anything but booleans of shape (n,)."""
        survivors = np.asarray(survivors)
        if survivors.dtype != np.bool_ or survivors.shape != (self.n,):
            raise ValueError(
                f"survivors must be booleans of shape (n,) = ({self.n},), "
                f"not {survivors.dtype} of shape {survivors.shape}"
            )
        return survivors


def check_assignment(A: AnyArray) -> None:
    """Refuse an assignment matrix that is not (k, n) zeros and ones or leaves a subset out."""
    if A.ndim != 2 or not np.isin(A, (0, 1)).all():
        raise ValueError(f"A must be a (k, n) matrix of zeros and ones, not of shape {A.shape}")
    alone = np.flatnonzero(~A.any(axis=1))
    if alone.size:
        raise ValueError(f"every subset needs a worker: subset {alone[0]} has none")


def complete_assignment(made: object) -> AnyArray:
    """Return what a user's assignment made as (k, n) zeros and ones.

    Raises
    ------
    ValueError
        If it is no assignment matrix; the message follows the assignment's name.
    """
    try:
        A = np.asarray(made)
        check_assignment(A)
    except ValueError as error:
        raise ValueError(f"must give a (k, n) matrix of zeros and ones: {error}") from error
    return A.astype(np.uint8)


def complete_encoding(made: object, A: AnyArray, m: int) -> Array:
    """Return the encoding matrix that a user's encoding made, shape (m * k, n).

    Raises
    ------
    ValueError
        If it is no encoding matrix for A and m; the message follows the encoding's name.
    """
    k, n = A.shape
    layout = f"(m*k, n) = ({m * k}, {n}), where row u*k + j is part u of subset j"
    try:
        B = np.asarray(made, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"must give a matrix of shape {layout}, not {made!r:.60}") from None
    if B.shape != (m * k, n):
        raise ValueError(f"must give a matrix of shape {layout}, not {B.shape}")
    if not np.isfinite(B).all():
        u_j, i = np.argwhere(~np.isfinite(B))[0]
        raise ValueError(f"must give finite numbers, not {B[u_j, i]} in row {u_j} of worker {i}")
    outside = np.argwhere((B.reshape(m, k, n) != 0) & (A == 0))
    if outside.size:
        u, j, i = outside[0]
        raise ValueError(
            f"gives worker {i} a coefficient for subset {j}, which it does not hold "
            f"(row {u * k + j} of B): B must be zero wherever A is, and row u*k + j is part u of "
            "subset j"
        )
    return B


def message_length(d: int, m: int) -> int:
    """Return ceil(d / m), the length of a coded vector."""
    return -(-d // m)


def encode(coefficients: Array, G: AnyArray) -> AnyArray:
    """Return sum_j sum_u coefficients[u, j] * (part u of G[j]), shape (ceil(d / m),).

    Each gradient is zero-padded to a multiple of m and cut into m consecutive parts.

    Parameters
    ----------
    coefficients : (m, h)
        Row u weighs part u.
    G : (h, d)
        One gradient a row.
    """
    m = coefficients.shape[0]
    length = message_length(G.shape[1], m)
    y = np.zeros(length, dtype=G.dtype)
    for u in range(m):
        part = G[:, u * length : (u + 1) * length]
        y[: part.shape[1]] += coefficients[u].astype(G.dtype) @ part
    return y


def combine(R: Array, Y: AnyArray, d: int) -> AnyArray:
    """Return the decoded gradient: the m columns of Y' R one after the other, padding cut off.

    Parameters
    ----------
    R : (n, m)
        Decoding matrix; rows of zeros mark workers whose message is not used.
    Y : (n, ceil(d / m))
        The workers' messages. A row that R does not use may hold anything, NaN included.
    d
        Length of the gradient.
    """
    used = R.any(axis=1)
    decoded: AnyArray = R[used].T.astype(Y.dtype) @ Y[used]
    return decoded.ravel()[:d]


def _frozen(array: AnyArray) -> AnyArray:
    array = np.array(array)
    array.flags.writeable = False
    return array
