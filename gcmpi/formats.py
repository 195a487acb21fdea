"""Formats of the numbers in a message: storage, rounding, and the noise that rounding is."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gcmpi.arrays import AnyArray

WireType = Literal["float16", "bfloat16", "float32", "float64"]
"""What the numbers of a message are."""
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
"""Distance from 1 to the next number of each type."""


def storage(dtype: WireType) -> np.dtype[np.generic]:
    """Return the numpy type that holds numbers of a wire type (bfloat16: its bits)."""
    return np.dtype(np.uint16 if dtype == "bfloat16" else dtype)


NOISE_POWER = {"float16": 4e-8, "bfloat16": 2.6e-6, "float32": 1.4e-14, "float64": 5e-32}
"""Relative power of the noise of messages.

For float16 and bfloat16 that of rounding, 2^-2p / 6 for numbers of p bits (measured on Gaussian
messages; the least error is at about this eps). The gradients behind float32 and float64 messages
are sums made in that type, which are off by more: (2 * 2^-p)^2.
"""
SHORT = ("float16", "bfloat16")
"""Types of messages that are noisier than the gradients in them."""


def encode_numbers(y: AnyArray, dtype: WireType, out: AnyArray) -> float:
    """Write y / scale into `out`, rounded to nearest, and return the scale.

    float16 has numbers from 6e-8 to 65504 only, and gradients are often smaller: they are sent
    as multiples of their largest entry. The other types are sent as they are.
    """
    if dtype == "bfloat16":
        bits = y.astype(np.float32).view(np.uint32)
        nearest = bits + 0x7FFF + ((bits >> 16) & 1)  # ties to even
        # a NaN must not be rounded into an infinity or over the sign
        out[...] = (np.where(np.isnan(y), bits | 0x400000, nearest) >> 16).astype(np.uint16)
        return 1.0
    scale = 1.0
    if dtype == "float16":
        largest = float(np.abs(y).max(initial=0.0))
        # a gradient that is not finite must arrive as such, not as zeros
        scale = largest if np.isfinite(largest) and largest > 0 else 1.0
        y = y / y.dtype.type(scale)
    out[...] = y
    return scale


def decode_numbers(sent: AnyArray, dtype: WireType, scale: float, out: AnyArray) -> None:
    """Write what `encode_numbers` sent into `out`."""
    if dtype == "bfloat16":
        sent = (sent.astype(np.uint32) << 16).view(np.float32)
    out[...] = sent
    if scale != 1.0:
        out *= out.dtype.type(scale)
