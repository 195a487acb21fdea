"""Assignments from bipartite graphs: subsets on one side, workers on the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gcmpi.assignments.catalogue import nearby
from gcmpi.assignments.fields import prime_power
from gcmpi.code import AnyArray
from gcmpi.registry import ASSIGNMENTS, Size


def _invertible(k: int, delta: int) -> bool:
    """Say whether k is a power of a prime that does not divide delta."""
    power = prime_power(k)
    return power is not None and delta % power[0] != 0


def _coset_sizes(n: int, delta: int | None) -> Iterator[Size]:
    """Without a wish, the first load from 3 on that k allows; generators 0, 1, 3, 7, .. mod k."""
    for m in range(1, n + 1):
        k, rest = divmod(n, m)
        if rest or prime_power(k) is None:
            continue
        load = delta or next((d for d in range(3, k + 1) if _invertible(k, d)), 1)
        if load <= k and _invertible(k, load):
            yield Size({"k": k, "m": m, "generators": _spread(k, load)}, k, load)


def _spread(k: int, delta: int) -> tuple[int, ...]:
    """Return delta residues modulo k, greedily with few repeated differences."""
    chosen, seen = [0], np.zeros(k, dtype=int)
    while len(chosen) < delta:
        candidates = np.setdiff1d(np.arange(k), chosen)
        steps = (candidates[:, None] - np.array(chosen)) % k
        best = int(candidates[(seen[steps] + seen[-steps % k]).sum(axis=1).argmin()])
        for old in chosen:
            seen[(best - old) % k] += 1
            seen[(old - best) % k] += 1
        chosen.append(best)
    return tuple(sorted(chosen))


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
    if not _invertible(k, delta):
        power = prime_power(k)
        why = f"{power[0]} divides {delta}" if power else f"{k} is not a prime power"
        raise ValueError(
            f"coset needs k a prime power that does not divide delta, not k={k}, delta={delta}: "
            f"{why}; {nearby('k', k, lambda v: v >= delta and _invertible(v, delta))}"
        )
    if not delta or len(set(generators)) < delta or not all(0 <= b < k for b in generators):
        raise ValueError(
            f"coset needs different generators in 0..{k - 1}, not {'+'.join(map(str, generators))}"
        )
    subset, worker = np.ogrid[:k, : m * k]
    return np.isin((worker - subset) % k, generators).astype(np.uint8)
