"""Exact codes that send whole gradients (m = 1): any n - s replies give the gradient."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.assignments.structure import cyclic_load, groups, one_part
from gcmpi.codes.theorems import GROUPS
from gcmpi.registry import ENCODINGS


@ENCODINGS.register(
    "fractional-repetition", exact=True, tolerant=True, decoder="first-of-group", theorem=GROUPS
)
def fractional_repetition(A: AnyArray, m: int) -> Array:
    """Fractional repetition code: all workers of a group send the sum of its subsets.

    One reply of each group is enough: the code survives any gamma - 1 stragglers, and more as
    long as every group keeps a worker. When r of the n / gamma groups are silent the error is
    r gamma; over random stragglers no m = 1 code on as many holders loses less in the mean.

    Parameters
    ----------
    A : (k, n)
        The assignment ``fractional-repetition``.
    m
        1.

    Returns
    -------
    B : (k, n)

    Raises
    ------
    ValueError
        If m is not 1 or A has no such groups.

    References
    ----------
    Tandon, Lei, Dimakis and Karampatziakis, Gradient Coding, ICML 2017.
    """
    one_part("encoding fractional-repetition", m)
    groups("encoding fractional-repetition", A)
    return A.astype(np.float64)


@ENCODINGS.register("cyclic-repetition", exact=True, tolerant=True)
def cyclic_repetition(A: AnyArray, m: int, rng: np.random.Generator, draws: int = 20) -> Array:
    """Cyclic repetition code: exact for any s = delta - 1 stragglers.

    H (s, n) is Gaussian with rows that add up to 0. Worker i's coefficients, on its s + 1
    subsets, are orthogonal to the rows of H, with 1 on subset i. So the columns of B lie in
    the null space of H, which has dimension n - s and holds the vector of ones; any n - s of
    them span it.

    How well B is conditioned is luck: for n = 91 and s = 20 the worst of a thousand sets may
    lose all but four digits, so the best of several draws is kept.

    Parameters
    ----------
    A : (n, n)
        The assignment ``cyclic``.
    m
        1.
    rng
        Source of H.
    draws
        How many H to draw; the one is kept whose B has the least `condition_number`.

    Returns
    -------
    B : (n, n)

    Raises
    ------
    ValueError
        If m is not 1, A is not cyclic or draws is not positive.

    References
    ----------
    Tandon, Lei, Dimakis and Karampatziakis, Gradient Coding, ICML 2017, algorithm 2.
    """
    one_part("encoding cyclic-repetition", m)
    delta = cyclic_load("encoding cyclic-repetition", A)
    if draws < 1:
        raise ValueError(f"encoding cyclic-repetition needs draws at least 1, not draws={draws}")
    found = [_null_space_columns(A.shape[1], delta - 1, rng) for _ in range(draws)]
    return min(found, key=lambda B: condition_number(B, A.shape[1] - delta + 1))


def _null_space_columns(n: int, s: int, rng: np.random.Generator) -> Array:
    H = rng.standard_normal((s, n))
    H[:, -1] = -H[:, :-1].sum(axis=1)
    worker = np.arange(n)
    others = (worker[:, None] + np.arange(1, s + 1)) % n  # (n, s)
    B = np.eye(n)
    if s:
        solved = np.linalg.solve(H[:, others].swapaxes(0, 1), H.T[:, :, None])
        B[others, worker[:, None]] = -solved[:, :, 0]
    return B


def condition_number(B: Array, rank: int) -> float:
    """Return the ratio of the first to the last of `rank` singular values, or of all if fewer.

    Not of columns scaled to norm 1: long columns, too, are a sign of a nearly singular draw.
    """
    sigma = np.linalg.svd(B, compute_uv=False)
    last = sigma[min(rank, len(sigma)) - 1]
    return float(sigma[0] / last) if last > 0 else np.inf


@ENCODINGS.register("cyclic-mds", exact=True, tolerant=True)
def cyclic_mds(A: AnyArray, m: int) -> Array:
    """Cyclic MDS code: the coefficients of all workers are cyclic shifts of one polynomial's.

    The polynomial has degree s = delta - 1 and zeros at s consecutive n-th roots of unity, 1 not
    among them. By the bound of Bose, Chaudhuri and Hocquenghem any n - s shifts are
    independent, and span the multiples of the polynomial; the vector of ones is among them.
    The zeros are centred on -1: then the coefficients are real, and as small as they can be.
    Scaled so that the sum of all messages is the gradient.

    Parameters
    ----------
    A : (n, n)
        The assignment ``cyclic``, with n - s = n - delta + 1 odd.
    m
        1.

    Returns
    -------
    B : (n, n), a circulant

    Raises
    ------
    ValueError
        If m is not 1, A is not cyclic or n - delta is odd.

    References
    ----------
    Raviv, Tandon, Dimakis and Tamo, Gradient coding from cyclic MDS codes and expander graphs,
    ICML 2018 and IEEE Trans. Information Theory 66, 2020.
    """
    one_part("encoding cyclic-mds", m)
    delta, n = cyclic_load("encoding cyclic-mds", A), A.shape[1]
    s = delta - 1
    if (n - s) % 2 == 0:
        near = [d for d in (delta - 1, delta + 1) if 1 <= d <= n]
        raise ValueError(
            f"encoding cyclic-mds has real coefficients only where n - delta is even, not for "
            f"n={n}, delta={delta}; nearest possible: delta={' or '.join(map(str, near))}, "
            f"--assignment cyclic:n={n},delta={near[-1]}"
        )
    # exponents (n - s + 1) / 2 .. (n + s - 1) / 2: closed under conjugation
    zeros = np.exp(2j * np.pi * np.arange((n - s + 1) // 2, (n + s - 1) // 2 + 1) / n)
    coefficients = np.atleast_1d(np.poly(zeros)).real  # of no zeros it is a number
    worker = np.arange(n)
    B = np.zeros((n, n))
    for power, value in enumerate(coefficients / coefficients.sum()):
        B[(worker + power) % n, worker] = value
    return B
