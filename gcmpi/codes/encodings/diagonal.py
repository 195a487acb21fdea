"""Encodings in which all subsets of a worker have the same weight in each block."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes import bounds
from gcmpi.codes.theorems import GROUPS, PLAIN_SUMS
from gcmpi.promises import LeastSquaresTheorem, Theorem
from gcmpi.registry import ENCODINGS


@ENCODINGS.register(
    "random-diagonal",
    {},
    {"epsilon": 0.1},
    redrawn=True,
    unbiased=True,
    theorem=(
        Theorem("exact for a BIBD", bounds.one_part_design),
        Theorem("Corollary 1", bounds.corollary_1),
        Theorem("Corollary 2", bounds.corollary_2),
        Theorem("Corollary 3", bounds.corollary_3),
        LeastSquaresTheorem("Lemma 1", bounds.lemma_1_problem),
    ),
)
def random_diagonal(A: AnyArray, m: int, rng: np.random.Generator, epsilon: float = 0.0) -> Array:
    """Random diagonal: block u is A D_u with random signs (and sizes within epsilon of 1).

    In training the D_u are drawn afresh in every iteration: the proof of convergence averages
    over them. One gradient over all data of a worker is enough to encode its message.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    rng
        Source of the diagonals.
    epsilon
        The entries are uniform on [1 - epsilon, 1 + epsilon] and its negative; in [0, 1).

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If epsilon is not in [0, 1).

    References
    ----------
    Munim and Ramamoorthy, arXiv 2603.22514, section 3 (RDM).
    """
    k, n = A.shape
    D = diagonals(n, m, rng, epsilon)
    B: Array = (A[None, :, :] * D[:, None, :]).reshape(m * k, n)
    return B


def diagonals(n: int, m: int, rng: np.random.Generator, epsilon: float = 0.0) -> Array:
    """Return the diagonals of D_1..D_m that `random_diagonal` uses, one a row, shape (m, n)."""
    if not 0 <= epsilon < 1:
        raise ValueError(f"random-diagonal needs epsilon in [0, 1), not epsilon={epsilon}")
    signs = rng.choice(np.array([-1.0, 1.0]), size=(m, n))
    return signs * rng.uniform(1 - epsilon, 1 + epsilon, size=(m, n)) if epsilon else signs


@ENCODINGS.register("stacked", theorem=PLAIN_SUMS)
def stacked(A: AnyArray, m: int) -> Array:
    """Baseline: every block is A, the naive use of an m = 1 code.

    For a BIBD its error is mk - delta^2 (n - s) / (delta + (n - s - 1) lambda): at m = 2 about
    half the gradient is lost even when nobody straggles. At m = 1 it is the plain sum of the
    subset gradients with least-squares decoding.

    Returns
    -------
    B : (m * k, n)

    References
    ----------
    Munim and Ramamoorthy, arXiv 2603.22514, section 3 (the baseline).
    """
    return np.tile(A.astype(np.float64), (m, 1))


@ENCODINGS.register(
    "uncoded", unbiased=True, exact=True, tolerant=True, decoder="one-step", theorem=GROUPS
)
def uncoded(A: AnyArray, m: int) -> Array:
    """No code: a worker sends the plain gradient of its one subset; needs m = 1 and A = I.

    Least-squares decoding adds what arrived; dividing by alpha = 1 - s/n, as the decoder one-step
    does, makes this the lossy baseline that ignores stragglers (backup workers, k-sync).

    Returns
    -------
    B : (n, n), the identity

    Raises
    ------
    ValueError
        If m is not 1 or some subset is not on exactly one worker.
    """
    if m != 1:
        raise ValueError(f"encoding uncoded sends whole gradients: it needs m=1, not m={m}")
    if A.shape[0] != A.shape[1] or not (A == np.eye(A.shape[0])).all():
        raise ValueError("encoding uncoded needs --assignment uncoded: one subset on one worker")
    return A.astype(np.float64)
