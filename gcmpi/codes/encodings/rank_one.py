"""Encodings that cost a worker one weighted gradient: its subsets differ by a factor only."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.encodings.frames import FULL_RANK, Holders, largest_t
from gcmpi.codes.encodings.harmonic import waves
from gcmpi.codes.encodings.search import store
from gcmpi.codes.encodings.search.descent import Backward, Parameters, Progress, Schedule, descend
from gcmpi.codes.encodings.search.objective import Stragglers
from gcmpi.codes.encodings.search.straggler_sets import Law, expected
from gcmpi.registry import ENCODINGS

VERSION = "weighted-rank-one 1"
SETS, RIDGE = 512, 1e-6
"""Straggler sets and relative noise power by which the constructions are judged."""
STEPS, RATE, TRAINING_RIDGE = 8000, 0.05, (1e-2, 1e-6)


@ENCODINGS.register("weighted-rank-one", {}, {"trained": True, "steps": 40})
def weighted_rank_one(
    A: AnyArray,
    m: int,
    stragglers: int | None = None,
    trained: bool = False,
    seed: int = 0,
    steps: int = STEPS,
    odds: Array | None = None,
) -> Array:
    """Weighted rank one: block u is (A o C) D_u, so one weighted gradient a worker is enough.

    Worker i weighs the samples of subset j by c_ij in one backward pass and combines the m parts
    of the result by the m numbers D_i: what the random diagonal costs. The best of two closed
    forms, by the mean error over random straggler sets:

    * Classes i mod p that each cover all subsets, for p | n and p >= m: c_ij = 1/|H_j n class|
      and D_i a point of the circle (of a moment curve for m > 2) that the class has in common.
      The workers of a whole class add up to D' times the gradient, and any m of these give it
      back: exact for s <= p - m. The plane of order 9 splits into 7 Baer subplanes.
    * D_i = R_i on waves over the workers, c_j of least norm with sum_i c_ij D_i R_i' = I, so that
      B R = F: exact when nobody straggles, if the gamma products D_i R_i' of each subset span I,
      as they generically do for gamma >= m (m + 1) / 2. Otherwise c_j is the least-squares one.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    stragglers
        Numbers of stragglers from 0 to this are to be good on average; n/4 unless given.
    trained
        Train C and D for a small mean error over random stragglers, from the closed form and
        from random numbers; no longer exact when nobody straggles. Kept in the user's cache.
    seed, steps
        Of the training.
    odds : (n,)
        Each worker's probability to straggle, where the run knows it: the code is for these
        stragglers if they differ, or if they are more than n/4 in most iterations.

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If a subset is on fewer than m workers.
    """
    largest_t(A, m, "weighted-rank-one")
    law = expected(A.shape[1], "weighted-rank-one", stragglers, odds)
    if steps < 1 or seed < 0:
        raise ValueError(
            f"weighted-rank-one needs steps >= 1 and seed >= 0, not steps={steps}, seed={seed}"
        )
    options = {"seed": seed, "steps": steps} if trained else {}
    name = store.key(VERSION, A, m, **law.key, **options)

    def make() -> Array:
        rng = np.random.default_rng(seed if trained else 0)
        judged = law.judge(SETS, rng)
        candidates = [product(C, D) for C, D in closed_forms(A, m)]
        if trained:
            candidates = _train(A, m, law, steps, judged, rng)
        means = [law.loss(B, m, judged, RIDGE) for B in candidates]
        return candidates[int(np.argmin(means))]

    return store.find_or_make(name, A, m, make)


def factors(A: AnyArray, B: Array, m: int) -> tuple[Array, Array] | None:
    """Return C (k, n) and D (m, n) with A_u = (A o C) D_u for all blocks of B, or None.

    With them a worker needs one weighted gradient. Row D[:, i] has norm 1, or 0 for a worker
    without coefficients.
    """
    k, n = A.shape
    blocks = B.reshape(m, k, n)
    U, sigma, Vt = np.linalg.svd(blocks.transpose(2, 0, 1), full_matrices=False)  # one a worker
    D = U[:, :, 0].T * (sigma[:, 0] > 0)
    C: Array = (Vt[:, 0] * sigma[:, :1]).T * (A != 0)
    second = sigma[:, 1] if sigma.shape[1] > 1 else np.zeros(n)
    return (C, D) if (second <= 1e-12 * np.maximum(sigma[:, 0], 1e-300)).all() else None


def product(C: Array, D: Array) -> Array:
    """Return B (m * k, n) with blocks C D_u, for C (k, n) with the support of A and D (m, n)."""
    B: Array = (C[None] * D[:, None, :]).reshape(-1, C.shape[1])
    return B


def closed_forms(A: AnyArray, m: int) -> list[tuple[Array, Array]]:
    """Return C (k, n) and D (m, n) of each closed form that A allows."""
    n = A.shape[1]
    found = []
    for p in range(m, n + 1):
        if n % p == 0:
            members = np.arange(n)[:, None] % p == np.arange(p)
            covered = A.astype(np.intp) @ members  # (k, p)
            if covered.all():
                found.append((A / covered[:, np.arange(n) % p], points(p, m)[:, np.arange(n) % p]))
    for number in range((n - 1) // 2 if m > 1 else 1):
        R = _harmonics(n, m, number)
        found.append((_least_norm(A, R), R.T))
    # no subset is computed in vain where that can be avoided
    useful = [(C, D) for C, D in found if (C[A > 0] != 0).all()]
    return useful or found


def points(p: int, m: int) -> Array:
    """Return p points of R^m any m of which are independent, shape (m, p).

    For even m points of a trigonometric moment curve, for odd m with a constant coordinate: the
    determinants are Vandermonde's of distinct points on (half of) the circle.
    """
    angle = np.pi * np.arange(p) / p
    frequencies = np.arange(m % 2 + 1, m, 2) if m % 2 == 0 else np.arange(2, m, 2)
    rows = [np.ones(p)] if m % 2 else []
    for f in frequencies:
        rows += [np.cos(f * angle), np.sin(f * angle)]
    return np.stack(rows)


def _harmonics(n: int, m: int, number: int) -> Array:
    """Return m waves over the workers, (n, m): a constant if m is odd, and pairs that follow."""
    pairs = 1 + (number + np.arange(m // 2)) % max((n - 1) // 2, 1)
    return waves(n, ((0.0,) if m % 2 else ()) + tuple(map(float, np.sort(pairs))))


def _least_norm(A: AnyArray, R: Array) -> Array:
    """Return C (k, n) of least norm with sum_i c_ij R_i R_i' = I, as nearly as can be."""
    m = R.shape[1]
    upper = np.triu_indices(m)
    products = (R[:, :, None] * R[:, None, :])[:, upper[0], upper[1]]  # (n, m (m + 1) / 2)
    holders = Holders.of(A)
    inverses = np.linalg.pinv(holders.rows(products).transpose(0, 2, 1), rcond=FULL_RANK)
    weights = inverses @ np.eye(m)[upper]  # (k, gamma)
    return holders.scatter(weights[:, None], A.shape[1])


