"""Which codes exist for so many workers and so much data on each.

Every registered assignment that exists for the workers with a load of at most the wish meets
every registered encoding; what a construction refuses does not fit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.assignments.catalogue import entries
from gcmpi.codes.encodings.search.descent import TooLongError, patience
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.placement import place
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, OwnPartError, Spec, Wanted

Progress = Callable[[int, int], None]
"""Told how many of how many pairs are made."""
PATIENCE = 0.05
"""Seconds of CPU time of training from which its whole cost is estimated."""
MOST_WORKERS = 256
"""Workers above which making all codes would take hours."""


@dataclass(frozen=True)
class Candidate:
    """A code that fits.

    Attributes
    ----------
    codes
        The code.
    load
        The part of the data that the worker with most of it holds.
    seconds
        The CPU time that making it took.
    """

    codes: Ensemble
    load: float
    seconds: float


@dataclass(frozen=True)
class Untrained:
    """An encoding that has to be trained before it can be measured.

    Attributes
    ----------
    encoding
        As one would type it.
    assignments
        Those on which it is not kept yet, as one would type them.
    seconds
        The CPU time that training on all of them would take, estimated from the first steps.
    """

    encoding: str
    assignments: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Candidates:
    """What `candidates` returns: the codes that fit, and what would have to be trained first."""

    codes: tuple[Candidate, ...]
    untrained: tuple[Untrained, ...]


def candidates(
    wanted: Wanted,
    *,
    assignments: Sequence[str] = (),
    encodings: Sequence[str] = (),
    odds: Array | None = None,
    hosts: IntArray | None = None,
    train: bool = False,
    progress: Progress | None = None,
) -> Candidates:
    """Make all codes for so many workers that hold at most so much of the data.

    Parameters
    ----------
    wanted
        Workers, load, m, and the stragglers that the codes are for.
    assignments, encodings
        These only, own parts too; all registered ones by default. A registered assignment
        without options is taken with all options that fit.
    odds : (n,), optional
        Each worker's probability to straggle, for encodings that use it.
    hosts : (n,), optional
        The host of each worker: the holders of a subset are then spread over hosts.
    train
        Train the encodings that have to be trained, which may take minutes each.
    progress
        Told how many pairs are made.

    Raises
    ------
    ValueError
        If nothing fits, or a number is out of range.
    """
    check(wanted)
    chosen = [_measurable(text) for text in encodings] or [
        Spec(part.name) for part in ENCODINGS if not part.promises.partial
    ]
    specs = list(_assignments(wanted, assignments))
    found: list[Candidate] = []
    costs: dict[str, dict[str, float]] = {}
    reason = f"no assignment for {wanted.n} workers has a load of at most {_text(wanted.load)}"
    for done, spec in enumerate(specs):
        started = time.process_time()
        try:
            A = ASSIGNMENTS.build(spec)
        except ValueError:
            if assignments:
                raise
            continue  # such as a random graph that the construction did not find
        if assignments:
            _check_fits(spec, A, wanted)
        on = None if hosts is None else place(A, wanted.m, hosts=hosts)
        built = time.process_time() - started
        for number, encoding in enumerate(chosen, done * len(chosen)):
            started = time.process_time()
            try:
                with patience(None if train else PATIENCE):
                    codes = Ensemble(A, wanted.m, encoding, odds, assignment=spec, placement=on)
            except TooLongError as error:
                costs.setdefault(str(encoding), {})[str(spec)] = error.seconds
            except OwnPartError:
                raise
            except ValueError as error:
                reason = str(error)
            else:
                seconds = built + time.process_time() - started
                found.append(Candidate(codes, _load(A), seconds))
            if progress is not None:
                progress(number + 1, len(specs) * len(chosen))
    untrained = tuple(Untrained(e, tuple(c), sum(c.values())) for e, c in costs.items())
    if not found:
        raise ValueError(_nothing(untrained, reason))
    return Candidates(tuple(found), untrained)


def check(wanted: Wanted) -> None:
    """Refuse numbers that are out of range, and a load with which no code can be exact.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    n, m, load = wanted.n, wanted.m, wanted.load
    if n < 1 or m < 1:
        raise ValueError(f"a code needs at least one worker and m at least 1, not n={n}, m={m}")
    if load is None or not 0 < load <= 1:
        raise ValueError(f"the load must be above 0 and at most 1, not {_text(load)}")
    if load * n < m:
        raise ValueError(
            f"m={m} needs every subset on at least {m} of {n} workers: a load of at least {m}/{n}, "
            f"not {_text(load)}"
        )
    if n > MOST_WORKERS:
        raise ValueError(
            f"all codes are measured for up to {MOST_WORKERS} workers, not {n}: take groups with "
            "frame, the least mean error of their load, and look at them with: python -m "
            f"gcmpi.codes error --assignment groups:n={n},c={math.ceil(1 / load)} "
            f"--encoding frame --m {m}"
        )


def _text(load: Fraction | None) -> str:
    return "none" if load is None else f"{float(load):g}"


def _measurable(text: str) -> Spec:
    """Return an encoding that was asked for; refuse one that no straggler set measures."""
    spec = ENCODINGS.parse(text)
    if ENCODINGS[spec.name].promises.partial:
        raise ValueError(
            f"{spec} is made of what workers have finished when the server stops, so that no "
            "straggler set says what is lost: leave it out"
        )
    return spec


def _assignments(wanted: Wanted, chosen: Sequence[str]) -> Iterator[Spec]:
    """Iterate over the assignments that fit, those that were asked for or all."""
    names = chosen or [part.name for part in ASSIGNMENTS if part.sizes]
    for name in names:
        if ":" not in name and ASSIGNMENTS[name].sizes:
            for entry in entries(ASSIGNMENTS[name], wanted):
                yield ASSIGNMENTS.parse(entry.spec)
        else:
            yield ASSIGNMENTS.parse(name)


def _check_fits(spec: Spec, A: AnyArray, wanted: Wanted) -> None:
    """Refuse an assignment that was asked for and does not fit."""
    assert wanted.load is not None
    k, n = A.shape
    if n != wanted.n:
        raise ValueError(f"{spec} has {n} workers, not {wanted.n}")
    delta = int(A.sum(axis=0, dtype=np.intp).max())
    if Fraction(delta, k) > wanted.load:
        raise ValueError(
            f"{spec} puts {delta} of {k} subsets on a worker, a load above {_text(wanted.load)}"
        )


def _load(A: AnyArray) -> float:
    return float(A.sum(axis=0, dtype=np.intp).max()) / len(A)


def _nothing(untrained: Sequence[Untrained], reason: str) -> str:
    """Return why no code is left."""
    if untrained:
        names = ", ".join(one.encoding for one in untrained)
        return f"{names} must be trained first, in about {untrained[0].seconds:.0f} s: add --train"
    return f"no code fits: {reason}"
