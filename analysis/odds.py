"""Codes for workers that straggle with different probabilities: the table of docs/designs.md.

Mean Err_S over straggler sets of the true law, each worker late by itself, for codes that know the
probabilities and for codes that do not, with the bound that no code can beat. Then what
`gcmpi.codes.placement.place` is worth: the bound, and the error of codes trained for the odds,
with the slow workers side by side and spread out. About six minutes on one core the first time;
trained codes are kept in the user's cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from gcmpi import bounds, environment
from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.placement import place
from gcmpi.encodings import exact_trained
from gcmpi.errors import ErrorEngine, sample_bernoulli, target
from gcmpi.registry import ASSIGNMENTS, ENCODINGS

M = 2
CASES: dict[str, tuple[str, tuple[str, int, float, float]]] = {
    "plane 5, 6 at .5": ("projective-plane:order=5", ("slow", 6, 0.5, 0.05)),
    "plane 5, lognormal": ("projective-plane:order=5", ("lognormal", 0, 0.1, 1.0)),
    "plane 5, all at .4": ("projective-plane:order=5", ("slow", 0, 0.0, 0.4)),
    "bi-regular 40, lognormal": ("biregular:n=40,k=20,delta=3", ("lognormal", 0, 0.1, 1.0)),
    "coset 54, 11 at .6": ("coset:k=27,m=2,generators=0+1+3+9+20", ("slow", 11, 0.6, 0.1)),
    "plane 9, 18 at .5": ("projective-plane:order=9", ("slow", 18, 0.5, 0.05)),
}
"""Assignment; number of slow workers with their and the others' odds, or median and sigma."""

PLACED = ("cyclic:n=30,delta=6", "projective-plane:order=5")
"""Assignments whose first six workers are late half of the time."""


def probabilities(n: int, kind: str, slow: int, first: float, second: float) -> Array:
    """Return each worker's probability to straggle: the first are slow, or a lognormal spread."""
    if kind == "slow":
        return np.where(np.arange(n) < slow, first, second)
    spread: Array = first * np.exp(second * np.random.default_rng(0).standard_normal(n))
    return np.minimum(0.9, spread)


def rows(A: AnyArray, odds: Array, sets: int) -> Iterator[tuple[str, float, float]]:
    """Yield a name, the mean of Err_S and its standard error for each code."""
    quarter = -(-A.shape[1] // 4)
    for name, encoding, known in (
        ("random-diagonal", "random-diagonal", None),
        ("harmonic", "harmonic", None),
        ("harmonic, odds known", "harmonic", odds),
        ("exact-trained", f"exact-trained:stragglers={quarter}", None),
        ("exact-trained, odds known", "exact-trained", odds),
    ):
        fixed = (
            None if name == "random-diagonal" else ENCODINGS.build(encoding, A=A, m=M, odds=known)
        )

        def draw(rng: np.random.Generator, fixed: Array | None = fixed) -> Array:
            B: Array = ENCODINGS.build("random-diagonal", A=A, m=M, rng=rng)
            return B if fixed is None else fixed

        draws = 20 if fixed is None else 1
        found = sample_bernoulli(
            draw, M, odds, np.random.default_rng(1), draws=draws, sets=sets // draws
        )
        yield name, found.mean, found.stderr
    yield "no code below", bounds.independent_holder_bound(A, M, odds), 0.0


def placement(assignment: str, sets: int) -> Iterator[tuple[str, float, float]]:
    """Yield a name, the bound and the mean of Err_S before and after workers change places."""
    A = ASSIGNMENTS.build(assignment)
    odds = probabilities(A.shape[1], "slow", 6, 0.5, 0.05)
    late = np.random.default_rng(1).random((sets, len(odds))) < odds
    for name, placed in (("side by side", A), ("placed", A[:, place(A, M, odds=odds)])):
        B = exact_trained(placed, M, steps=3000, starts=2, odds=odds)
        mean = ErrorEngine(B, target(B, M)).errors(~late).mean()
        yield name, bounds.independent_holder_bound(placed, M, odds), float(mean)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--case", choices=[*CASES, "placement"], help="one case instead of all")
    parser.add_argument("--sets", type=int, default=20000, help="straggler sets of the true law")
    options = parser.parse_args()
    environment.one_blas_thread()
    for case, (assignment, law) in CASES.items():
        if options.case not in (None, case):
            continue
        A = ASSIGNMENTS.build(assignment)
        odds = probabilities(A.shape[1], *law)
        print(f"# {case}: {assignment}, m={M}, {odds.sum():.1f} stragglers expected", flush=True)
        for name, mean, stderr in rows(A, odds, options.sets):
            print(f"  {name:<26} {mean:10.4g} +- {stderr:.1g}", flush=True)
    for assignment in PLACED if options.case in (None, "placement") else ():
        print(f"# placement: {assignment}, m={M}, 6 at .5, the others at .05", flush=True)
        for name, bound, mean in placement(assignment, options.sets):
            print(f"  {name:<13} no code below {bound:8.2g}, exact-trained {mean:8.2g}", flush=True)


if __name__ == "__main__":
    main()
