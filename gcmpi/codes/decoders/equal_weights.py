"""Decoders that give every reply the same weight; it depends on their number only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.assignments.structure import adjacency, design
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.made import Decode, Maker
from gcmpi.codes.decoders.requirements import plain_sums
from gcmpi.registry import DECODERS


def _equal(weight: Callable[[int], float]) -> Decode:
    """Return the decoder that gives each of N replies ``weight(N)``."""

    def decode(survivors: BoolArray) -> Array:
        R: Array = np.where(survivors, weight(int(survivors.sum())), 0.0)[:, None]
        return R

    return decode


@DECODERS.register("one-step", unbiased=True)
@Maker
def one_step(code: Code) -> Decode:
    """One-step decoding: every reply weighs k / (N delta), N the number of survivors.

    delta is the mean load of the workers. With the uncoded assignment this is n / N times the
    sum of what came: ignoring stragglers.

    Parameters
    ----------
    code
        m = 1, workers send plain sums (B = A).

    Returns
    -------
    decode : survivors (n,) bool -> R (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Charles, Papailiopoulos and Ellenberg, Approximate gradient coding via sparse random graphs,
    arXiv 1711.06771.
    """
    plain_sums("one-step", code)
    share = code.k * code.n / float(code.A.sum(dtype=np.intp))  # k / delta
    return _equal(lambda N: share / N if N else 0.0)


@DECODERS.register("bibd", unbiased=True)
@Maker
def bibd(code: Code) -> Decode:
    """Decode a block design: every reply weighs delta / (delta + lambda (N - 1)), the optimum.

    Parameters
    ----------
    code
        m = 1, B = A the transposed incidence matrix of a BIBD.

    Returns
    -------
    decode : survivors (n,) bool -> R (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Kadhe, Koyluoglu and Ramchandran, Gradient coding based on block designs for mitigating
    adversarial stragglers, ISIT 2019, arXiv 1904.13373.
    """
    plain_sums("bibd", code)
    delta, lam = design("decoder bibd", code.A)
    return _equal(lambda N: delta / (delta + lam * max(N - 1, 0)))


@DECODERS.register("expander", unbiased=True)
@Maker
def expander(code: Code) -> Decode:
    """Decode an expander code: every reply weighs n / N, N the number of survivors.

    Parameters
    ----------
    code
        m = 1, B = A / delta for the adjacency matrix A of a delta-regular graph.

    Returns
    -------
    decode : survivors (n,) bool -> R (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Raviv, Tandon, Dimakis and Tamo, Gradient coding from cyclic MDS codes and expander graphs,
    IEEE Trans. Information Theory 66, 2020.
    """
    delta = adjacency("decoder expander", code.A)
    if code.m != 1 or not np.array_equal(code.B, code.A / float(delta)):
        raise ValueError("decoder expander serves the code of --encoding expander, not this one")
    n = code.n
    return _equal(lambda N: n / max(N, 1))


@DECODERS.register("sum", unbiased=True)
@Maker
def plain_sum(code: Code) -> Decode:
    """Add what came: no decoding; the workers' coefficients make it unbiased.

    Over random sets of N survivors the mean is N / n times what all messages add up to.

    Parameters
    ----------
    code
        m = 1, the messages of all workers add up to a multiple of the gradient.

    Returns
    -------
    decode : survivors (n,) bool -> R (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Bitar, Wootters and El Rouayheb, Stochastic gradient coding for straggler mitigation in
    distributed learning, IEEE J. Selected Areas in Information Theory 1, 2020.
    """
    total = code.B.sum(axis=1)
    if code.m != 1 or not total[0] > 0 or not np.allclose(total, total[0], rtol=1e-9, atol=0):
        raise ValueError(
            "decoder sum serves codes with m=1 whose messages add up to a multiple of the "
            "gradient, as those of --encoding sgc, not this one"
        )
    return _equal(lambda _: 1.0)
