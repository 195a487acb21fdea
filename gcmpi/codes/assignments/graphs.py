"""Assignments from strongly regular graphs: worker i holds subset j iff i and j are adjacent.

A is the adjacency matrix, k = n and gamma = delta. Adjacent workers share lambda subsets and the
others mu: A^2 = delta I + lambda A + mu (J - I - A). The complement J - I - A is strongly regular
too. All graphs here are vertex-transitive. Parameters are written (n, delta, lambda, mu).

References for all: Brouwer and Van Maldeghem, Strongly Regular Graphs, 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb, isqrt

import numpy as np

from gcmpi.arrays import AnyArray, BoolArray
from gcmpi.codes.assignments.catalogue import nearby, one_option, with_complement
from gcmpi.codes.assignments.fields import differences, is_prime_power, logarithms, products
from gcmpi.registry import ASSIGNMENTS, Size, Wanted


def graph(adjacent: BoolArray, complement: bool = False) -> AnyArray:
    """Return the matrix of a graph or of its complement; the diagonal is ignored."""
    A: AnyArray = (adjacent ^ complement).astype(np.uint8)
    np.fill_diagonal(A, 0)
    return A


def _is_paley(q: int) -> bool:
    return q % 4 == 1 and is_prime_power(q)


@ASSIGNMENTS.register(
    "paley",
    {"q": 5},
    {"q": 9},
    {"q": 13},
    vertex_transitive=True,
    sizes=one_option("q", lambda q: (q, q, (q - 1) // 2), _is_paley),
)
def paley(q: int) -> AnyArray:
    """Paley graph on GF(q): two workers are adjacent iff their difference is a square.

    It is its own complement: (q, (q - 1)/2, (q - 5)/4, (q - 1)/4).

    Parameters
    ----------
    q
        Workers; a prime power that is 1 modulo 4.

    Returns
    -------
    A : (q, q) uint8

    Raises
    ------
    ValueError
        If q is not of that form.

    References
    ----------
    P. Erdos and A. Renyi, Asymmetric graphs, Acta Math. Acad. Sci. Hungar. 14, 1963.
    """
    if not _is_paley(q):
        raise ValueError(
            f"paley needs q a prime power that is 1 modulo 4, not q={q}; "
            f"{nearby('q', q, _is_paley)}"
        )
    return graph((logarithms(q) % 2 == 0)[differences(q)])


def _pairs_in_common(v: int) -> AnyArray:
    """Return how many elements the pairs from v elements share, shape (v (v-1)/2,) twice."""
    pairs = np.zeros((comb(v, 2), v), dtype=np.uint8)
    pairs[np.arange(len(pairs))[:, None], list(combinations(range(v), 2))] = 1
    return pairs @ pairs.T


@ASSIGNMENTS.register(
    "triangular",
    {"v": 4},
    {"v": 5},
    {"v": 6},
    vertex_transitive=True,
    sizes=one_option(
        "v", lambda v: (v * (v - 1) // 2, v * (v - 1) // 2, 2 * v - 4), lambda v: v > 3
    ),
)
def triangular(v: int) -> AnyArray:
    """Triangular graph T(v): workers are the pairs from v elements, adjacent iff they meet.

    (v (v - 1)/2, 2 (v - 2), v - 2, 4).

    Parameters
    ----------
    v
        4 or more.

    Returns
    -------
    A : (n, n) uint8, n = v (v - 1)/2

    Raises
    ------
    ValueError
        If v is below 4.
    """
    if v < 4:
        raise ValueError(f"triangular needs v at least 4, not v={v}")
    return graph(_pairs_in_common(v) == 1)


@ASSIGNMENTS.register(
    "kneser",
    {"v": 5},
    {"v": 6},
    vertex_transitive=True,
    sizes=one_option(
        "v", lambda v: (v * (v - 1) // 2, v * (v - 1) // 2, (v - 2) * (v - 3) // 2), lambda v: v > 4
    ),
)
def kneser(v: int) -> AnyArray:
    """Kneser graph K(v, 2), the complement of T(v): pairs are adjacent iff they are disjoint.

    (v (v - 1)/2, (v - 2)(v - 3)/2, (v - 4)(v - 5)/2, (v - 3)(v - 4)/2).

    Parameters
    ----------
    v
        5 or more.

    Returns
    -------
    A : (n, n) uint8, n = v (v - 1)/2

    Raises
    ------
    ValueError
        If v is below 5.
    """
    if v < 5:
        raise ValueError(f"kneser needs v at least 5, not v={v}")
    return graph(_pairs_in_common(v) == 0)


@ASSIGNMENTS.register(
    "lattice",
    {"v": 2},
    {"v": 3},
    {"v": 4, "complement": True},
    vertex_transitive=True,
    sizes=with_complement(
        one_option("v", lambda v: (v * v, v * v, 2 * v - 2), lambda v: v > 1), graph=True
    ),
)
def lattice(v: int, complement: bool = False) -> AnyArray:
    """Lattice graph L2(v), the rook's graph: cells of a square, adjacent iff in one row or column.

    (v^2, 2 (v - 1), v - 2, 2).

    Parameters
    ----------
    v
        Side of the square, 2 or more.
    complement
        Take J - I - A.

    Returns
    -------
    A : (v^2, v^2) uint8

    Raises
    ------
    ValueError
        If v is below 2.
    """
    if v < 2:
        raise ValueError(f"lattice needs v at least 2, not v={v}")
    row, column = np.divmod(np.arange(v * v), v)
    return graph(_agree(row) | _agree(column), complement)


def _agree(labels: AnyArray) -> BoolArray:
    equal: BoolArray = labels[:, None] == labels[None, :]
    return equal


def _most_squares(v: int) -> int:
    """Return how many squares `latin_square` takes for a side v."""
    return v - 2 if is_prime_power(v) else min(v - 2, 1)


def _latin_sizes(wanted: Wanted) -> Iterator[Size]:
    """List a complement only where no number of squares has its parameters."""
    n = wanted.n
    v = isqrt(n)
    for squares in range(1, _most_squares(v) + 1 if v * v == n else 1):
        options, load = {"v": v, "squares": squares}, (squares + 2) * (v - 1)
        yield Size(options, n, load)
        if not is_prime_power(v):
            yield Size({**options, "complement": True}, n, n - 1 - load)


@ASSIGNMENTS.register(
    "latin-square",
    {"v": 3},
    {"v": 6},
    {"v": 5, "squares": 2},
    {"v": 6, "squares": 1, "complement": True},
    vertex_transitive=True,
    sizes=_latin_sizes,
)
def latin_square(v: int, squares: int = 1, complement: bool = False) -> AnyArray:
    """Latin-square graph: cells are adjacent iff they share row, column or symbol of a square.

    One square is the addition table modulo v. More of them, mutually orthogonal, are a x + y over
    GF(v). With r = squares + 2: (v^2, r (v - 1), (r - 1)(r - 2) + v - 2, r (r - 1)).

    Parameters
    ----------
    v
        Side of the square, 3 or more.
    squares
        1 for any v; up to v - 2 for a prime power.
    complement
        Take J - I - A.

    Returns
    -------
    A : (v^2, v^2) uint8

    Raises
    ------
    ValueError
        If there is no such set of squares here.

    References
    ----------
    R. C. Bose, Strongly regular graphs, partial geometries and partially balanced designs,
    Pacific J. Math. 13, 1963.
    """
    if v < 3:
        raise ValueError(f"latin-square needs v at least 3, not v={v}")
    if not 1 <= squares <= _most_squares(v):
        raise ValueError(
            f"latin-square with v={v} needs squares in 1..{_most_squares(v)}, not "
            f"squares={squares}; {nearby('v', v, lambda w: 1 <= squares <= _most_squares(w))}"
        )
    row, column = np.divmod(np.arange(v * v), v)
    if squares == 1:
        symbols = [(row + column) % v]
    else:
        minus, times = differences(v), products(v)
        symbols = [minus[times[a, row], column] for a in range(1, squares + 1)]
    adjacent = np.any([_agree(labels) for labels in (row, column, *symbols)], axis=0)
    return graph(adjacent, complement)
