"""What fixed decoders require of a code."""

from __future__ import annotations

import numpy as np

from gcmpi.codes.code import Code


def plain_sums(decoder: str, code: Code) -> None:
    """Refuse a code whose workers send anything but the sum of their gradients.

    Raises
    ------
    ValueError
        If m is not 1 or B is not A.
    """
    if code.m != 1 or not np.array_equal(code.B, code.A):
        raise ValueError(
            f"decoder {decoder} serves codes with m=1 whose workers send the sum of their "
            "gradients (B = A), not this one; --decoder least-squares serves all"
        )
