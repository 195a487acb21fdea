"""Graph codes: every worker holds r of r c subsets, no two workers many of the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments.catalogue import nearby
from gcmpi.codes.assignments.expanders import circulant_edges
from gcmpi.codes.assignments.repetition import groups, how_many_groups
from gcmpi.registry import ASSIGNMENTS, Size, Wanted
from gcmpi.seeds import CODE, generator

STARTS, SWAPS = 8, 60
"""Random graphs of which the best is taken, and swaps tried for each copy of a subset."""
CIRCULANTS = 3000
"""Circulant graphs of which the best is taken."""


def largest_r(n: int, c: int, m: int, s: int) -> int:
    """Return the largest r with n - s >= m r c, at least 1: how many subsets a worker should hold.

    Of all graph codes on n workers of load 1/c whose s stragglers are to be survived, this one has
    the least worst case, at the mean error of groups: the rule, met in all settings tried (n = 30
    to 64, m = 1 to 4). With r = 1, or n - s < m c, take groups.

    Parameters
    ----------
    n
        Workers.
    c
        A worker holds 1/c of the data.
    m
        Communication reduction factor.
    s
        Stragglers.

    Raises
    ------
    ValueError
        If c is not in 1..n, m is below 1 or s is not in 0..n.
    """
    if not (1 <= c <= n and m >= 1 and 0 <= s <= n):
        raise ValueError(
            f"the rule needs 1 <= c <= n, m >= 1 and s in 0..n, not n={n}, c={c}, m={m}, s={s}"
        )
    return max(1, (n - s) // (m * c))


def _sizes(wanted: Wanted) -> Iterator[Size]:
    """List one graph, with `largest_r` subsets on a worker for s stragglers, or two by default."""
    n, c, r = wanted.n, how_many_groups(wanted), wanted.delta
    if r is None:
        r = 2 if wanted.s is None or c > n else largest_r(n, c, wanted.m, wanted.s)
    if 1 < c and 1 < r <= n // c:  # with more subsets than workers no weights lose nothing
        yield Size({"n": n, "c": c, "r": r}, r * c, r)


@ASSIGNMENTS.register(
    "graph",
    {"n": 8, "c": 2, "r": 2},
    {"n": 9, "c": 3, "r": 2},
    irregular=True,
    sizes=_sizes,
)
def graph(n: int, c: int, r: int = 2, seed: int = 0) -> AnyArray:
    """Graph: every worker holds r of r c subsets, few pairs of subsets twice.

    The load is 1/c and a subset is on n / c workers, rounded down or up, as with `groups`, which
    is r = 1. With generic weights (``--encoding frame``) and n - s >= m r c (`largest_r`) the mean
    error is that of groups, while the worst case is r times smaller: losing all holders of a
    subset costs 1/(r c) of the gradient. For r = 2 subsets are vertices and workers are edges.

    Where r = 2 and 2 c divides n the graph is circulant: the one whose eigenvalues are closest
    together, C10(1, 3, 4) for n = 30 and c = 5. Otherwise it comes from random swaps that minimise
    the sum of the squared numbers of workers that pairs of subsets share, the best of eight.

    Parameters
    ----------
    n
        Workers.
    c
        A worker holds 1/c of the data; 1 to n.
    r
        Subsets per worker.
    seed
        Of the random swaps.

    Returns
    -------
    A : (r c, n) uint8, delta = r, gamma = n / c rounded down or up

    Raises
    ------
    ValueError
        If c is not in 1..n, r is below 1 or the seed negative.

    References
    ----------
    Glasgow and Wootters, Approximate gradient coding with optimal decoding, IEEE J. Selected
    Areas in Information Theory 2, 2021, arXiv 2006.09638 (m = 1 and r = 2).
    """
    if r < 1 or seed < 0:
        raise ValueError(f"graph needs r >= 1 and a seed of at least 0, not r={r}, seed={seed}")
    if not 1 <= c <= n:
        raise ValueError(
            f"graph needs 1 <= c <= n, not n={n}, c={c}; {nearby('c', c, lambda v: 1 <= v <= n)}"
        )
    if r == 1:
        return groups(n, c)
    half, rest = divmod(n, 2 * c)
    if r == 2 and not rest and 2 * half < 2 * c:
        return min(_circulants(2 * c, half, seed), key=_cost)
    rng = generator(seed, CODE)
    return min((_swapped(n, r * c, r, rng) for _ in range(STARTS)), key=_cost)


def _circulants(vertices: int, half: int, seed: int) -> Iterator[AnyArray]:
    """Iterate over circulant graphs of degree 2 half: all of them, or random ones."""
    most = (vertices - 1) // 2
    chosen: Iterable[tuple[int, ...]]
    if math.comb(most, half) <= CIRCULANTS:
        chosen = itertools.combinations(range(most, 0, -1), half)
    else:
        rng = generator(seed, CODE)
        chosen = (tuple(rng.permutation(most)[:half] + 1) for _ in range(CIRCULANTS))
    for generators in chosen:
        yield circulant_edges(vertices, tuple(sorted(int(b) for b in generators)))


def _cost(A: AnyArray) -> tuple[int, float, float]:
    """Return the sum of squared pair counts, and how far eigenvalues of A A' are from gamma.

    The largest eigenvalue, that of all subsets together, is left out. A bipartite graph has one of
    0, as far from gamma as can be.
    """
    shared = A.astype(np.float64) @ A.T
    eigenvalues = np.linalg.eigvalsh(shared)[:-1]
    gamma = float(A.sum(dtype=np.intp)) / len(A)
    pairs = int(np.sum(np.triu(shared, 1) ** 2))
    away = float(np.abs(eigenvalues - gamma).max(initial=0))
    return pairs, round(away, 6), round(float(eigenvalues.max(initial=0)), 6)


def _swapped(n: int, k: int, r: int, rng: np.random.Generator) -> AnyArray:
    """Return r subsets a worker, dealt in turn and swapped while that lowers the pair counts."""
    held = (np.arange(n * r) % k).reshape(n, r).tolist()  # each subset in turn: a balanced start
    together = [[0] * k for _ in range(k)]
    for subsets in held:
        for a, b in itertools.permutations(subsets, 2):
            together[a][b] += 1
    for first, second, u, v in rng.integers((n, n, r, r), size=(SWAPS * n * r, 4)).tolist():
        one, other = held[first], held[second]
        a, b = one[u], other[v]
        if first == second or a in other or b in one:
            continue
        rest, others = one[:u] + one[u + 1 :], other[:v] + other[v + 1 :]
        change = sum(together[b][x] - together[a][x] + 1 for x in rest)
        change += sum(together[a][x] - together[b][x] + 1 for x in others)
        if change > 0:
            continue
        for x in rest:
            _count(together, a, x, -1)
            _count(together, b, x, 1)
        for x in others:
            _count(together, b, x, -1)
            _count(together, a, x, 1)
        one[u], other[v] = b, a
    A = np.zeros((k, n), dtype=np.uint8)
    A[np.array(held).T, np.arange(n)] = 1
    return A


def _count(together: list[list[int]], a: int, b: int, by: int) -> None:
    together[a][b] += by
    together[b][a] += by
