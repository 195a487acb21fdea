"""Whether the mean decoded gradient is a multiple of the gradient."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.errors import target
from gcmpi.testing.cases import Case, straggler_sets

FALSE_ALARM = 1e-6
"""Probability, for each assignment and m, that a test of means blames what is right."""


def check_unbiased(case: Case) -> None:
    """Check the promise on sets of several sizes."""
    n = case.A.shape[1]
    if case.own.promises.redrawn:
        for s in sorted({1, n // 2}):
            _check_mean_over_draws(case, s)
    else:
        for s in range(n):
            _check_mean_over_sets(case, s)


def _check_mean_over_sets(case: Case, s: int) -> None:
    """Compare the mean of B_S R over all sets, or many, of a B that stays the same."""
    code = case.code
    sets = straggler_sets(code.n, s, case.generator(4))
    everything = len(sets) == math.comb(code.n, s)
    Bs = np.broadcast_to(code.B, (len(sets), *code.B.shape))
    _compare(case, s, decodable(Bs, sets, case.m), exhaustive=everything)


def _check_mean_over_draws(case: Case, s: int) -> None:
    """Compare the mean of B_S R over fresh B, each with a random set."""
    rng = case.generator(5)
    n = case.A.shape[1]
    sets = np.stack([rng.permutation(n) >= s for _ in range(case.bias_draws)])
    Bs = np.stack([case.draw(rng) for _ in sets])
    _compare(case, s, decodable(Bs, sets, case.m), exhaustive=False)


def _compare(case: Case, s: int, decoded: Array, *, exhaustive: bool) -> None:
    """Refuse B_S R (draws, m k, m) whose mean is no multiple of F."""
    k, m = case.A.shape[0], case.m
    F = np.repeat(np.eye(m), k, axis=0)
    alphas = np.einsum("tij,ij->t", decoded, F) / (m * k)
    # under the law the mean of these is zero, whatever alpha is
    away = decoded - alphas[:, None, None] * F
    mean = away.mean(axis=0)
    allowed = np.full(mean.shape, case.tolerance * 10)
    if not exhaustive:
        errors = away.std(axis=0) / np.sqrt(len(away))
        allowed += (
            NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * case.A.shape[1] * mean.size)) * errors
        )
    excess = np.abs(mean) - allowed
    if (excess > 0).any():
        row, v = np.unravel_index(int(excess.argmax()), mean.shape)
        u, j = divmod(int(row), k)
        over = f"all {len(away)} sets" if exhaustive else f"{len(away)} draws"
        raise case.place.broken(
            "unbiased",
            f"with s = {s} stragglers part {u} of subset {j} counts "
            f"{mean[row, v] + alphas.mean() * F[row, v]:.4g} in part {v} of the decoded gradient, "
            f"not {alphas.mean() * F[row, v]:.4g} (mean over {over}; allowed are "
            f"{allowed[row, v]:.2g} more or less)",
        )


def decodable(Bs: Array, sets: BoolArray, m: int) -> Array:
    """Return B_S R, the projection of F on the columns of the survivors, for many B and sets.

    Shapes: Bs (draws, m k, n), sets (draws, n); returns (draws, m k, m).
    """
    size = np.linalg.norm(Bs, axis=1, keepdims=True)
    unit = Bs / np.where(size > 0, size, 1.0) * sets[:, None, :]
    U, sigma, _ = np.linalg.svd(unit, full_matrices=False)
    U = U * (sigma > 1e-10 * np.maximum(sigma[:, :1], 1e-300))[:, None, :]
    projections: Array = U @ (U.transpose(0, 2, 1) @ target(Bs[0], m))
    return projections
