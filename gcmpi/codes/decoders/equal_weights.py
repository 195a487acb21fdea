"""Decoders that give every reply the same weight; it depends on their number only."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.assignments.structure import adjacency, design
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.requirements import plain_sums
from gcmpi.registry import DECODERS


def _equal(survivors: BoolArray, weight: float) -> Array:
    R: Array = np.where(survivors, weight, 0.0)[:, None]
    return R


@DECODERS.register("one-step", unbiased=True)
def one_step(code: Code, survivors: BoolArray) -> Array:
    """One-step decoding: every reply weighs k / (N delta), N the number of survivors.

    delta is the mean load of the workers. With the uncoded assignment this is n / N times the
    sum of what came: ignoring stragglers.

    Parameters
    ----------
    code
        m = 1, workers send plain sums (B = A).
    survivors : (n,) bool
        The workers that answered.

    Returns
    -------
    R : (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Charles, Papailiopoulos and Ellenberg, Approximate gradient coding via sparse random graphs,
    arXiv 1711.06771.
    """
    survivors = code.check_survivors(survivors)
    N = int(survivors.sum())
    return _equal(survivors, _fair_share(code) / N if N else 0.0)


@lru_cache(maxsize=8)
def _fair_share(code: Code) -> float:
    """Return k / delta."""
    plain_sums("one-step", code)
    return code.k * code.n / float(code.A.sum(dtype=np.intp))


@DECODERS.register("bibd", unbiased=True)
def bibd(code: Code, survivors: BoolArray) -> Array:
    """Decode a block design: every reply weighs delta / (delta + lambda (N - 1)), the optimum.

    Parameters
    ----------
    code
        m = 1, B = A the transposed incidence matrix of a BIBD.
    survivors : (n,) bool
        The N workers that answered.

    Returns
    -------
    R : (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Kadhe, Koyluoglu and Ramchandran, Gradient coding based on block designs for mitigating
    adversarial stragglers, ISIT 2019, arXiv 1904.13373.
    """
    survivors = code.check_survivors(survivors)
    delta, lam = _design(code)
    return _equal(survivors, delta / (delta + lam * max(int(survivors.sum()) - 1, 0)))


@lru_cache(maxsize=8)
def _design(code: Code) -> tuple[int, int]:
    plain_sums("bibd", code)
    return design("decoder bibd", code.A)


@DECODERS.register("expander", unbiased=True)
def expander(code: Code, survivors: BoolArray) -> Array:
    """Decode an expander code: every reply weighs n / N, N the number of survivors.

    Parameters
    ----------
    code
        m = 1, B = A / delta for the adjacency matrix A of a delta-regular graph.
    survivors : (n,) bool
        The workers that answered.

    Returns
    -------
    R : (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Raviv, Tandon, Dimakis and Tamo, Gradient coding from cyclic MDS codes and expander graphs,
    IEEE Trans. Information Theory 66, 2020.
    """
    survivors = code.check_survivors(survivors)
    _check_expander(code)
    return _equal(survivors, code.n / max(int(survivors.sum()), 1))


@lru_cache(maxsize=8)
def _check_expander(code: Code) -> None:
    delta = adjacency("decoder expander", code.A)
    if code.m != 1 or not np.array_equal(code.B, code.A / float(delta)):
        raise ValueError("decoder expander serves the code of --encoding expander, not this one")


@DECODERS.register("sum", unbiased=True)
def plain_sum(code: Code, survivors: BoolArray) -> Array:
    """Add what came: no decoding; the workers' coefficients make it unbiased.

    Over random sets of N survivors the mean is N / n times what all messages add up to.

    Parameters
    ----------
    code
        m = 1, the messages of all workers add up to a multiple of the gradient.
    survivors : (n,) bool
        The workers that answered.

    Returns
    -------
    R : (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Bitar, Wootters and El Rouayheb, Stochastic gradient coding for straggler mitigation in
    distributed learning, IEEE J. Selected Areas in Information Theory 1, 2020.
    """
    survivors = code.check_survivors(survivors)
    _check_sum(code)
    return _equal(survivors, 1.0)


@lru_cache(maxsize=8)
def _check_sum(code: Code) -> None:
    total = code.B.sum(axis=1)
    if code.m != 1 or not total[0] > 0 or not np.allclose(total, total[0], rtol=1e-9, atol=0):
        raise ValueError(
            "decoder sum serves codes with m=1 whose messages add up to a multiple of the "
            "gradient, as those of --encoding sgc, not this one"
        )
