"""Optimal decoding of a graph assignment in linear time."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.assignments.structure import edges
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.made import Decode, Maker
from gcmpi.codes.decoders.requirements import plain_sums
from gcmpi.registry import DECODERS


@DECODERS.register("graph")
@Maker
def graph(code: Code) -> Decode:
    """Optimal decoding where subsets are vertices and workers are edges, in time O(n + k).

    What subset j counts in the decoded gradient is alpha_j = (B R)_j: 1 in a component of the
    surviving graph that has an odd cycle; in a bipartite component with sides L and R it is
    1 - t on L and 1 + t on R, t = (|L| - |R|) / (|L| + |R|), so 0 for an isolated vertex. The
    weights that give it are those of the edges of a spanning tree, and of one edge that closes an
    odd cycle. They are not the least ones: least squares amplifies rounded messages less.

    Parameters
    ----------
    code
        m = 1, two subsets on every worker, plain sums (B = A).

    Returns
    -------
    decode : survivors (n,) bool -> R (n, 1)

    Raises
    ------
    ValueError
        If the code is another one.

    References
    ----------
    Glasgow and Wootters, Approximate gradient coding with optimal decoding, IEEE J. Selected
    Areas in Information Theory 2, 2021, arXiv 2006.09638.
    """
    plain_sums("graph", code)
    ends = edges("decoder graph", code.A)
    k, n = code.k, code.n

    def decode(survivors: BoolArray) -> Array:
        around: list[list[tuple[int, int]]] = [[] for _ in range(k)]
        for i in np.flatnonzero(survivors).tolist():
            a, b = ends[i]
            around[a].append((b, i))
            around[b].append((a, i))
        R = np.zeros((n, 1))
        side = [0] * k  # +1 and -1 on the two sides of the spanning tree
        for root in range(k):
            if not side[root]:
                _decode_component(root, around, side, R[:, 0])
        return R

    return decode


def _decode_component(
    root: int, around: list[list[tuple[int, int]]], side: list[int], weights: Array
) -> None:
    """Fill in the weights of the edges in the component of `root`, and the sides of its vertices.

    Parameters
    ----------
    root
        A vertex.
    around
        For each vertex its neighbours and the edges that lead there.
    side
        0 for the vertices that were not visited.
    weights : (n,)
        One for each edge.
    """
    side[root] = 1
    tree = [(root, root, -1)]  # vertex, its parent and the edge between, breadth first
    odd = None
    for a, _, _ in tree:
        for b, i in around[a]:
            if not side[b]:
                side[b] = -side[a]
                tree.append((b, a, i))
            elif side[b] == side[a]:
                odd = (a, b, i)
    excess = sum(side[a] for a, _, _ in tree)
    missing = dict.fromkeys((a for a, _, _ in tree), 1.0)  # of alpha, not yet on an edge
    if odd is None:
        missing = {a: 1.0 - side[a] * excess / len(tree) for a in missing}
    else:
        # an edge of the tree adds the same to both sides; this one evens them out
        a, b, i = odd
        weights[i] = side[a] * excess / 2
        missing[a] -= weights[i]
        missing[b] -= weights[i]
    for a, parent, i in reversed(tree[1:]):
        weights[i] = missing[a]
        missing[parent] -= missing[a]
