"""Assignments from block designs: workers are points, subsets are blocks.

A is the transpose of the usual incidence matrix, so A'A = (delta - lambda) I + lambda J: every
worker holds delta subsets and every two workers share lambda. The complement J - A of a design
is a design with load k - delta, replication n - gamma and k - 2 delta + lambda in the place of
lambda.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments.catalogue import nearby, one_option, with_complement
from gcmpi.codes.assignments.difference_sets import develop, singer_difference_set
from gcmpi.codes.assignments.fields import differences, is_prime_power, products
from gcmpi.registry import ASSIGNMENTS, Size, Wanted


@ASSIGNMENTS.register(
    "projective-plane",
    {"order": 2},
    {"order": 3},
    {"order": 4},
    {"order": 2, "complement": True},
    vertex_transitive=True,
    sizes=with_complement(
        one_option("order", lambda q: (q * q + q + 1, q * q + q + 1, q + 1), is_prime_power)
    ),
)
def projective_plane(order: int, complement: bool = False) -> AnyArray:
    """Projective plane: n = k = order^2 + order + 1, every two workers share one subset.

    Labelled by Singer's cycle: with a difference set D modulo n, worker i holds subset j iff
    i - j is in D, so A is a circulant. For order q = r^2 the workers i with the same i modulo
    q - r + 1 form a Baer subplane: each of these classes covers every subset.

    Parameters
    ----------
    order
        A prime power.
    complement
        Take J - A.

    Returns
    -------
    A : (n, n) uint8, gamma = delta = order + 1, lambda = 1

    Raises
    ------
    ValueError
        If the order is not a prime power.

    References
    ----------
    J. Singer, A theorem in finite projective geometry and some applications to number theory,
    Trans. AMS 43, 1938.
    """
    if not is_prime_power(order):
        raise ValueError(
            f"projective-plane needs a prime power as its order, not order={order}; "
            f"{nearby('order', order, is_prime_power)}"
        )
    if order > 1000:
        raise ValueError(
            f"projective-plane of order {order} has over a million workers: choose order <= 997"
        )
    return develop(singer_difference_set(order, 2), complement)


def _space_sizes(wanted: Wanted) -> Iterator[Size]:
    """Dimension 2 is left to `projective_plane`."""
    n = wanted.n
    for dimension in range(3, n.bit_length()):
        order = 2
        while _points(order, dimension) < n:
            order += 1
        if _points(order, dimension) == n and is_prime_power(order):
            load = _points(order, dimension - 1)
            yield Size({"dimension": dimension, "order": order}, n, load)


def _points(order: int, dimension: int) -> int:
    return int((order ** (dimension + 1) - 1) // (order - 1))


@ASSIGNMENTS.register(
    "projective-space",
    {"dimension": 3, "order": 2},
    {"dimension": 3, "order": 2, "complement": True},
    {"dimension": 3, "order": 3},
    vertex_transitive=True,
    sizes=with_complement(_space_sizes),
)
def projective_space(dimension: int, order: int, complement: bool = False) -> AnyArray:
    """Points and hyperplanes of PG(dimension, order), a circulant as `projective_plane` is.

    Parameters
    ----------
    dimension
        2 or more.
    order
        A prime power q.
    complement
        Take J - A.

    Returns
    -------
    A : (n, n) uint8
        n = (q^(dimension+1) - 1)/(q - 1), gamma = delta = (q^dimension - 1)/(q - 1) and
        lambda = (q^(dimension-1) - 1)/(q - 1).

    Raises
    ------
    ValueError
        If the dimension is below 2 or the order not a prime power.

    References
    ----------
    J. Singer, A theorem in finite projective geometry and some applications to number theory,
    Trans. AMS 43, 1938.
    """
    if dimension < 2:
        raise ValueError(f"projective-space needs dimension at least 2, not dimension={dimension}")
    if not is_prime_power(order):
        raise ValueError(
            f"projective-space needs a prime power as its order, not order={order}; "
            f"{nearby('order', order, is_prime_power)}"
        )
    return develop(singer_difference_set(order, dimension), complement)


@ASSIGNMENTS.register(
    "affine-plane",
    {"order": 2},
    {"order": 3},
    {"order": 4},
    {"order": 3, "complement": True},
    vertex_transitive=True,
    sizes=with_complement(one_option("order", lambda q: (q * q, q * q + q, q + 1), is_prime_power)),
)
def affine_plane(order: int, complement: bool = False) -> AnyArray:
    """Affine plane: order^2 workers, order^2 + order subsets, every two workers share one.

    Worker order * x + y is the point (x, y). Subset order * a + b is the line y - a x = b, and
    the last ones are the lines x = b.

    Parameters
    ----------
    order
        A prime power q.
    complement
        Take J - A.

    Returns
    -------
    A : (q^2 + q, q^2) uint8, delta = q + 1, gamma = q, lambda = 1

    Raises
    ------
    ValueError
        If the order is not a prime power.

    References
    ----------
    Colbourn and Dinitz, Handbook of Combinatorial Designs, 2nd edition, 2007.
    """
    if not is_prime_power(order):
        raise ValueError(
            f"affine-plane needs a prime power as its order, not order={order}; "
            f"{nearby('order', order, is_prime_power)}"
        )
    x, y = np.divmod(np.arange(order**2), order)
    minus, times = differences(order), products(order)
    classes = [minus[times[a, x], y] for a in range(order)] + [x]
    A = np.concatenate([line == np.arange(order)[:, None] for line in classes])
    return (A ^ complement).astype(np.uint8)


def _is_steiner(v: int) -> bool:
    return v >= 7 and v % 6 in (1, 3)


@ASSIGNMENTS.register(
    "steiner-triple",
    {"v": 7},
    {"v": 9},
    {"v": 13},
    {"v": 9, "complement": True},
    sizes=with_complement(
        one_option("v", lambda v: (v, v * (v - 1) // 6, (v - 1) // 2), _is_steiner)
    ),
)
def steiner_triple(v: int, complement: bool = False) -> AnyArray:
    """Steiner triple system: three workers a subset, every two workers share one subset.

    Bose's construction for v = 6t + 3 and Skolem's for v = 6t + 1. Points are (x, i) with x in
    Z_2t+1 or Z_2t and i in Z_3, and one more point in Skolem's. A quasigroup x o y gives the
    triples (x, i), (y, i), (x o y, i + 1).

    Parameters
    ----------
    v
        Workers; 1 or 3 modulo 6, at least 7.
    complement
        Take J - A.

    Returns
    -------
    A : (v (v - 1) / 6, v) uint8, delta = (v - 1) / 2, gamma = 3, lambda = 1

    Raises
    ------
    ValueError
        If there is no such system.

    References
    ----------
    R. C. Bose, On the construction of balanced incomplete block designs, Annals of Eugenics 9,
    1939; T. Skolem, Some remarks on the triple systems of Steiner, Math. Scand. 6, 1958.
    """
    if not _is_steiner(v):
        raise ValueError(
            f"steiner-triple needs v = 1 or 3 modulo 6 and at least 7, not v={v}; "
            f"{nearby('v', v, _is_steiner)}"
        )
    triples = _bose(v // 6) if v % 6 == 3 else _skolem(v // 6)
    A = np.zeros((len(triples), v), dtype=bool)
    A[np.arange(len(triples))[:, None], triples] = True
    return (A ^ complement).astype(np.uint8)


def _bose(t: int) -> list[tuple[int, int, int]]:
    """Point (x, i) is number 3x + i; x o y = (x + y) / 2 modulo 2t + 1."""
    order = 2 * t + 1
    triples = [(3 * x, 3 * x + 1, 3 * x + 2) for x in range(order)]
    for x, y in combinations(range(order), 2):
        z = (x + y) * (t + 1) % order
        triples += [(3 * x + i, 3 * y + i, 3 * z + (i + 1) % 3) for i in range(3)]
    return triples


def _skolem(t: int) -> list[tuple[int, int, int]]:
    """As `_bose`, and 6t is the extra point; x o y is half of x + y, or t + that rounded down."""
    order = 2 * t
    triples = [(3 * x, 3 * x + 1, 3 * x + 2) for x in range(t)]
    for x in range(t):
        triples += [(6 * t, 3 * (x + t) + i, 3 * x + (i + 1) % 3) for i in range(3)]
    for x, y in combinations(range(order), 2):
        half, odd = divmod((x + y) % order, 2)
        z = half + t * odd
        triples += [(3 * x + i, 3 * y + i, 3 * z + (i + 1) % 3) for i in range(3)]
    return triples
