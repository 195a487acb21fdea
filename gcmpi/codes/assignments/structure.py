"""What encodings require of m and of the assignment; a refusal says what to type instead."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, IntArray


def one_part(part: str, m: int) -> None:
    """Refuse m other than 1: `part`, as in ``encoding bgc``, sends whole gradients.

    Raises
    ------
    ValueError
        If m is not 1.
    """
    if m != 1:
        raise ValueError(f"{part} sends whole gradients: it needs m=1, not m={m}")


def cyclic_load(part: str, A: AnyArray) -> int:
    """Return delta of cyclic repetition.

    Raises
    ------
    ValueError
        If A is not the assignment ``cyclic``.
    """
    k, n = A.shape
    delta = int(A[:, 0].sum(dtype=np.intp))
    subset, worker = np.ogrid[:k, :n]
    if k != n or ((subset - worker) % n < delta).astype(np.uint8).tobytes() != _bytes(A):
        raise ValueError(
            f"{part} needs subsets i..i+delta-1 on worker i: "
            f"--assignment cyclic:n={n},delta={_load(A)}"
        )
    return delta


def groups(part: str, A: AnyArray) -> IntArray:
    """Return the group of each worker, (n,): a group holds the same subsets, and nobody else does.

    Groups are numbered by their first workers.

    Raises
    ------
    ValueError
        If two workers share some of their subsets but not all, or a worker has none.
    """
    # a subset of each worker; it is the same one for the workers of a group
    _, start, group = np.unique(A.argmax(axis=0), return_index=True, return_inverse=True)
    held = A[:, start]  # by each group's first worker
    if (held.sum(axis=1, dtype=np.intp) != 1).any() or (A != held[:, group]).any():
        n = A.shape[1]
        raise ValueError(
            f"{part} needs workers in groups that hold the same subsets: --assignment groups:n={n},"
            f"c={max(1, n // max(1, round(float(A.sum(axis=1, dtype=np.intp).mean()))))}, or "
            "fractional-repetition, whose groups have equal sizes"
        )
    numbers: IntArray = np.argsort(np.argsort(start))[group]
    return numbers


def components(A: AnyArray) -> IntArray:
    """Return the component of each worker, (n,), numbered from 0.

    Two workers are in one component if they share a subset, or each does with workers of one
    component: least squares decodes every component by itself.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix, every subset on a worker.
    """
    subset, worker = np.nonzero(A)  # ordered by subset
    first = np.searchsorted(subset, np.arange(A.shape[0]))
    label = np.arange(A.shape[1])
    while True:
        least = np.minimum.reduceat(label[worker], first)[subset]
        better = label.copy()
        np.minimum.at(better, worker, least)
        better = better[better]  # the least worker known to the least worker known
        if np.array_equal(better, label):
            return np.unique(label, return_inverse=True)[1]
        label = better


def design(part: str, A: AnyArray) -> tuple[int, int]:
    """Return (delta, lambda) of a BIBD, or of its trivial cases with lambda 0 or delta.

    Raises
    ------
    ValueError
        If workers' loads differ, or two workers share more subsets than two others.
    """
    shared = A.T.astype(np.float64) @ A
    n = len(shared)
    delta, lam = int(shared[0, 0]), int(shared[0, -1]) if n > 1 else 0
    if (shared != lam + (delta - lam) * np.eye(n)).any():
        raise ValueError(
            f"{part} needs every two workers to share equally many subsets, as in "
            f"--assignment projective-plane:order=5; python -m gcmpi.codes find --workers {n} "
            "lists the designs for this many"
        )
    return delta, lam


def adjacency(part: str, A: AnyArray) -> int:
    """Return the degree of a regular graph with adjacency matrix A; loops are allowed.

    Raises
    ------
    ValueError
        If A is not symmetric or its columns have different sums.
    """
    loads = A.sum(axis=0, dtype=np.intp)
    if A.shape[0] != A.shape[1] or (A != A.T).any() or (loads != loads[0]).any():
        n, load = A.shape[1], max(3, _load(A))
        raise ValueError(
            f"{part} needs the adjacency matrix of a regular graph: "
            f"--assignment expander:n={n},delta={load + n * load % 2}"
        )
    return int(loads[0])


def edges(part: str, A: AnyArray) -> AnyArray:
    """Return the two subsets of each worker, (n, 2): the ends of an edge.

    Raises
    ------
    ValueError
        If a worker does not hold exactly two subsets.
    """
    loads = A.sum(axis=0, dtype=np.intp)
    wrong = np.flatnonzero(loads != 2)
    if wrong.size:
        raise ValueError(
            f"{part} needs two subsets on every worker, not {loads[wrong[0]]} as on "
            f"worker {wrong[0]}: --assignment graph-edges:vertices=VERTICES,degree=DEGREE, which "
            "has VERTICES * DEGREE / 2 workers"
        )
    ends: AnyArray = np.nonzero(A.T)[1].reshape(-1, 2)
    return ends


def _load(A: AnyArray) -> int:
    """Return the mean load, rounded, at most n."""
    return int(min(max(1, round(float(A.sum(axis=0, dtype=np.intp).mean()))), A.shape[1]))


def _bytes(A: AnyArray) -> bytes:
    return A.astype(np.uint8).tobytes()
