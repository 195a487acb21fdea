"""Decoders of exact codes: by groups of workers, and by interpolation."""

from __future__ import annotations

from typing import get_args

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.assignments.structure import cyclic_load, groups
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.made import Decode, Maker
from gcmpi.codes.decoders.requirements import plain_sums
from gcmpi.codes.encodings.communication_efficient import (
    Order,
    block_mds,
    generator,
    points,
    ye_abbe,
)
from gcmpi.registry import DECODERS


@DECODERS.register("first-of-group", {}, {"rescale": True}, unbiased=True)
@Maker
def first_of_group(code: Code, rescale: bool = False) -> Decode:
    """Add one reply of every group; its others are the same vector.

    The survivor with the lowest number stands for the first to answer: their messages differ by
    nothing.

    Parameters
    ----------
    code
        m = 1, workers in groups with the same subsets send plain sums (B = A).
    rescale
        Multiply by groups / (groups that answered): unbiased without a further constant when
        the groups that answered are a random choice.

    Returns
    -------
    decode : survivors (n,) bool -> R (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Tandon, Lei, Dimakis and Karampatziakis, Gradient Coding, ICML 2017; Wang, Charles and
    Papailiopoulos, ErasureHead, arXiv 1901.09671.
    """
    plain_sums("first-of-group", code)
    group = groups("decoder first-of-group", code.A)
    number = int(group.max()) + 1

    def decode(survivors: BoolArray) -> Array:
        workers = np.flatnonzero(survivors)
        seen, first = np.unique(group[workers], return_index=True)
        R = np.zeros((len(group), 1))
        R[workers[first]] = number / max(len(seen), 1) if rescale else 1.0
        return R

    return decode


@DECODERS.register("block", unbiased=True)
@Maker
def block(code: Code) -> Decode:
    """Decode every group of the block code from its first m survivors, by an m x m system.

    A group with fewer counts nothing.

    Parameters
    ----------
    code
        The code of ``--encoding block-mds``.

    Returns
    -------
    decode : survivors (n,) bool -> R (n, m)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Kadhe, Koyluoglu and Ramchandran, Communication-efficient gradient coding for straggler
    mitigation in distributed learning, ISIT 2020.
    """
    group = groups("decoder block", code.A)
    n, m = code.n, code.m
    if not np.array_equal(code.B, block_mds(code.A, m)):
        raise ValueError("decoder block serves the code of --encoding block-mds, not this one")
    blocks = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    generators = [generator(len(members), m) for members in blocks]

    def decode(survivors: BoolArray) -> Array:
        R = np.zeros((n, m))
        for members, G in zip(blocks, generators, strict=True):
            chosen = np.flatnonzero(survivors[members])[:m]
            if len(chosen) == m:
                R[members[chosen]] = np.linalg.inv(G[chosen]).T
        return R

    return decode


@DECODERS.register("vandermonde", unbiased=True)
@Maker
def vandermonde(code: Code) -> Decode:
    """Interpolate the polynomial of Ye and Abbe's code from its first n - s values.

    Inverts the Vandermonde matrix and reads the parts of the gradient at the coefficients of
    degree n - delta, .., n - s - 1. With more than s = delta - m stragglers nothing is decoded.
    Useless from about 30 workers on, where least squares still has some digits.

    Parameters
    ----------
    code
        The code of ``--encoding ye-abbe``.

    Returns
    -------
    decode : survivors (n,) bool -> R (n, m)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Ye and Abbe, Communication-computation efficient gradient coding, ICML 2018.
    """
    theta, degrees = _polynomial(code)
    n, m = code.n, code.m

    def decode(survivors: BoolArray) -> Array:
        R = np.zeros((n, m))
        chosen = np.flatnonzero(survivors)[:degrees]
        if len(chosen) == degrees:
            values = np.vander(theta[chosen], increasing=True)
            R[chosen] = np.linalg.inv(values)[-m:].T
        return R

    return decode


def _polynomial(code: Code) -> tuple[Array, int]:
    """Return the points and n - s, the number of values that fix the polynomial."""
    delta = cyclic_load("decoder vandermonde", code.A)
    for order in get_args(Order):
        if np.array_equal(code.B, ye_abbe(code.A, code.m, order)):
            return points(code.n, order), code.n - delta + code.m
    raise ValueError("decoder vandermonde serves the code of --encoding ye-abbe, not this one")
