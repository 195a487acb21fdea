"""Exact codes that send d/m numbers: any n - s replies give the gradient, s = gamma - m."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.assignments.structure import cyclic_load, groups
from gcmpi.codes.encodings.exact import condition_number
from gcmpi.codes.theorems import GROUPS
from gcmpi.registry import ENCODINGS

Order = Literal["alternating", "ascending"]


@ENCODINGS.register(
    "ye-abbe", {}, {"order": "ascending"}, exact=True, tolerant=True, decoder="vandermonde"
)
def ye_abbe(A: AnyArray, m: int, order: Order = "alternating") -> Array:
    """Polynomial code of Ye and Abbe: exact for s = delta - m stragglers; n up to about 20.

    Worker i's message is the value at `points` theta_i of a polynomial of degree below n - s
    whose coefficients of degree n - delta, .., n - s - 1 are the m parts of the gradient. Part
    u of subset j contributes a polynomial p that is 0 at the workers that don't hold j:
    p_1(x) = prod (x - theta_i) over these, and p_u = x p_(u-1) - c p_1, c the coefficient of
    degree n - delta - 1 of p_(u-1), which makes the other leading coefficients zero.

    Interpolation at real points is ill conditioned: the Vandermonde system of the source leaves
    about five digits at n = 30 and s = m = 2, and none at n = 40. The source names the set of the
    points but not which worker has which; the order counts, for rounded messages most.

    Parameters
    ----------
    A : (n, n)
        The assignment ``cyclic``, delta >= m.
    m
        Communication reduction factor.
    order
        Of the points, see `points`: alternating loses fewer digits.

    Returns
    -------
    B : (m * n, n)

    Raises
    ------
    ValueError
        If A is not cyclic, m is above delta, or n is so large that numbers overflow.

    References
    ----------
    Ye and Abbe, Communication-computation efficient gradient coding, ICML 2018.
    """
    delta, n = cyclic_load("encoding ye-abbe", A), A.shape[1]
    _at_least_m_holders("encoding ye-abbe", A, m)
    theta = points(n, order)
    if (n - delta + m) * np.log10(n + 1.0) > 300:
        raise ValueError(
            f"encoding ye-abbe would overflow double precision with n={n} workers, and is useless "
            "long before: use n <= 20, or --encoding gaussian-exact"
        )
    B = np.zeros((m, n, n))
    for j in range(n):
        # coefficients by ascending degree; of no zeros np.poly is a number
        first = np.atleast_1d(np.poly(theta[(j + np.arange(1, n - delta + 1)) % n]))[::-1]
        p = np.zeros(n - delta + m)
        p[: n - delta + 1] = first
        for u in range(m):
            if u:
                p = np.roll(p, 1)  # times x: the last coefficient is zero
                p[: n - delta + 1] -= p[n - delta] * first
            B[u, j] = np.polynomial.polynomial.polyval(theta, p)
    return (B * A).reshape(m * n, n)


def points(n: int, order: Order = "alternating") -> Array:
    """Return the points of Ye and Abbe, (n,): +-(1 + i/2) for i < n/2, and 0 first for odd n.

    Alternating is 1, -1, 1.5, -1.5, ..; ascending is by value.
    """
    positive = 1 + np.arange(n // 2) / 2
    pairs = np.stack([positive, -positive], axis=1).ravel()
    theta = np.concatenate([np.zeros(n % 2), pairs])
    return theta if order == "alternating" else np.sort(theta)


@ENCODINGS.register("gaussian-exact", exact=True, tolerant=True)
def gaussian_exact(A: AnyArray, m: int, rng: np.random.Generator, draws: int = 10) -> Array:
    """Gaussian code matrix, for every assignment: exact for s = gamma - m stragglers.

    gamma is the least number of workers that hold a subset. V (n - s, n) is Gaussian and
    B = C V: row (u, j) of C ends in row u of the identity matrix of size m, and begins with the
    n - gamma numbers of least norm that make row (u, j) of B vanish at all workers that don't
    hold subset j. Any n - s columns of V are almost surely independent, so B_S R = F for R the
    last m columns of the inverse of V_S. How well B is conditioned is luck: the best of several
    draws is kept.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix, every subset on at least m workers.
    m
        Communication reduction factor.
    rng
        Source of V.
    draws
        How many V to draw; the one is kept whose B has the least `condition_number`.

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If some subset is on fewer than m workers, or draws is not positive.

    References
    ----------
    Jahani-Nezhad and Maddah-Ali, Optimal communication-computation trade-off in heterogeneous
    gradient coding, IEEE J. Selected Areas in Information Theory 2, 2021 (there with the values
    of polynomials for V).
    """
    gamma = _at_least_m_holders("encoding gaussian-exact", A, m)
    if draws < 1:
        raise ValueError(f"encoding gaussian-exact needs draws at least 1, not draws={draws}")
    rank = A.shape[1] - gamma + m
    found = [
        _vanishing_products(A, m, rng.standard_normal((rank, A.shape[1]))) for _ in range(draws)
    ]
    return min(found, key=lambda B: condition_number(B, rank))


def _vanishing_products(A: AnyArray, m: int, V: Array) -> Array:
    """Return C V (m * k, n), zero where A is; C ends in the identity for every subset."""
    k, n = A.shape
    free, last = V[:-m], V[-m:]
    B = np.zeros((m, k, n))
    for j in range(k):
        away = A[j] == 0
        C = -_least_norm(free[:, away].T, last[:, away].T).T
        B[:, j, ~away] = C @ free[:, ~away] + last[:, ~away]
    return B.reshape(m * k, n)


def _least_norm(M: Array, F: Array) -> Array:
    """Solve M X = F for M with independent rows, at most as many as columns."""
    square = M.shape[0] == M.shape[1]
    X: Array = np.asarray(np.linalg.solve(M, F) if square else np.linalg.lstsq(M, F)[0])
    return X


@ENCODINGS.register("block-mds", exact=True, tolerant=True, decoder="block", theorem=GROUPS)
def block_mds(A: AnyArray, m: int) -> Array:
    """Block code: the workers of a group encode the sum of its subsets with an MDS code.

    The group's sum is cut into m parts; each worker sends another combination of them, and any
    m workers of the group give the parts back. So the code survives any gamma - m stragglers,
    and more as long as every group keeps m workers. Well conditioned for every n: only the size
    of a group counts. All subsets of a worker have the same weights.

    Parameters
    ----------
    A : (k, n)
        The assignment ``groups`` or ``fractional-repetition``, groups of at least m workers.
    m
        Communication reduction factor.

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If A has no such groups or they are smaller than m.

    References
    ----------
    Kadhe, Koyluoglu and Ramchandran, Communication-efficient gradient coding for straggler
    mitigation in distributed learning, ISIT 2020; the MDS code here is `generator`.
    """
    group = groups("encoding block-mds", A)
    _at_least_m_holders("encoding block-mds", A, m)
    B = np.zeros((m, *A.shape))
    for number in range(group.max() + 1):
        members = np.flatnonzero(group == number)
        B[:, :, members] = A[:, members] * generator(len(members), m).T[:, None, :]
    return B.reshape(-1, A.shape[1])


def generator(size: int, m: int) -> Array:
    """Return real rows any m of which are independent, shape (size, m), from angles on a circle.

    Row w has cos and sin of the multiples f of 2 pi w / size; f = 0, 1, .. (0 with a cosine only)
    for odd m and f = 1/2, 3/2, .. for even m. A trigonometric sum of this kind with m
    coefficients has at most m - 1 zeros in a period, so no m rows are dependent. The columns are
    orthogonal and of equal norms, scaled so that `size` rows have mean square 1.
    """
    angle = 2 * np.pi * np.arange(size)[:, None] / size
    f = np.arange(1, m // 2 + 1) - (0.5 if m % 2 == 0 else 0.0)
    waves = np.sqrt(2) * np.concatenate([np.cos(f * angle), np.sin(f * angle)], axis=1)
    return waves if m % 2 == 0 else np.concatenate([np.ones((size, 1)), waves], axis=1)


def _at_least_m_holders(part: str, A: AnyArray, m: int) -> int:
    """Return gamma, the least number of workers that hold a subset, if it is at least m."""
    holders = A.sum(axis=1, dtype=np.intp)
    gamma = int(holders.min())
    if gamma < m:
        raise ValueError(
            f"{part} needs every subset on at least m={m} workers; subset "
            f"{holders.argmin()} is on {gamma}: use m <= {gamma} or a higher load"
        )
    return gamma
