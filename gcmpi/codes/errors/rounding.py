"""What rounding costs: how well exact codes are conditioned, and what is left of exactness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.least_squares import Decoder
from gcmpi.formats import WireType, decode_numbers, encode_numbers, storage

WIRES: tuple[WireType, ...] = ("float64", "float32", "float16")
"""Types that messages are rounded to."""
EXACT = 1e-6
"""The share of ||F||^2 that may be lost in double precision for a code to count as exact."""
NUMBERS = 32
"""Length of the random messages."""


@dataclass(frozen=True)
class Rounding:
    """Numerical quality of an exact code over straggler sets.

    Attributes
    ----------
    condition : (sets,)
        The ratio of the largest to the least singular value of B_S, columns scaled to norm 1 and
        singular values that are zero up to rounding left out. Infinite where those are needed:
        where least squares in double precision does not find that the code is exact.
    gain : (sets,)
        What the decoder makes of a relative error of the messages: the relative error of the
        decoded gradient, for gradients without structure and errors that are independent.
        Infinite where the decoder is not exact in double precision.
    errors : wire type -> (sets,)
        Relative error of the decoded gradient, ||g_hat - g|| / ||g||, when all is computed in
        double precision but the messages travel in that type; infinite where they are too large
        for it.
    """

    condition: Array
    gain: Array
    errors: Mapping[str, Array]


def rounding(
    code: Code, decoder: Decoder, s: int, rng: np.random.Generator, *, sets: int
) -> Rounding:
    """Measure what rounding costs an exact code over random sets of s stragglers.

    Parameters
    ----------
    code
        Exact for every set of s stragglers.
    decoder
        A decoder that is exact there but for rounding.
    s
        Stragglers.
    rng
        Source of the sets and of Gaussian gradients.
    sets
        How many sets.

    Raises
    ------
    ValueError
        If s is not in 0..n-1 or sets is not positive.
    """
    if not 0 <= s < code.n or sets < 1:
        raise ValueError(
            f"rounding needs s in 0..{code.n - 1} and at least one set, not s={s}, sets={sets}"
        )
    condition, gain = np.empty(sets), np.empty(sets)
    errors: dict[str, Array] = {wire: np.empty(sets) for wire in WIRES}
    norms = np.linalg.norm(code.B, axis=0)
    for number in range(sets):
        survivors = np.ones(code.n, dtype=np.bool_)
        survivors[rng.permutation(code.n)[:s]] = False
        exact = code.error(survivors) < EXACT * code.m * code.k
        condition[number] = condition_number(code, survivors) if exact else np.inf
        R = decoder(code, survivors)
        exact = code.residual(R) < EXACT * code.m * code.k
        amplified = np.sum((R * norms[:, None]) ** 2) / (code.m * code.k)
        gain[number] = np.sqrt(amplified) if exact else np.inf
        Z = rng.standard_normal((NUMBERS, code.m * code.k))
        gradient, messages = Z @ code.target, Z @ code.B
        for wire in WIRES:
            with np.errstate(over="ignore", invalid="ignore"):
                sent = np.stack([_sent(y, wire) for y in messages.T[survivors]])
                off = np.linalg.norm(sent.T @ R[survivors] - gradient)
            errors[wire][number] = off / np.linalg.norm(gradient) if np.isfinite(off) else np.inf
    return Rounding(condition, gain, errors)


def _sent(y: Array, wire: WireType) -> Array:
    """Return what arrives of a message."""
    sent, arrived = np.empty(len(y), storage(wire)), np.empty_like(y)
    decode_numbers(sent, wire, encode_numbers(y, wire, sent), arrived)
    return arrived


def condition_number(code: Code, survivors: BoolArray) -> float:
    """Return the condition number of B_S as `Rounding` defines it."""
    B_S = code.B[:, survivors]
    norms = np.linalg.norm(B_S, axis=0)
    sigma = np.linalg.svd(B_S[:, norms > 0] / norms[norms > 0], compute_uv=False)
    kept = sigma[sigma > sigma[0] * max(B_S.shape) * np.finfo(np.float64).eps]
    return float(kept[0] / kept[-1])