def _train(
    A: AnyArray, m: int, law: Law, steps: int, judged: Stragglers, rng: np.random.Generator
) -> list[Array]:
    """Return codes trained from the best closed form and from random numbers."""
    k, n = A.shape
    mask = A.astype(np.float64)

    def encode(parameters: Parameters) -> tuple[Array, Backward]:
        C, D = parameters

        def backward(gradient: Array) -> Parameters:
            blocks = gradient.reshape(m, k, n)
            by_C = np.einsum("ujn,un->jn", blocks, D) * mask
            return [by_C, np.einsum("ujn,jn->un", blocks, C)]

        return product(C, D), backward

    forms = closed_forms(A, m)
    means = [law.loss(product(C, D), m, judged, RIDGE) for C, D in forms]
    C, D = forms[int(np.argmin(means))]
    starts = [
        [C + 0.1 * np.sqrt(np.mean(C[A > 0] ** 2)) * rng.standard_normal(C.shape) * mask, D],
        [rng.standard_normal((k, n)) * mask, rng.standard_normal((m, n))],
    ]
    progress = Progress(f"training weights of rank one for n={n}, k={k}, m={m}", 2 * steps)
    trained = []
    for start in starts:
        schedule = Schedule(steps, RATE, TRAINING_RIDGE)
        C, D = descend(start, encode, m, law.step, schedule, rng, progress)
        progress.phase(steps)
        trained.append(product(C, D))
    progress.close()
    return trained
