"""Monte Carlo over encodings and random straggler sets.

The generator given to each function is split in two streams, one for the encodings and one for
the sets: with the same seed all codes of n workers meet the same straggler sets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import Array, BoolArray, IntArray
from gcmpi.codes.decoders.least_squares import ridged
from gcmpi.codes.errors.engine import ErrorEngine, target

BATCHES = 20
"""Of consecutive iterations, for the standard error under a straggler model."""
Draw = Callable[[np.random.Generator], Array]
"""Returns an encoding matrix B (m * k, n): a fresh one or the same one at every call."""
Progress = Callable[[int, int], None]
"""Told how many of how many encodings are done."""
S = TypeVar("S", bound="Source")
BATCH = 1 << 16
"""Sets of an exhaustive search that are looked at in one go."""


class Source(Protocol):
    """Something with a value for every straggler set, such as `ErrorEngine`."""

    n: int

    def errors(self, survivors: BoolArray) -> Array:
        """Return the value for each row of `survivors` (sets, n), shape (sets,)."""

    def nested(self, orders: IntArray, counts: npt.ArrayLike) -> Array:
        """Return the values when the first s workers of each row straggle, (sets, counts)."""


@dataclass(frozen=True)
class Summary:
    """Err_S over encodings and straggler sets.

    Attributes
    ----------
    mean, maximum
        Over all encodings and sets.
    stderr
        Standard error of the mean: from the means of the encodings if there are several, because
        the sets of one encoding have its luck in common; else from the sets. 0 where the sets
        are all there are and the encodings agree.
    quantiles
        (probability, value) pairs.
    exhaustive
        Whether the sets are all sets of their size.
    """

    mean: float
    stderr: float
    maximum: float
    quantiles: tuple[tuple[float, float], ...]
    exhaustive: bool


def sample(
    draw: Draw,
    m: int,
    counts: Sequence[int],
    rng: np.random.Generator,
    *,
    draws: int,
    sets: int,
    quantiles: Sequence[float] = (0.5, 0.9, 0.99),
    progress: Progress | None = None,
) -> list[Summary]:
    """Return a summary of Err_S for each number of stragglers.

    Where there are at most `sets` straggler sets of a size, all of them are used instead of random
    ones. Otherwise one random order of the workers gives a set of every size: each is uniform,
    those of one order are contained in each other.

    Parameters
    ----------
    draw
        Gives an encoding matrix B (m * k, n), called `draws` times.
    m
        Communication reduction factor.
    counts : (c,)
        Straggler counts.
    rng
        Source of the encodings and of the straggler sets.
    draws, sets
        Encodings, and sets of each size for each encoding. 8 bytes are kept for each error.
    quantiles
        Probabilities.

    Raises
    ------
    ValueError
        If a count is not in 0..n, or draws or sets is not positive.
    """
    return sample_from(
        _code_errors(draw, m),
        counts,
        rng,
        draws=draws,
        sets=sets,
        quantiles=quantiles,
        progress=progress,
    )


def sample_from(
    make: Callable[[np.random.Generator], Source],
    counts: Sequence[int],
    rng: np.random.Generator,
    *,
    draws: int,
    sets: int,
    quantiles: Sequence[float] = (),
    progress: Progress | None = None,
) -> list[Summary]:
    """Do the same as `sample` for anything that has a value for every straggler set."""
    found: list[list[Array]] = [[] for _ in counts]
    all_sets = [False] * len(counts)
    for source, sets_rng in _sources(make, rng, draws, sets, progress):
        check_counts(counts, source.n)
        all_sets = [math.comb(source.n, s) <= sets for s in counts]
        some = [i for i, every in enumerate(all_sets) if not every]
        if some:
            nested = source.nested(orders(source.n, sets, sets_rng), [counts[i] for i in some])
            for i, errors in zip(some, nested.T, strict=True):
                found[i].append(errors)
        for i, every in enumerate(all_sets):
            if every:
                found[i].append(exhaustive(source, counts[i]))
    return [
        summarise(np.stack(errors), quantiles, exhaustive=every)
        for errors, every in zip(found, all_sets, strict=True)
    ]


def sample_bernoulli(
    draw: Draw,
    m: int,
    q: float | Array,
    rng: np.random.Generator,
    *,
    draws: int,
    sets: int,
    quantiles: Sequence[float] = (0.5, 0.9, 0.99),
    progress: Progress | None = None,
) -> Summary:
    """Return a summary of Err_S when each worker straggles by itself, with probability q.

    Parameters
    ----------
    q : float or (n,)
        The same for all workers or one for each. The others are as in `sample`.
    """
    errors = [
        source.errors(sets_rng.random((sets, source.n)) >= q)
        for source, sets_rng in _sources(_code_errors(draw, m), rng, draws, sets, progress)
    ]
    return summarise(np.stack(errors), quantiles, exhaustive=False)


def sample_given(
    draw: Draw,
    m: int,
    survivors: BoolArray,
    rng: np.random.Generator,
    *,
    draws: int,
    quantiles: Sequence[float] = (0.5, 0.9, 0.99),
    progress: Progress | None = None,
) -> Summary:
    """Return a summary of Err_S over given sets, the same for all encodings.

    Parameters
    ----------
    survivors : (sets, n) bool
        The workers that answered, one set a row, in the order of the iterations. The others are
        as in `sample`.
    """
    sources = _sources(_code_errors(draw, m), rng, draws, len(survivors), progress)
    errors = np.stack([source.errors(survivors) for source, _ in sources])
    summary = summarise(errors, quantiles, exhaustive=False)
    # all encodings have the luck of the sets in common; sets that follow one another may be alike,
    # so that batches of them are compared
    batches = [batch.mean() for batch in np.array_split(errors.mean(axis=0), BATCHES) if batch.size]
    if len(batches) < 2:
        return summary
    of_sets = float(np.var(batches, ddof=1)) / len(batches)
    of_draws = summary.stderr**2 if draws > 1 else 0.0
    return replace(summary, stderr=math.sqrt(of_sets + of_draws))


def summarise(errors: Array, quantiles: Sequence[float], *, exhaustive: bool) -> Summary:
    """Return the summary of errors (draws, sets)."""
    draws, sets = errors.shape
    if draws > 1:
        stderr = float(np.std(errors.mean(axis=1), ddof=1) / math.sqrt(draws))
    elif exhaustive:
        stderr = 0.0
    else:
        stderr = float(np.std(errors, ddof=1) / math.sqrt(sets)) if sets > 1 else math.nan
    values = np.quantile(errors, quantiles)
    return Summary(
        mean=float(errors.mean()),
        stderr=stderr,
        maximum=float(errors.max()),
        quantiles=tuple(zip(map(float, quantiles), map(float, values), strict=True)),
        exhaustive=exhaustive,
    )


def alpha(
    draw: Draw,
    m: int,
    rng: np.random.Generator,
    *,
    counts: Sequence[int] | None = None,
    draws: int = 200,
    sets: int = 1,
    eps: float = 0.0,
) -> Array:
    """Return alpha_s = 1 - E[Err_S] / (m k) for each straggler count s, shape (c,).

    Where the decoded gradient is unbiased, E[B_S R] = alpha F over B and the sets S of one size,
    so dividing by alpha removes the shrinkage. It is 1 for an exact code and 0 when everybody
    straggles.

    Parameters
    ----------
    draw
        Gives an encoding matrix B (m * k, n), called `draws` times.
    m
        Communication reduction factor.
    rng
        Source of the encodings and of the straggler sets.
    counts : (c,)
        Straggler counts; all of 0 to n unless given.
    draws, sets
        Encodings, and random sets of each size for each encoding.
    eps
        That of a ridge: the trace of F'B_S R is then m k minus the least value of
        ||B R - F||^2 + eps ||D R||^2, see `gcmpi.codes.decoders.least_squares.ridge`.

    Raises
    ------
    ValueError
        If a count is not in 0..n, or draws or sets is not positive.

    References
    ----------
    Munim and Ramamoorthy, arXiv 2603.22514, section 5: the trace of F'B_S R is m k - Err_S.
    """
    means = []
    for engine, sets_rng in _sources(_code_errors(draw, m, eps), rng, draws, sets, None):
        counts = range(engine.n + 1) if counts is None else counts
        check_counts(counts, engine.n)
        errors = engine.nested(orders(engine.n, sets, sets_rng), counts)
        means.append(1.0 - errors.mean(axis=0) / engine.total)
    result: Array = np.mean(means, axis=0)
    return result


def exhaustive(source: Source, s: int) -> Array:
    """Return Err_S for all sets of s stragglers, in lexicographic order, shape (C(n, s),)."""
    return np.concatenate(
        [source.errors(survivors) for survivors in _all_survivors(source.n, s)], axis=0
    )


def orders(n: int, sets: int, rng: np.random.Generator) -> IntArray:
    """Return random orders of the workers, one a row, shape (sets, n)."""
    return rng.permuted(np.broadcast_to(np.arange(n), (sets, n)), axis=1)


def check_counts(counts: npt.ArrayLike, n: int) -> None:
    """Refuse straggler counts outside 0..n."""
    wrong = [int(s) for s in np.asarray(counts) if not 0 <= s <= n]
    if wrong:
        raise ValueError(f"the number of stragglers must be in 0..{n}, not {wrong[0]}")


def _code_errors(
    draw: Draw, m: int, eps: float = 0.0
) -> Callable[[np.random.Generator], ErrorEngine]:
    last: tuple[Array, ErrorEngine] | None = None

    def make(rng: np.random.Generator) -> ErrorEngine:
        nonlocal last
        B = draw(rng)
        if last is None or B is not last[0]:  # a fixed code may give the same array every time
            F = target(B, m)
            last = B, ErrorEngine(*(ridged(B, F, eps) if eps else (B, F)))
        return last[1]

    return make


def _sources(
    make: Callable[[np.random.Generator], S],
    rng: np.random.Generator,
    draws: int,
    sets: int,
    progress: Progress | None,
) -> Iterator[tuple[S, np.random.Generator]]:
    """Make one source after the other; each comes with the stream of the straggler sets."""
    if draws < 1 or sets < 1:
        raise ValueError(f"draws and sets must be at least 1, not {draws} and {sets}")
    codes_rng, sets_rng = rng.spawn(2)
    for done in range(draws):
        yield make(codes_rng), sets_rng
        if progress is not None:
            progress(done + 1, draws)


def _all_survivors(n: int, s: int) -> Iterator[BoolArray]:
    """Iterate over all sets of s stragglers in batches of masks (sets, n)."""
    every = itertools.combinations(range(n), s)
    while batch := list(itertools.islice(every, BATCH)):
        survivors = np.ones((len(batch), n), dtype=np.bool_)
        np.put_along_axis(survivors, np.array(batch, dtype=np.intp), values=False, axis=1)
        yield survivors
