"""Assignments by plain repetition: every number of workers, no design needed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments.catalogue import nearby, recommended
from gcmpi.registry import ASSIGNMENTS, Size, Wanted


def _any_load(wanted: Wanted) -> Iterator[Size]:
    """Without a wish, a load of about sqrt(n), as in a projective plane."""
    n, delta = wanted.n, wanted.delta_of(wanted.n)
    delta = math.isqrt(n - 1) + 1 if delta is None else delta
    if 1 <= delta <= n:
        yield Size({"n": n, "delta": delta}, n, delta)


def _dividing_load(wanted: Wanted) -> Iterator[Size]:
    n, delta = wanted.n, wanted.delta
    loads = [load for load in range(1, n + 1) if n % load == 0 and delta in (None, load)]
    if wanted.load is not None:
        loads = [load for load in loads if load <= wanted.load * n][-1:]
    for load in loads:
        yield Size({"n": n, "delta": load}, n, load)


def _identity(wanted: Wanted) -> Iterator[Size]:
    yield Size({"n": wanted.n}, wanted.n, 1)


def how_many_groups(wanted: Wanted) -> int:
    """Return the c for which 1/c is the load that is wanted, or the most below it.

    Without a wish, groups have at least about sqrt(n) workers, the replication of a projective
    plane.
    """
    if wanted.load is not None:
        return math.ceil(1 / wanted.load)
    return max(1, wanted.n // (math.isqrt(wanted.n - 1) + 1))


def _groups(wanted: Wanted) -> Iterator[Size]:
    c = how_many_groups(wanted)
    if wanted.delta in (None, 1) and c <= wanted.n:
        yield Size({"n": wanted.n, "c": c}, c, 1)


@ASSIGNMENTS.register(
    "cyclic",
    {"n": 5, "delta": 2},
    {"n": 7, "delta": 3},
    vertex_transitive=True,
    sizes=_any_load,
)
def cyclic(n: int, delta: int) -> AnyArray:
    """Cyclic repetition: worker i holds the subsets i, i+1, .., i+delta-1 modulo n.

    Parameters
    ----------
    n
        Workers, and as many subsets.
    delta
        Subsets per worker, 1 to n.

    Returns
    -------
    A : (n, n) uint8, gamma = delta

    Raises
    ------
    ValueError
        If delta is not in 1..n.

    References
    ----------
    Tandon, Lei, Dimakis and Karampatziakis, Gradient Coding, ICML 2017.
    """
    if not 1 <= delta <= n:
        raise ValueError(
            f"cyclic needs 1 <= delta <= n, not n={n}, delta={delta}; "
            f"{nearby('delta', delta, lambda v: 1 <= v <= n)}"
        )
    subset, worker = np.ogrid[:n, :n]
    A: AnyArray = ((subset - worker) % n < delta).astype(np.uint8)
    return A


@ASSIGNMENTS.register(
    "fractional-repetition",
    {"n": 6, "delta": 2},
    {"n": 6, "delta": 3},
    vertex_transitive=True,
    sizes=_dividing_load,
)
def fractional_repetition(n: int, delta: int) -> AnyArray:
    """Fractional repetition: delta workers after the other hold the same delta subsets.

    Parameters
    ----------
    n
        Workers, and as many subsets.
    delta
        Subsets per worker and size of a group; a divisor of n.

    Returns
    -------
    A : (n, n) uint8, gamma = delta

    Raises
    ------
    ValueError
        If n is not positive or delta does not divide it.

    References
    ----------
    Tandon, Lei, Dimakis and Karampatziakis, Gradient Coding, ICML 2017.
    """
    if n < 1:
        raise ValueError(f"fractional-repetition needs n at least 1, not n={n}")
    if delta < 1 or n % delta:
        raise ValueError(
            f"fractional-repetition needs delta a divisor of n, not n={n}, delta={delta}; "
            f"{nearby('delta', delta, lambda v: n % v == 0)}, or groups:n={n},c="
            f"{min(n, max(1, round(n / max(delta, 1))))}, which exists for every n and c; "
            f"{recommended(n, n, delta)} ranks all codes of this load"
        )
    group = np.arange(n) // delta
    A: AnyArray = (group[:, None] == group[None, :]).astype(np.uint8)
    return A


@ASSIGNMENTS.register("groups", {"n": 7, "c": 3}, {"n": 6, "c": 2}, irregular=True, sizes=_groups)
def groups(n: int, c: int) -> AnyArray:
    """Balanced groups: worker i holds subset i mod c alone, for every n and every c <= n.

    The c groups have floor(n / c) or ceil(n / c) workers and equal shares of the data, so that a
    worker holds 1/c of the data. No code on as many copies of the data has a smaller mean error
    than ``--encoding frame`` on these groups (`gcmpi.bounds.load_bound`). Workers that follow one
    another are in different groups, so that workers of one host usually are too.

    Parameters
    ----------
    n
        Workers.
    c
        Groups, and as many subsets; 1 to n.

    Returns
    -------
    A : (c, n) uint8, delta = 1, gamma = n / c rounded down or up

    Raises
    ------
    ValueError
        If c is not in 1..n.
    """
    if not 1 <= c <= n:
        raise ValueError(
            f"groups needs 1 <= c <= n, not n={n}, c={c}; {nearby('c', c, lambda v: 1 <= v <= n)}"
        )
    subset, worker = np.ogrid[:c, :n]
    A: AnyArray = (worker % c == subset).astype(np.uint8)
    return A


@ASSIGNMENTS.register("uncoded", {"n": 3}, vertex_transitive=True, sizes=_identity)
def uncoded(n: int) -> AnyArray:
    """No redundancy: worker i holds subset i alone.

    Returns
    -------
    A : (n, n) uint8, the identity

    Raises
    ------
    ValueError
        If n is not positive.
    """
    if n < 1:
        raise ValueError(f"uncoded needs n at least 1, not n={n}")
    A: AnyArray = np.eye(n, dtype=np.uint8)
    return A
