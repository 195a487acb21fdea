"""Which machine plays which worker, when machines straggle with different probabilities."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.bounds import independent_holder_bound


def spread(A: AnyArray, m: int, odds: Array) -> IntArray:
    """Return an order of the columns of A that keeps slow workers from sharing their subsets.

    Machine i is to hold what column ``order[i]`` says: ``A[:, order]`` is the new assignment. Two
    machines swap columns as long as that lowers `bounds.independent_holder_bound`, the error
    that no code can avoid; the order is a local optimum, and the identity if the probabilities
    are equal.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    odds : (n,)
        Each machine's probability to straggle.

    Returns
    -------
    order : (n,)

    Raises
    ------
    ValueError
        If `odds` are not n probabilities.
    """
    order = np.arange(A.shape[1])
    least, improved = independent_holder_bound(A, m, odds), True
    while improved:
        improved = False
        for i, j in np.argwhere(np.triu(odds[:, None] != odds)):
            order[[i, j]] = order[[j, i]]
            bound = independent_holder_bound(A[:, order], m, odds)
            if bound < least * (1 - 1e-9):
                least, improved = bound, True
            else:
                order[[i, j]] = order[[j, i]]
    return order
