"""The laws of an encoding B (m * k, n) of an assignment A (k, n)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray, BoolArray
from gcmpi.codes import theorems
from gcmpi.codes.errors import ErrorEngine, orders, sample, target
from gcmpi.promises import SetTheorem
from gcmpi.registry import ENCODINGS
from gcmpi.testing.assignments import chosen, is_symmetric
from gcmpi.testing.bias import check_unbiased
from gcmpi.testing.cases import Case, straggler_sets
from gcmpi.testing.parts import Place, part

DRAWS = 16
"""Encodings over which a mean error is taken."""
STANDARD_ERRORS = 6
"""By how many a mean error may be beyond a bound."""
LAYOUT = "row u*k + j of B is part u of subset j"


def check_encoding(
    encoding: object,
    assignments: Any = None,
    *,
    m: int | Iterable[int] = (1, 2, 3),
    seed: int = 0,
    tolerance: float = 1e-9,
    draws: int = 600,
) -> None:
    """Check the laws of an encoding on several assignments, for several m.

    ============== ============================================================================
    shape          B is (m*k, n): row u*k + j is part u of subset j, column i is worker i
    finite         all of its entries are finite numbers
    support        B is zero wherever A is: a worker encodes only what it holds
    inputs         A stays as it is
    seed           the same generator gives the same B, and all randomness comes from it
    redrawn        promised: another generator gives another B
    exact          promised: Err_S = 0 when nobody straggles
    tolerant       promised: Err_S = 0 for every set of up to gamma - m stragglers
    errors         Err_S is between 0 and m k, and grows with every straggler
    holders        Err_S is never below what stragglers alone take away
    theorem        declared as ``theorem(A, m, s)``: it bounds the mean of Err_S from above; a
                   `SetTheorem` bounds Err_S of every set
    unbiased       promised: the mean of B_S R over encodings and straggler sets of a size is
                   alpha F, on assignments with the symmetry that section 5 of the paper needs.
                   All sets are tried where B stays the same; means over random ones are
                   blamed wrongly with a probability of 1e-6 for each assignment and m
    ============== ============================================================================

    Parameters
    ----------
    encoding
        A function ``(A, m, rng, options...) -> B`` or its name with options, as in
        ``"random-diagonal:epsilon=0.3"``. Promises are those of ``@gcmpi.encoding(...)``.
    assignments
        Texts, matrices or functions to try; unless given, small ones of ten kinds. An encoding
        may refuse one by ValueError.
    m
        Communication reduction factors to try.
    seed
        Seed of the generators.
    tolerance
        What counts as an error of zero, relative to m k.
    draws
        Encodings, each with a random straggler set, over which the mean decoded gradient of a
        redrawn one is taken; at least 100.

    Raises
    ------
    AssertionError
        If a law is broken: which, where and by how much.
    ValueError, TypeError
        If there is no such encoding, it is nothing that can be called, or it refuses every
        assignment.
    """
    if draws < 100:
        raise ValueError(f"check_encoding needs at least 100 draws for a mean, not draws={draws}")
    own = part(ENCODINGS, encoding)
    factors = [m] if isinstance(m, int) else list(m)
    refusals = []
    tried = 0
    for (name, A), factor in itertools.product(chosen(assignments), factors):
        place = Place(own.what, f"{name}, m={factor}, seed={seed}")
        case = Case(own, place, A, factor, seed, tolerance, draws)
        try:
            B = case.build(case.generator())
        except ValueError as error:
            refusals.append(f"{name}, m={factor}: {error}")
            continue
        tried += 1
        _check_matrix(case, B)
        _check_randomness(case, B)
        _check_promises(case)
        _check_errors(case)
        _check_means(case)
        if own.promises.unbiased and is_symmetric(A):
            check_unbiased(case)
    if not tried:
        last = f" (the last one: {refusals[-1]})" if refusals else ""
        raise ValueError(
            f"{own.what} refuses every assignment that was tried{last}: pass the check one that "
            "it takes, as in assignments=['cyclic:n=6,delta=2'], m=2"
        )


def _check_matrix(case: Case, B: AnyArray) -> None:
    k, n = case.A.shape
    m = case.m
    if B.shape != (m * k, n) or B.dtype.kind not in "biuf":
        raise case.place.broken(
            "shape",
            f"B must be (m*k, n) = ({m * k}, {n}) numbers, not {B.dtype} of shape {B.shape}; "
            f"{LAYOUT}",
        )
    infinite = np.argwhere(~np.isfinite(B))
    if infinite.size:
        row, i = infinite[0]
        raise case.place.broken(
            "finite", f"B[{row}, {i}] = {B[row, i]}, and {len(infinite)} of {B.size} entries"
        )
    outside = np.argwhere((B.reshape(m, k, n) != 0) & (case.A == 0))
    if outside.size:
        u, j, i = outside[0]
        raise case.place.broken(
            "support",
            f"B[{u * k + j}, {i}] = {B[u * k + j, i]:.6g}, but worker {i} does not hold subset {j} "
            f"({len(outside)} such entries); {LAYOUT}{_hint(case, B)}",
        )


def _hint(case: Case, B: AnyArray) -> str:
    """Say so if B would fit with its rows in the other order."""
    k, n = case.A.shape
    other = B.reshape(k, case.m, n).transpose(1, 0, 2)
    if ((other != 0) & (case.A == 0)).any():
        return ""
    return f", while this B has row j*m + u: B.reshape({k}, {case.m}, {n}).swapaxes(0, 1) fits"


def _check_randomness(case: Case, B: AnyArray) -> None:
    again = case.build(case.generator())
    if not np.array_equal(B, again):
        raise case.place.broken(
            "seed",
            f"the same generator gives two matrices that differ in {np.count_nonzero(B != again)} "
            f"of {B.size} entries; all randomness must come from rng",
        )
    if case.own.promises.redrawn and np.array_equal(B, case.build(case.generator(1))):
        raise case.place.broken(
            "redrawn", "redrawn is promised, but another generator gives the same B"
        )


def _check_promises(case: Case) -> None:
    code, promises = case.code, case.own.promises
    if promises.exact and (error := code.error(np.ones(code.n, dtype=np.bool_))) >= case.zero:
        raise case.place.broken(
            "exact", f"Err_S = {error:.3g} when nobody straggles, more than {case.zero:.3g}"
        )
    if promises.tolerant and code.gamma > code.m:
        s = code.gamma - code.m
        # the engine finds the worst set, `Code` solves for it with all digits
        sets = straggler_sets(code.n, s, case.generator())
        errors = ErrorEngine(code.B, code.target).errors(sets)
        worst = sets[int(errors.argmax())]
        if (error := code.error(worst)) >= case.zero:
            raise case.place.broken(
                "tolerant",
                f"Err_S = {error:.3g}, more than {case.zero:.3g}, without the workers "
                f"{_workers(~worst)}, although s = {s} is not more than gamma - m",
            )


def _check_errors(case: Case) -> None:
    code = case.code
    order = orders(code.n, 8, case.generator(2))
    nested = ErrorEngine(code.B, target(code.B, code.m)).nested(order, range(code.n + 1))
    total = code.m * code.k
    if (nested < 0).any() or (nested > total * (1 + case.tolerance)).any():
        raise case.place.broken(
            "errors", f"Err_S is from {nested.min():.6g} to {nested.max():.6g}, not in 0..{total}"
        )
    if not np.allclose(nested[:, -1], total):
        raise case.place.broken(
            "errors", f"Err_S is {nested[0, -1]:.6g}, not m k = {total}, when nobody is left"
        )
    falls = np.argwhere(np.diff(nested, axis=1) <= -case.zero)
    if falls.size:
        row, s = falls[0]
        raise case.place.broken(
            "errors",
            f"Err_S falls from {nested[row, s]:.9g} to {nested[row, s + 1]:.9g} when the workers "
            f"{order[row, :s].tolist()} straggle and {order[row, s]} does too",
        )
    for row, s in itertools.product(range(len(order)), case.counts):
        survivors = ~np.isin(np.arange(code.n), order[row, :s])
        holders = code.A[:, survivors].sum(axis=1, dtype=np.intp)
        least = float(np.maximum(code.m - holders, 0).sum())
        if nested[row, s] < least - case.zero:
            raise case.place.broken(
                "holders",
                f"Err_S = {nested[row, s]:.9g} without the workers {_workers(~survivors)}, but "
                f"the parts that no survivor can send come to {least:g}",
            )
        for theorem, most in _set_bounds(case, survivors):
            if nested[row, s] > most + case.zero:
                raise case.place.broken(
                    "theorem",
                    f"Err_S = {nested[row, s]:.9g} without the workers {_workers(~survivors)}, but "
                    f"{theorem} says at most {most:.9g}",
                )


def _set_bounds(case: Case, survivors: BoolArray) -> Iterator[tuple[str, float]]:
    """Iterate over the promised theorems about every set: name and bound where one applies."""
    for theorem in case.own.promises.theorems:
        if isinstance(theorem, SetTheorem):
            with suppress(ValueError):  # it does not cover this code
                yield theorem.name, float(theorem.bound(case.code.B, case.m, survivors))


def _check_means(case: Case) -> None:
    """Hold the mean of Err_S to what a theorem promises."""
    draws = DRAWS if "rng" in case.own.takes else 1
    sets = max(16, 1000 // case.A.shape[1])
    summaries = sample(case.draw, case.m, case.counts, case.generator(3), draws=draws, sets=sets)
    name, upper = _theorem(case)
    for s, error in zip(case.counts, summaries, strict=True):
        slack = STANDARD_ERRORS * error.stderr + case.zero
        bound = upper(s)
        if bound is not None and error.mean > bound + slack:
            raise case.place.broken(
                "theorem",
                f"the mean of Err_S is {error.mean:.6g} with s = {s} stragglers, but {name} says "
                f"at most {bound:.6g} ({STANDARD_ERRORS} standard errors are {slack:.2g})",
            )


def _theorem(case: Case) -> tuple[str, Any]:
    """Return the name of a bound on the mean error and the bound, None where it says nothing."""
    own = case.own
    options = {**theorems.defaults(own.parameters), **own.options}
    found = theorems.covering(own.promises, case.A, case.m, options)
    if found is None:
        return "", _nothing

    def says(s: int) -> float | None:
        try:
            return found.bound(s)
        except ValueError:  # the theorem does not cover so many stragglers
            return None

    return found.name, says


def _nothing(s: int) -> None:
    """Return the bound that no theorem gives for s stragglers."""


def _workers(stragglers: BoolArray) -> list[int]:
    workers: list[int] = np.flatnonzero(stragglers).tolist()
    return workers
