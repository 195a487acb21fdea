"""By how much a decoder that is not least squares shrinks or stretches the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcmpi.arrays import Array
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.least_squares import Decoder
from gcmpi.codes.errors.sampling import check_counts


def decoder_alpha(
    code: Code,
    decoder: Decoder,
    rng: np.random.Generator,
    *,
    counts: Sequence[int] | None = None,
    sets: int = 200,
) -> Array:
    """Return alpha_s, the mean of trace(F'B R) / (m k) over random sets, for each s, shape (c,).

    Where the decoder is unbiased, E[B R] = alpha_s F over the sets of one size: dividing the
    decoded gradient by alpha_s removes what it falls short of, or exceeds. For least squares
    it is 1 - E[Err_S] / (m k), see `alpha`; one-step decoding of equal loads has 1 for s < n.

    Parameters
    ----------
    code
        The same in all iterations.
    decoder
        Serves the code.
    rng
        Source of the sets.
    counts : (c,)
        Straggler counts; all of 0 to n unless given.
    sets
        Random sets of each size.

    Raises
    ------
    ValueError
        If a count is not in 0..n, sets is not positive or the decoder does not serve the code.
    """
    counts = range(code.n + 1) if counts is None else counts
    check_counts(counts, code.n)
    if sets < 1:
        raise ValueError(f"decoder_alpha needs at least one set, not sets={sets}")
    # trace(F'B R) without the product: F'B (m, n) is what a message holds of the gradient
    held = code.target.T @ code.B
    total = np.zeros(len(counts))
    for _ in range(sets):
        place = rng.permutation(code.n)
        for number, s in enumerate(counts):
            total[number] += np.sum(held.T * decoder(code, place >= s))
    return total / (sets * code.m * code.k)
