"""Assignments from bipartite graphs: subsets on one side, workers on the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import floor, isqrt

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments.catalogue import nearby, recommended
from gcmpi.codes.assignments.fields import prime_power
from gcmpi.registry import ASSIGNMENTS, Size, Wanted
from gcmpi.seeds import CODE, generator


def is_invertible_load(k: int, delta: int) -> bool:
    """Say whether k is a power of a prime that does not divide delta."""
    power = prime_power(k)
    return power is not None and delta % power[0] != 0


def _coset_sizes(wanted: Wanted) -> Iterator[Size]:
    """Without a wish, the first load from 3 on that k allows."""
    n = wanted.n
    for k in (k for k in range(2, n + 1) if n % k == 0 and prime_power(k)):
        if wanted.load is not None and wanted.delta is None:
            loads = range(floor(wanted.load * k), 0, -1)
            load = next((d for d in loads if is_invertible_load(k, d)), 0)
        else:
            loads = range(3, k + 1)
            load = wanted.delta or next((d for d in loads if is_invertible_load(k, d)), 1)
        if 1 <= load <= k and is_invertible_load(k, load):
            generators = _generators(k, load)
            yield Size({"k": k, "m": n // k, "generators": generators}, k, load)


def _generators(k: int, delta: int) -> tuple[int, ...]:
    """Return delta residues modulo k, their differences different for as long as that goes.

    Then no two workers of one copy share more than one subset.
    """
    chosen, used = [0], np.zeros(k, dtype=bool)
    used[0] = True
    for residue in range(1, k):
        steps = np.array([(residue - old) % k for old in chosen])
        both = np.concatenate([steps, -steps % k])
        if len(chosen) < delta and len(set(both)) == len(both) and not used[both].any():
            chosen.append(residue)
            used[both] = True
    rest = (residue for residue in range(k) if residue not in chosen)
    return tuple(sorted([*chosen, *islice(rest, delta - len(chosen))]))


@ASSIGNMENTS.register(
    "coset",
    {"k": 5, "m": 2, "generators": (0, 1, 3)},
    {"k": 9, "m": 2, "generators": (0, 1, 3, 4)},
    {"k": 4, "m": 3, "generators": (0, 1, 2)},
    vertex_transitive=True,
    sizes=_coset_sizes,
)
def coset(k: int, m: int, generators: tuple[int, ...]) -> AnyArray:
    """Coset bipartite graph: m copies, side by side, of one circulant with `generators`.

    Worker x in Z_mk holds subset i iff x is in i + b + H for some generator b, where H is the
    subgroup {0, k, .., (m-1)k}. So A = [C C .. C] with C[i, (i + b) mod k] = 1. As k is a power
    of a prime that does not divide delta, C is invertible, and a random diagonal encoding with
    this m is so with probability one.

    Parameters
    ----------
    k
        Subsets; a power of a prime that does not divide delta.
    m
        Copies: there are n = m k workers.
    generators
        The delta different residues modulo k.

    Returns
    -------
    A : (k, m * k) uint8, gamma = m * delta

    Raises
    ------
    ValueError
        If k does not fit delta or the generators are not different residues modulo k.

    References
    ----------
    Munim and Ramamoorthy, arXiv 2603.22514, section 2.
    """
    delta = len(generators)
    if m < 1:
        raise ValueError(f"coset needs at least one copy, not m={m}")
    if not is_invertible_load(k, delta):
        power = prime_power(k)
        why = f"{power[0]} divides {delta}" if power else f"{k} is not a prime power"
        raise ValueError(
            f"coset needs k a prime power that does not divide delta, not k={k}, delta={delta}: "
            f"{why}; {nearby('k', k, lambda v: v >= delta and is_invertible_load(v, delta))}"
        )
    if not delta or len(set(generators)) < delta or not all(0 <= b < k for b in generators):
        raise ValueError(
            f"coset needs different generators in 0..{k - 1}, not {'+'.join(map(str, generators))}"
        )
    subset, worker = np.ogrid[:k, : m * k]
    return np.isin((worker - subset) % k, generators).astype(np.uint8)


def _biregular_sizes(wanted: Wanted) -> Iterator[Size]:
    """As many subsets as workers, or half as many; without a wish a load of about sqrt(n)."""
    n = wanted.n
    for k in (n, n // 2) if n % 2 == 0 else (n,):
        delta = wanted.delta_of(k)
        load = min(isqrt(n - 1) + 1, k) if delta is None else delta
        if 1 <= load <= k:
            yield Size({"n": n, "k": k, "delta": load, "seed": 0}, k, load)


@ASSIGNMENTS.register(
    "biregular",
    {"n": 8, "k": 4, "delta": 2},
    {"n": 6, "k": 9, "delta": 3, "seed": 7},
    {"n": 12, "k": 12, "delta": 4, "seed": 1},
    sizes=_biregular_sizes,
)
def biregular(n: int, k: int, delta: int, seed: int = 0) -> AnyArray:
    """Random bi-regular graph: delta subsets per worker, n delta / k workers per subset.

    Starts from cyclic repetition and makes `10 n` trades: two workers throw together the subsets
    that only one of them holds, and deal them out again at random. Every trade keeps both
    degrees and can be undone with the same probability, and trades connect all such graphs, so
    the stationary distribution is uniform over all bi-regular graphs without repeated edges.
    The regularity is certain; how near to uniform 10 n trades come is known by tests only, and
    the graph need not be connected.

    Parameters
    ----------
    n, k
        Workers and subsets.
    delta
        Subsets per worker, 1 to k, with n * delta a multiple of k.
    seed
        Chooses the graph.

    Returns
    -------
    A : (k, n) uint8, gamma = n * delta / k

    Raises
    ------
    ValueError
        If there is no such graph.

    References
    ----------
    G. Strona et al., A fast and unbiased procedure to randomize ecological binary matrices with
    fixed row and column totals, Nature Communications 5, 2014; C. J. Carstens, Proof of uniform
    sampling of binary matrices with fixed row sums and column sums for the fast Curveball
    algorithm, Physical Review E 91, 2015.
    """

    def possible(load: int) -> bool:
        return 1 <= load <= k and n * load % k == 0

    if n < 1 or k < 1:
        raise ValueError(f"biregular needs n and k at least 1, not n={n}, k={k}")
    if seed < 0:
        raise ValueError(f"biregular needs seed at least 0, not seed={seed}")
    if not possible(delta):
        raise ValueError(
            f"biregular needs delta in 1..{k} with n * delta a multiple of k, "
            f"not n={n}, k={k}, delta={delta}; {nearby('delta', delta, possible)}; "
            f"{recommended(n, k, delta)} ranks all codes of this load"
        )
    rng = generator(seed, CODE)
    held = [{(i * delta + u) % k for u in range(delta)} for i in range(n)]
    for _ in range(10 * n if n > 1 else 0):
        a, b = rng.choice(n, size=2, replace=False)
        both = held[a] & held[b]
        pool = rng.permutation(sorted(held[a] ^ held[b])).tolist()
        share = delta - len(both)
        held[a], held[b] = both | set(pool[:share]), both | set(pool[share:])
    A = np.zeros((k, n), dtype=np.uint8)
    for i, subsets in enumerate(held):
        A[sorted(subsets), i] = 1
    return A
