"""How a coded vector travels: rounded to the wire type, with one scale a message."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gcmpi.code import AnyArray

WireType = Literal["float16", "float32", "float64"]


def pack(y: AnyArray, out: AnyArray) -> float:
    """Write y / scale into `out`, an array of the wire type, and return the scale.

    float16 has numbers from 6e-8 to 65504 only, and gradients are often smaller: they are sent
    as multiples of their largest entry. The wider types are sent as they are.
    """
    scale = 1.0
    if out.dtype == np.float16:
        largest = float(np.abs(y).max(initial=0.0))
        # a gradient that is not finite must arrive as such, not as zeros
        scale = largest if np.isfinite(largest) and largest > 0 else 1.0
        y = y / y.dtype.type(scale)
    out[...] = y
    return scale


def unpack(sent: AnyArray, scale: float, out: AnyArray) -> None:
    """Write what `pack` sent into `out`."""
    out[...] = sent
    if scale != 1.0:
        out *= out.dtype.type(scale)
