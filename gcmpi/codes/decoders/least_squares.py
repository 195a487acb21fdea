"""Decoding matrices R (n, m) from a code and the workers that answered.

All decoders here give the least-squares R of the paper, ``argmin ||B R - F||_F`` with zero rows
for stragglers, or with a ridge the one that is best for noisy messages, see `ridge`; they differ
in what they may assume and so in what they cost. `Downdate` is made for one code; `decoder_for`
chooses among those for any code; `sparse_least_squares` serves codes too large for a dense `Code`.

With G = B'B, H = G^-1, P = B'F and X = H P (the decoding matrix when nobody straggles), the
decoding matrix without the stragglers T is the downdate ``X - H[:, T] H[T, T]^-1 X[T]``: an
s x s system instead of a new least-squares problem. Normal equations square the condition number,
so they are used only while cond(G) <= `MAX_CONDITION`: the relative error of R then stays near
2e-8, below the rounding of float32 messages, and that of Err_S near its square. Otherwise (a rank
deficient B, n > m k) the rank-revealing `Code.decode` answers. A ridge eps is added to the diagonal
of G as eps times it, which bounds the condition number by about n / eps.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray
from gcmpi.codes.assignments.structure import components
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.components import ByComponent
from gcmpi.codes.decoders.made import Decode
from gcmpi.formats import NOISE_POWER, SHORT, WireType
from gcmpi.registry import called_by_name

MAX_CONDITION = 1e8
SMALL = 64
"""Workers up to which `Code.decode` is as fast as forming a new Gram matrix."""


class Decoder(Protocol):
    """Returns the decoding matrix R (n, m) for the survivors (n,) bool."""

    def __call__(self, code: Code, survivors: BoolArray) -> Array:
        """Return R, with zero rows for stragglers."""


def always(decode: Decode) -> Decoder:
    """Return a decoder for callers that have one code only, the one that `decode` was made for."""

    def decoder(code: Code, survivors: BoolArray) -> Array:
        del code
        return decode(survivors)

    return decoder


def complete(made: object) -> Decoder:
    """Return a user's decoder with its answers checked.

    Raises
    ------
    ValueError
        If it cannot be called with a code and survivors.
    """
    if not callable(made):
        words = "must be a function of code and survivors that returns R (n, m)"
        raise ValueError(f"{words}, not {made!r:.60}")

    def decode(code: Code, survivors: BoolArray) -> Array:
        said = called_by_name(made, code=code, survivors=survivors)
        R = np.asarray(said, dtype=np.float64)
        if R.shape != (code.n, code.m):
            raise ValueError(
                f"the decoder must return R of shape (n, m) = ({code.n}, {code.m}), not {R.shape}"
            )
        if (R[~survivors] != 0).any():
            late = int(np.flatnonzero(~survivors & (R != 0).any(axis=1))[0])
            raise ValueError(
                f"the decoder must leave zeros in the rows of stragglers, but row {late} of R, a "
                "straggler's, is not zero"
            )
        return R

    return decode


def decoder_for(n: int, *, eps: float = 0.0) -> Decoder:
    """Return the fastest decoder for codes of n workers whose B is another one in every call.

    Parameters
    ----------
    n
        The number of workers.
    eps
        Of a ridge; 0 for none.
    """
    if n > SMALL:
        return NormalEquations(eps)
    return partial(ridge, eps=eps) if eps else least_squares


def least_squares(code: Code, survivors: BoolArray) -> Array:
    """Return `Code.decode`: rank revealing, nothing remembered."""
    return code.decode(survivors)


class Downdate:
    """Least squares for one code.

    B'B is inverted once; a call costs O(s^3 + n s m) for s stragglers. Where workers share no
    subset with the others, as in groups, R is solved for by `ByComponent`. The answers for the
    last `keep` survivor sets are remembered; they are read-only.

    Parameters
    ----------
    code
        The code.
    keep
        How many decoding matrices to remember.
    eps
        Of a ridge; 0 for none.
    """

    def __init__(self, code: Code, keep: int = 64, eps: float = 0.0) -> None:
        self._code, self._keep, self._solve = code, keep, _solver(code, eps)
        self._known: dict[bytes, Array] = {}

    def __call__(self, survivors: BoolArray) -> Array:
        """Return R (n, m).

        Raises
        ------
        ValueError
            If `survivors` is not a boolean array of shape (n,).
        """
        survivors = self._code.check_survivors(survivors)
        key = survivors.tobytes()
        R = self._known.pop(key, None)
        if R is None:
            R = self._solve(survivors)
            R.flags.writeable = False
        self._known[key] = R  # most recent last
        if len(self._known) > self._keep:
            del self._known[next(iter(self._known))]
        return R


def _solver(code: Code, eps: float) -> Decode:
    """Return the fastest least squares for many sets of survivors of one code."""
    return ByComponent(code, eps) if components(code.A).any() else _Downdated(code, eps)


class _Downdated:
    """`Downdate` of one code whose workers are all in one component."""

    def __init__(self, code: Code, eps: float) -> None:
        self._code, self._eps = code, eps
        wide = code.n > code.m * code.k and not eps
        self._H = None if wide else _ridged_inverse(code.B.T @ code.B, eps)
        if self._H is not None:
            self._X = self._H @ (code.B.T @ code.target)

    def __call__(self, survivors: BoolArray) -> Array:
        if self._H is None:
            return _by_factorisation(self._code, survivors, self._eps)
        T = np.flatnonzero(~survivors)
        rows = self._H[T]  # H is symmetric, and its rows lie together in memory
        R: Array = self._X - rows.T @ np.linalg.solve(rows[:, T], self._X[T])
        R[T] = 0.0
        return R


class NormalEquations:
    """Least squares for a code whose B is redrawn but whose A stays the same.

    Solves (B_S'B_S) R_S = B_S'F. If all subsets of a worker have the same weight in each part, as
    in `random_diagonal`, B'B is (A'A) o (D'D), the entrywise product, with D (m, n) the weights:
    A'A is computed once, so that forming B'B costs O(n^2 m).

    Parameters
    ----------
    eps
        Of a ridge; 0 for none.
    """

    def __init__(self, eps: float = 0.0) -> None:
        self._eps = eps
        self._A: AnyArray | None = None
        self._AA: Array | None = None
        self._several = False

    def __call__(self, code: Code, survivors: BoolArray) -> Array:
        """Return R (n, m).

        Raises
        ------
        ValueError
            If `survivors` is not a boolean array of shape (n,).
        """
        survivors = code.check_survivors(survivors)
        if self._splits(code):
            return ByComponent(code, self._eps)(survivors)
        R = np.zeros((code.n, code.m))
        if not survivors.any():
            return R
        H = _ridged_inverse(self._gram(code)[np.ix_(survivors, survivors)], self._eps)
        if H is None:
            return _by_factorisation(code, survivors, self._eps)
        P = code.B.reshape(code.m, code.k, code.n).sum(axis=1).T
        R[survivors] = H @ P[survivors]
        return R

    def _splits(self, code: Code) -> bool:
        """Say whether there are several components; remember the assignment that was asked for."""
        if self._A is None or not np.array_equal(self._A, code.A):
            self._A, self._AA = code.A, None
            self._several = bool(components(code.A).any())
        return self._several

    def _gram(self, code: Code) -> Array:
        D = equal_weights(code)
        if D is None:
            G: Array = code.B.T @ code.B
            return G
        if self._AA is None:
            A = code.A.astype(np.float64)
            self._AA = A.T @ A
        return self._AA * (D.T @ D)


def auto(code: Code, survivors: BoolArray, wire: WireType = "float32") -> Array:
    """Least squares; for float16 and bfloat16 messages the ridge that matches them.

    Parameters
    ----------
    code
        Any code.
    survivors : (n,) bool
        The workers that answered.
    wire
        The type of the messages.

    Returns
    -------
    R : (n, m)

    Raises
    ------
    ValueError
        If `survivors` is not a boolean array of shape (n,).
    """
    return _by_factorisation(code, survivors, auto_eps(wire))


def auto_eps(wire: WireType) -> float:
    """Return the eps of `auto`: 0, but the noise power of float16 and bfloat16 messages."""
    return NOISE_POWER[wire] if wire in SHORT else 0.0


def ridge_eps(wire: WireType, eps: float | None = None) -> float:
    """Return the eps of `ridge`: the noise power of the messages, if none is given.

    Raises
    ------
    ValueError
        If eps is not positive.
    """
    eps = NOISE_POWER[wire] if eps is None else eps
    if not eps > 0:
        raise ValueError(f"ridge needs eps > 0, not eps={eps}")
    return eps


def ridge(
    code: Code,
    survivors: BoolArray,
    wire: WireType = "float32",
    eps: float | None = None,
) -> Array:
    """Least squares with a ridge: little error from the code, and little from noisy messages.

    R minimises ||B R - F||^2 + eps ||D R||^2, D the norms of the columns of B. When each message
    carries noise of relative power eps and parts of subset gradients are uncorrelated, this is
    the mean square error of the decoded gradient; it keeps an exact code useful when the
    survivors are nearly singular. Solved by a rank-revealing factorisation of B_S over
    sqrt(eps) D, so that a small eps loses no digits.

    Parameters
    ----------
    code
        Any code.
    survivors : (n,) bool
        The workers that answered.
    wire
        The type of the messages, which says how noisy they are.
    eps
        Their relative noise power, if it is not that of the type.

    Returns
    -------
    R : (n, m)

    Raises
    ------
    ValueError
        If eps is not positive, or `survivors` is not a boolean array of shape (n,).
    """
    eps = ridge_eps(wire, eps)
    survivors = code.check_survivors(survivors)
    R = np.zeros((code.n, code.m))
    norms = np.linalg.norm(code.B, axis=0)
    used = survivors & (norms > 0)
    count = int(used.sum())
    if count:
        stacked, target = ridged(code.B[:, used] / norms[used], code.target, eps)
        R[used] = np.linalg.lstsq(stacked, target, rcond=None)[0] / norms[used, None]
    return R


def ridged(B: Array, F: Array, eps: float) -> tuple[Array, Array]:
    """Return the plain least-squares problem with the same solution as a ridge of eps.

    B over sqrt(eps) D, D the norms of its columns, and F over zeros: (r + n, n) and (r + n, m).
    """
    n = B.shape[1]
    D = np.diag(np.sqrt(eps) * np.linalg.norm(B, axis=0))
    return np.vstack([B, D]), np.vstack([F, np.zeros((n, F.shape[1]))])


def _ridged_inverse(G: Array, eps: float) -> Array | None:
    """Return (G + eps D^2)^-1, D^2 the diagonal of G; None if R would be wrong by too much.

    With a ridge R may be wrong by a hundredth of the noise that it is for.
    """
    if not eps:
        return inverse(G)
    return inverse(G + eps * np.diag(np.diagonal(G)), max(MAX_CONDITION, 5e13 * np.sqrt(eps)))


def _by_factorisation(code: Code, survivors: BoolArray, eps: float) -> Array:
    return ridge(code, survivors, eps=eps) if eps else code.decode(survivors)


def noise_gain(code: Code, R: Array) -> float:
    """Return the relative noise of the decoded gradient per relative noise of the messages.

    ||D R|| / sqrt(m k), D the norms of the columns of B: with uncorrelated parts of equal power
    in the subset gradients and independent noise in the messages.

    Parameters
    ----------
    R : (n, m)
        Decoding matrix.
    """
    norms = np.linalg.norm(code.B, axis=0)
    return float(np.linalg.norm(norms[:, None] * R) / np.sqrt(code.m * code.k))


def equal_weights(code: Code) -> Array | None:
    """Return D (m, n) with ``A_u = A diag(D[u])`` for every block of B, or None."""
    blocks = code.B.reshape(code.m, code.k, code.n)
    first = code.A.argmax(axis=0)  # a subset of each worker; an idle worker has weight 0
    D: Array = blocks[:, first, np.arange(code.n)]
    return D if (blocks == code.A * D[:, None, :]).all() else None


def inverse(G: Array, worst: float = MAX_CONDITION) -> Array | None:
    """Return the inverse of a Gram matrix, or None if its condition number is above `worst`.

    The condition is that of the matrix with rows and columns scaled to a unit diagonal: the least
    squares problem behind it does not change when a column of B is scaled.

    Parameters
    ----------
    G : (n, n)
        Symmetric and positive semi-definite.
    """
    scale = np.sqrt(np.diagonal(G))
    if not scale.all():
        return None
    unit = G / (scale[:, None] * scale)
    try:
        H: Array = np.linalg.inv(unit)
    except np.linalg.LinAlgError:
        return None
    condition = np.linalg.norm(unit, 1) * np.linalg.norm(H, 1)
    if not condition <= worst:  # NaN included
        return None
    symmetric: Array = (H + H.T) / (2 * scale[:, None] * scale)
    return symmetric


def pseudo_inverse(B: Array, eps: float = 0.0) -> Array:
    """Return B^+ (s, r) of columns that are scaled to norm 1, and scaled back.

    What `least_squares` and `ridge` multiply F by. B B^+ is the orthogonal projection on the range
    of B when eps is 0.

    Parameters
    ----------
    B : (r, s)
        Columns of an encoding matrix.
    eps
        That of a ridge; 0 for none.
    """
    if not B.size:
        return np.zeros(B.T.shape)
    norms = np.linalg.norm(B, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    T = B / norms
    wide = T.shape[1] > T.shape[0]
    G = T @ T.T if wide else T.T @ T
    H = inverse(G + eps * np.eye(len(G)))
    if H is None:
        U, sigma, Vt = np.linalg.svd(T, full_matrices=False)
        small = max(T.shape) * np.finfo(np.float64).eps * sigma.max(initial=0.0)
        weight = np.where(sigma > small, sigma / np.where(sigma > 0, sigma**2 + eps, 1.0), 0.0)
        X = (Vt.T * weight) @ U.T
    else:
        X = T.T @ H if wide else H @ T.T
    inverted: Array = X / norms[:, None]
    return inverted


def sparse_least_squares(B: Any, m: int, survivors: BoolArray, tolerance: float = 1e-12) -> Array:
    """Return R for a sparse B, by the iterative method LSMR: for n of ten thousand and more.

    No Gram matrix is formed: that of a projective plane is full. The number of iterations grows
    with the condition number of B_S; a rank-deficient B_S is no obstacle.

    Parameters
    ----------
    B : (m * k, n), a scipy.sparse array
        Encoding matrix.
    m
        Communication reduction factor.
    survivors : (n,) bool
        The workers that answered.
    tolerance
        Relative to the norms of B_S and F, as `atol` and `btol` of LSMR.

    Returns
    -------
    R : (n, m)

    Raises
    ------
    ValueError
        If the shapes do not fit, or B_S is so ill conditioned that LSMR does not converge.
    """
    from scipy.sparse.linalg import lsmr

    rows, n = B.shape
    survivors = np.asarray(survivors)
    if rows % m or survivors.dtype != np.bool_ or survivors.shape != (n,):
        raise ValueError(
            f"sparse_least_squares needs B (m*k, n) and n booleans, not B of shape {B.shape} "
            f"with m={m} and survivors {survivors.dtype} of shape {survivors.shape}"
        )
    R = np.zeros((n, m))
    if not survivors.any():
        return R
    B_S = B.tocsc()[:, np.flatnonzero(survivors)].tocsr()
    f = np.zeros(rows)
    for u in range(m):
        f[:] = 0.0
        f[u * (rows // m) : (u + 1) * (rows // m)] = 1.0
        solved = lsmr(B_S, f, atol=tolerance, btol=tolerance, conlim=0, maxiter=10 * n)
        if solved[1] == 7:
            raise ValueError(
                f"sparse_least_squares did not reach tolerance={tolerance} in {10 * n} "
                f"iterations: B_S is too ill conditioned (about {solved[6]:.0e})"
            )
        R[survivors, u] = solved[0]
    return R
