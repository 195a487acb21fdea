"""Automorphisms of an assignment matrix, by colour refinement and backtracking."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, IntArray


def is_transitive_on_workers(A: AnyArray) -> bool:
    """Say whether row and column permutations that keep A move every worker to every other.

    Parameters
    ----------
    A : (k, n), zeros and ones
        Assignment matrix.
    """
    k, n = A.shape
    graph = np.block([[np.zeros((n, n)), A.T], [A, np.zeros((k, k))]]).astype(np.intp)
    sides = np.repeat([0, 1], [n, k])
    reached = {0}
    for worker in range(1, n):
        if worker in reached:
            continue
        image = _isomorphism(graph, _mark(sides, 0), _mark(sides, worker))
        if image is None:
            return False
        assert (graph[np.ix_(image, image)] == graph).all()
        assert image[0] == worker
        assert (image[:n] < n).all()
        # whoever is reached is moved on by this automorphism
        while not {int(image[i]) for i in reached} <= reached:
            reached |= {int(image[i]) for i in reached}
    return True


def _mark(colours: IntArray, vertex: int | np.intp) -> IntArray:
    marked = colours.copy()
    marked[vertex] = colours.max() + 1
    return marked


def _isomorphism(graph: IntArray, first: IntArray, second: IntArray) -> IntArray | None:
    """Return an automorphism of the graph that takes the colours `first` to `second`, or None."""
    first, second = _refine(graph, first, second)
    if (np.sort(first) != np.sort(second)).any():
        return None
    counts = np.bincount(first)
    if (counts <= 1).all():
        image = np.argsort(second)[np.searchsorted(np.sort(first), first)]
        return image if (graph[np.ix_(image, image)] == graph).all() else None
    cell = np.flatnonzero(counts == counts[counts > 1].min())[0]
    vertex = np.flatnonzero(first == cell)[0]
    for candidate in np.flatnonzero(second == cell):
        found = _isomorphism(graph, _mark(first, vertex), _mark(second, candidate))
        if found is not None:
            return found
    return None


def _refine(graph: IntArray, first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
    """Split colours by the number of neighbours of each colour until nothing splits.

    Both colourings get the same names for the same neighbourhoods.
    """
    number = 0
    while True:
        one_hot = np.eye(max(first.max(), second.max()) + 1, dtype=np.intp)
        signature = [np.column_stack([c, graph @ one_hot[c]]) for c in (first, second)]
        _, colours = np.unique(np.concatenate(signature), axis=0, return_inverse=True)
        first, second = np.split(colours, 2)
        if len(set(colours)) == number or (np.sort(first) != np.sort(second)).any():
            return first, second
        number = len(set(colours))
