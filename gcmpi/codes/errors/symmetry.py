"""Codes that are unbiased as they stand because a shift of the workers rotates the parts."""

from __future__ import annotations

import numpy as np

from gcmpi.codes.code import Code
from gcmpi.codes.encodings.frames import is_cyclic

SAME = 1e-9
"""Largest difference between coefficients, in columns of norm 1, that counts as none."""


def unbiased(code: Code) -> bool:
    """Say whether E[B_S R] = alpha F, by symmetry, for this B and exchangeable stragglers.

    So it is for m <= 2 if the code is exact when nobody straggles and b_(j+1, i+1) = Q b_(j, i)
    for all subsets and workers, Q a rotation of the m parts, up to one sign where the
    workers close to a ring; alpha is 1 - E Err_S / (m k). Theorem 3 of docs/designs.md has the
    proof. False means that this theorem does not say so.
    """
    m, k, n = code.m, code.k, code.n
    if m > 2 or not is_cyclic(code.A):
        return False
    norms = np.linalg.norm(code.B, axis=0)
    if not norms.all():
        return False
    blocks = (code.B / norms).reshape(m, k, n)
    moved = np.roll(blocks, (-1, -1), axis=(1, 2)).reshape(m, k, n)
    inside, across = moved[:, :, :-1].reshape(m, -1), moved[:, :, -1]
    before = blocks[:, :, :-1].reshape(m, -1)
    U, _, Vt = np.linalg.svd(inside @ before.T)
    Q = U @ Vt
    if m == 2 and np.linalg.det(Q) < 0:
        return False
    last = Q @ blocks[:, :, -1]
    closes = min(np.abs(across - last).max(), np.abs(across + last).max())
    if max(np.abs(inside - Q @ before).max(), closes) >= SAME:
        return False
    return code.error(np.ones(n, dtype=np.bool_)) <= SAME * m * k
