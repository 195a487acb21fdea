"""In which order a worker computes its subsets, for codes that use what stragglers have done."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, IntArray

Table = list[list[int]]


def order(A: AnyArray) -> IntArray:
    """Return the position of every subset in its worker's order, perfect matchings one by one.

    When all workers have computed their first p subsets, each subset is to be done equally often.
    If every worker holds delta subsets and every subset is held by delta workers, the pairs are
    split into delta perfect matchings, and position p is matching p. Otherwise delta is the
    largest load, and each subset is cut into copies of at most delta of its holders each. The
    bipartite graph of workers and copies has an edge colouring with delta colours (Koenig):
    no worker and no copy has two edges of a colour. A worker goes by ascending colour. With equal
    loads a subset that gamma workers hold is at every position floor or ceil(gamma / delta) times.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.

    Returns
    -------
    position : (k, n)
        0 for the subset that a worker computes first; -1 where it does not hold the subset.

    References
    ----------
    Ramamoorthy, Meng and Girimaji, Leveraging partial stragglers within gradient coding, NeurIPS
    2024, arXiv 2405.19509; Bondy and Murty, Graph Theory, theorem 17.2 (Koenig).
    """
    k, n = A.shape
    delta = int(A.sum(axis=0, dtype=np.intp).max())
    worker_has: Table = [[-1] * delta for _ in range(n)]  # the copy at each colour
    copy_has: Table = []  # the worker at each colour
    subset_of = []
    for j in range(k):
        for number, i in enumerate(np.flatnonzero(A[j]).tolist()):
            if number % delta == 0:
                copy_has.append([-1] * delta)
                subset_of.append(j)
            copy = len(copy_has) - 1
            colour, other = worker_has[i].index(-1), copy_has[copy].index(-1)
            _free(copy_has, worker_has, copy, colour, other)
            copy_has[copy][colour], worker_has[i][colour] = i, copy
    position = np.full((k, n), -1, dtype=np.intp)
    for i, copies in enumerate(worker_has):
        held = [subset_of[copy] for copy in copies if copy >= 0]
        position[held, i] = np.arange(len(held))
    return position


def _free(copy_has: Table, worker_has: Table, copy: int, colour: int, other: int) -> None:
    """Free a colour at a copy that has `other` free: swap both on the path that starts there.

    The path goes to a worker by `colour` and on by `other`. It never comes to a worker that has
    `colour` free, as the one has that the new edge leads to.
    """
    path = []
    while copy >= 0 and (i := copy_has[copy][colour]) >= 0:
        following = worker_has[i][other]
        path.append((copy, i, following))
        copy = following
    for at, _, following in path:
        copy_has[at][colour] = -1
        if following >= 0:
            copy_has[following][other] = -1
    for at, i, following in path:
        copy_has[at][other], worker_has[i][other] = i, at
        worker_has[i][colour] = following
        if following >= 0:
            copy_has[following][colour] = i
