"""Random regular graphs that expand as well as any, and assignments to the edges of graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.assignments.catalogue import nearby, recommended
from gcmpi.registry import ASSIGNMENTS, Size, Wanted
from gcmpi.seeds import CODE, generator

DRAWS = 200
"""Regular graphs drawn in search of a Ramanujan graph; about every second one is one."""


def second_eigenvalue(A: AnyArray) -> float:
    """Return the second largest absolute eigenvalue of a symmetric matrix; 0 for a single row."""
    values: Array = np.sort(np.abs(np.linalg.eigvalsh(A.astype(np.float64))))
    return float(values[-2]) if len(values) > 1 else 0.0


def is_ramanujan(A: AnyArray) -> bool:
    """Say if all eigenvalues but the first of a regular graph are at most 2 sqrt(delta - 1)."""
    delta = int(A[0].sum(dtype=np.intp))
    return second_eigenvalue(A) <= 2 * math.sqrt(delta - 1) + 1e-9


def _expander_sizes(wanted: Wanted) -> Iterator[Size]:
    """Without a wish, a load of about sqrt(n), at least 3."""
    n, load = wanted.n, wanted.delta_of(wanted.n)
    if load is None:
        load = max(3, math.isqrt(n - 1) + 1)
        load += n * load % 2
    elif wanted.delta is None:
        load -= n * load % 2
    if 3 <= load < n and n * load % 2 == 0:
        yield Size({"n": n, "delta": load, "seed": 0}, n, load)


@ASSIGNMENTS.register(
    "expander", {"n": 8, "delta": 3}, {"n": 13, "delta": 4, "seed": 3}, sizes=_expander_sizes
)
def expander(n: int, delta: int, seed: int = 0) -> AnyArray:
    """Random Ramanujan graph: a regular graph that expands as well as any.

    The eigenvalues of its adjacency matrix, apart from delta, are at most 2 sqrt(delta - 1) in
    absolute value; for many vertices none can do much better (Alon and Boppana). It is the first
    such graph among random regular ones: about half of those are Ramanujan.

    Parameters
    ----------
    n
        Workers, and as many subsets: the vertices.
    delta
        Degree, 3 to n - 1, with n * delta even.
    seed
        Chooses the graph.

    Returns
    -------
    A : (n, n) uint8, symmetric with zero diagonal; gamma = delta

    Raises
    ------
    ValueError
        If there is no such graph, or none was found.

    References
    ----------
    Raviv, Tandon, Dimakis and Tamo, Gradient coding from cyclic MDS codes and expander graphs,
    IEEE Trans. Information Theory 66, 2020; Huang, McKenzie and Yau, Ramanujan property and edge
    universality of random regular graphs, arXiv 2412.20263.
    """

    def possible(load: int) -> bool:
        return 3 <= load < n and n * load % 2 == 0

    if seed < 0:
        raise ValueError(f"expander needs seed at least 0, not seed={seed}")
    if not possible(delta):
        raise ValueError(
            f"expander needs delta in 3..n-1 with n * delta even, not n={n}, delta={delta}; "
            f"{nearby('delta', delta, possible)}; {recommended(n, n, delta)} ranks all codes of "
            "this load"
        )
    for draw in range(DRAWS):
        A = _regular_graph(n, delta, generator(seed, CODE, draw))
        if is_ramanujan(A):
            return A
    raise ValueError(
        f"expander found no Ramanujan graph among {DRAWS} random ones with n={n}, delta={delta}; "
        "try another seed"
    )


def _regular_graph(n: int, delta: int, rng: np.random.Generator) -> AnyArray:
    """Return a random regular graph: from a circulant one, by 10 n delta switches.

    A switch replaces edges ab and cd by ad and cb, unless one of these exists or is a loop. It
    can be undone with the same probability, and switches connect all regular graphs.
    """
    edges = [(i, (i + u) % n) for i in range(n) for u in range(1, delta // 2 + 1)]
    if delta % 2:
        edges += [(i, i + n // 2) for i in range(n // 2)]
    A = np.zeros((n, n), dtype=np.uint8)
    for a, b in edges:
        A[a, b] = A[b, a] = 1
    for first, second, turn in rng.integers(
        (len(edges), len(edges), 2), size=(10 * len(edges), 3)
    ).tolist():
        (a, b), (c, d) = edges[first], edges[second][:: 1 - 2 * turn]
        if len({a, b, c, d}) < 4 or A[a, d] or A[c, b]:
            continue
        A[a, b] = A[b, a] = A[c, d] = A[d, c] = 0
        A[a, d] = A[d, a] = A[c, b] = A[b, c] = 1
        edges[first], edges[second] = (a, d), (c, b)
    return A


def _edge_sizes(wanted: Wanted) -> Iterator[Size]:
    """List graphs of degree 3 and more with n edges."""
    n = wanted.n
    if wanted.delta in (None, 2):
        for degree in range(3, math.isqrt(2 * n) + 1):
            vertices, rest = divmod(2 * n, degree)
            if not rest and degree < vertices:
                options = {"vertices": vertices, "degree": degree, "seed": 0}
                yield Size(options, vertices, 2)


@ASSIGNMENTS.register("graph-edges", {"vertices": 4, "degree": 3}, sizes=_edge_sizes)
def graph_edges(vertices: int, degree: int, seed: int = 0) -> AnyArray:
    """Graph assignment to a random Ramanujan graph: subsets are vertices, workers are edges.

    Parameters
    ----------
    vertices
        Subsets.
    degree
        Workers per subset, 3 to vertices - 1, with vertices * degree even.
    seed
        Chooses the graph, as in `expander`.

    Returns
    -------
    A : (vertices, vertices * degree / 2) uint8, delta = 2, gamma = degree

    Raises
    ------
    ValueError
        If there is no such graph.

    References
    ----------
    Glasgow and Wootters, Approximate gradient coding with optimal decoding, IEEE J. Selected
    Areas in Information Theory 2, 2021, arXiv 2006.09638.
    """

    def possible(value: int) -> bool:
        return 3 <= value < vertices and vertices * value % 2 == 0

    if not possible(degree):
        raise ValueError(
            "graph-edges needs degree in 3..vertices-1 with vertices * degree even, not "
            f"vertices={vertices}, degree={degree}; {nearby('degree', degree, possible)}"
        )
    return incidence(expander(vertices, degree, seed))


def _circulant_sizes(wanted: Wanted) -> Iterator[Size]:
    """List one circulant graph of each even degree with n edges."""
    n = wanted.n
    if wanted.delta in (None, 2):
        for half in range(1, math.isqrt(n) + 1):
            vertices, rest = divmod(n, half)
            if not rest and 2 * half < vertices:
                generators = tuple(range(1, half + 1))
                yield Size({"vertices": vertices, "generators": generators}, vertices, 2)


@ASSIGNMENTS.register(
    "circulant-edges", {"vertices": 5, "generators": (1, 2)}, sizes=_circulant_sizes
)
def circulant_edges(vertices: int, generators: tuple[int, ...]) -> AnyArray:
    """Graph assignment to a circulant graph: vertex-transitive, so its optimal code is unbiased.

    Vertex j is adjacent to j + b and j - b modulo the number of vertices, b a generator.

    Parameters
    ----------
    vertices
        Subsets.
    generators
        Different numbers from 1 to less than half of the vertices.

    Returns
    -------
    A : (vertices, vertices * len(generators)) uint8, delta = 2, gamma = 2 len(generators)

    Raises
    ------
    ValueError
        If the generators are others.

    References
    ----------
    Glasgow and Wootters, Approximate gradient coding with optimal decoding, IEEE J. Selected
    Areas in Information Theory 2, 2021, arXiv 2006.09638.
    """
    most = (vertices - 1) // 2
    if (
        not generators
        or len({*generators}) < len(generators)
        or {*generators} - {*range(1, most + 1)}
    ):
        raise ValueError(
            f"circulant-edges needs different generators in 1..{most} (less than half of the "
            f"vertices), not vertices={vertices}, generators={'+'.join(map(str, generators))}"
        )
    adjacent = np.zeros(vertices, dtype=np.uint8)
    adjacent[[*generators, *(-b for b in generators)]] = 1
    j = np.arange(vertices)
    return incidence(adjacent[(j[:, None] - j) % vertices])


def incidence(adjacency: AnyArray) -> AnyArray:
    """Return the incidence matrix of a graph, (vertices, edges) uint8."""
    ends = np.argwhere(np.triu(adjacency, 1))
    A = np.zeros((len(adjacency), len(ends)), dtype=np.uint8)
    A[ends.T, np.arange(len(ends))] = 1
    return A
