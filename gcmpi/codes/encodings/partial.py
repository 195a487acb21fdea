"""An encoding of what workers have finished, stragglers included."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.encodings.frames import Holders, largest_t
from gcmpi.registry import ENCODINGS


@ENCODINGS.register("partial-stragglers", exact=True, partial=True)
def partial_stragglers(
    A: AnyArray, m: int, rng: np.random.Generator, finished: AnyArray | None = None
) -> Array:
    """Partial stragglers: a second message from what each worker has finished, late ones too.

    R (n, m) is Gaussian and known to the server. When it stops waiting, workers say which
    subsets they have finished; S_j are the workers that finished subset j. The server answers
    with the coefficients B_j = R(S_j)^+, the dual frame (see `gcmpi.encodings.frames`) of R on the
    finished pairs, and each worker sends its one combination of what it has. If every subset was
    finished by at least m workers, B R = F: the decoded gradient is exact. A subset that fewer
    finished costs m - |S_j|, the least that any code can lose, and one that nobody did m:
    ||B R - F||^2 = sum_j max(m - |S_j|, 0). Nothing is promised if second messages are missing.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix, every subset on at least m workers.
    m
        Communication reduction factor.
    rng
        Source of R.
    finished : (k, n), zeros and ones
        The pairs of A that are finished; all of them unless given.

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If A has a subset on fewer than m workers.

    References
    ----------
    Ramamoorthy, Meng and Girimaji, Leveraging partial stragglers within gradient coding, NeurIPS
    2024, arXiv 2405.19509.
    """
    largest_t(A, m, "encoding partial-stragglers")
    R = rng.standard_normal((A.shape[1], m))
    holders = Holders.of(A if finished is None else A * finished)
    # for a subset with too few of them the rank is below m up to rounding
    inverses: Array = np.asarray(np.linalg.pinv(holders.rows(R), rcond=1e-12), np.float64)
    return holders.scatter(inverses, A.shape[1])
