"""Which code is best for so many workers and so much data on each: all that fit, measured, ranked.

All codes are measured on the same straggler sets: on few at first; the codes that may come first,
and those that are shown, on more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import Array, BoolArray, IntArray
from gcmpi.codes.candidates import Candidate, Untrained, candidates
from gcmpi.codes.decoders.least_squares import noise_gain
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.errors.engine import ErrorEngine, target
from gcmpi.codes.errors.sampling import BATCHES, Progress, check_counts, orders
from gcmpi.codes.errors.worst import worst_set
from gcmpi.codes.spaces import spaces
from gcmpi.registry import Wanted

Against = Literal["mean", "worst"]
LEVELS = (200, 800, 3200)
"""Straggler sets that a code is measured on: all codes on the first."""
SETS = LEVELS[-1]
DRAWS = (4, 8, 16)
"""Codes drawn of an encoding that is redrawn, at each level."""
CHANCE = 2.0
"""Standard errors of their difference up to which two means tie."""
RESTARTS = 4
"""Random sets that a search for the worst set starts from, besides others."""
SAME = 1e-6
"""Worst shares of the gradient that differ by less are the same."""
ROUNDING = 1e-9
"""A share of the gradient below which nothing is lost."""


@dataclass(frozen=True, eq=False)
class StragglerSets:
    """The straggler sets that all codes are measured on.

    Attributes
    ----------
    survivors : (sets, n) bool
        The workers that answered, one set a row.
    s
        Stragglers, of each set or in the mean; the worst set has so many.
    every
        Whether these are all sets of their size.
    consecutive
        Whether they are iterations that follow one another, and may be alike.
    odds : (n,), optional
        Each worker's probability to straggle, for encodings that use it.
    hosts : (n,), optional
        The host of each worker, where whole hosts are late: the holders of a subset are spread
        over them, and no search looks for a worse set.
    """

    survivors: BoolArray
    s: int
    every: bool = False
    consecutive: bool = False
    odds: Array | None = None
    hosts: IntArray | None = None

    @classmethod
    def uniform(cls, n: int, s: int, seed: int = 0) -> StragglerSets:
        """Return random sets of s stragglers; all sets of this size where there are few.

        Raises
        ------
        ValueError
            If s is not in 0..n.
        """
        check_counts([s], n)
        return cls(~_some(n, s, seed), s, every=math.comb(n, s) <= SETS)

    @classmethod
    def of_hosts(cls, hosts: IntArray, late: int, seed: int = 0) -> StragglerSets:
        """Return random sets of late hosts; all sets of this size where there are few.

        Parameters
        ----------
        hosts : (n,)
            The host of each worker, numbered from 0.
        late
            How many hosts are late.
        seed
            Of the random sets.

        Raises
        ------
        ValueError
            If there are not so many hosts.
        """
        count = int(hosts.max()) + 1
        if not 0 <= late <= count:
            raise ValueError(f"the number of late hosts must be in 0..{count}, not {late}")
        survivors = ~_some(count, late, seed)[:, hosts]
        most = int(np.sum(~survivors, axis=1).max())
        return cls(survivors, most, every=math.comb(count, late) <= SETS, hosts=hosts)

    @classmethod
    def given(cls, survivors: BoolArray, odds: Array | None = None) -> StragglerSets:
        """Return the sets of iterations that follow one another, (sets, n)."""
        s = round(float(np.sum(~survivors, axis=1).mean()))
        return cls(survivors, s, consecutive=True, odds=odds)

    def variance(self, values: Array) -> float:
        """Return the variance of the mean of one value a set, on the first sets."""
        if self.every and len(values) == len(self.survivors):
            return 0.0
        if self.consecutive:
            values = np.array([batch.mean() for batch in np.array_split(values, BATCHES)])
        return float(np.var(values, ddof=1)) / len(values)


def _some(n: int, s: int, seed: int) -> BoolArray:
    """Return sets of s of n as masks (sets, n) in random order, all sets where there are few."""
    rng = seeds.generator(seed, seeds.MONTE_CARLO)
    if math.comb(n, s) > SETS:
        return orders(n, SETS, rng) < s
    chosen = rng.permutation(np.array([*itertools.combinations(range(n), s)], dtype=np.intp))
    masks = np.zeros((len(chosen), n), dtype=np.bool_)
    np.put_along_axis(masks, chosen, values=True, axis=1)
    return masks


@dataclass(frozen=True)
class Row:
    """A code and what is measured of it.

    Attributes
    ----------
    assignment, encoding
        As one would type them.
    load
        The part of the data that the worker with most of it holds.
    mean_error, standard_error
        The mean share of the gradient that is lost, Err_S / (m k), and its standard error.
    worst_found
        The largest share that a search finds for s stragglers; of a code that is not shown, the
        largest among its straggler sets.
    build_seconds
        What making the code takes.
    plain_gradients
        `Code.plain_gradients`.
    server_memory
        `server_memory`.
    """

    assignment: str
    encoding: str
    load: float
    mean_error: float
    standard_error: float
    worst_found: float
    build_seconds: float
    plain_gradients: int
    server_memory: float


@dataclass(frozen=True)
class Recommendation:
    """What `recommend` returns.

    Attributes
    ----------
    rows
        The codes, best first.
    why
        Why the first is the first, in a sentence.
    untrained
        What was left out because it has to be trained.
    """

    rows: tuple[Row, ...]
    why: str
    untrained: tuple[Untrained, ...]


def recommend(
    wanted: Wanted,
    sets: StragglerSets,
    *,
    against: Against = "mean",
    assignments: Sequence[str] = (),
    encodings: Sequence[str] = (),
    train: bool = False,
    shown: int = 10,
    progress: Progress | None = None,
) -> Recommendation:
    """Measure all codes for n workers that hold at most a part of the data, and rank them.

    The first loses the least share of the gradient, in the mean or in the worst case. Means tie
    that differ by at most two standard errors of their difference, worst cases that differ by less
    than `SAME`. Of codes that tie, the one comes first for which a worker computes fewer plain
    gradients, then the one with the smaller worst case (or mean), the smaller load, the shorter
    time to build (in tenths of a second), the smaller noise gain, and the shorter name.

    Parameters
    ----------
    wanted
        Workers, load and m.
    sets
        The straggler sets that all codes are measured on.
    against
        What to rank by: the ``mean`` over the sets, or the ``worst`` set of as many stragglers.
    assignments, encodings, train, progress
        As in `candidates`.
    shown
        So many codes at least are measured on all sets, with a search for the worst one.

    Raises
    ------
    ValueError
        If nothing fits, or a number is out of range.
    """
    if not sets.survivors.any():
        raise ValueError(
            f"all {wanted.n} workers are late in every set of stragglers, so that no code gets "
            "anything: choose fewer stragglers"
        )
    found = candidates(
        wanted,
        assignments=assignments,
        encodings=encodings,
        odds=sets.odds,
        hosts=sets.hosts,
        train=train,
        progress=progress,
    )
    measured = [_Measured(candidate, sets) for candidate in found.codes]
    ranking = _Ranking(measured, against, max(1, shown))
    return Recommendation(tuple(x.row for x in ranking.order), ranking.why, found.untrained)


def server_memory(codes: Ensemble) -> float:
    """Return how many numbers decoding with memory keeps, as a multiple of d.

    Of a code that stays the same what its messages can ever say (`gcmpi.codes.spaces`): d for a
    group, at most n d/m + d. Of a redrawn code all k subset gradients.
    """
    return sum(space.dimension for space in spaces(codes)) / codes.m


def _reasons(other: str) -> tuple[str, ...]:
    return (
        "the fewest plain gradients on a worker ({0.plain_gradients})",
        other,
        "the smallest load ({0.load:.3g})",
        "the shortest time to build",
        "the smallest noise gain",
        "the shortest name",
    )


_REASONS: Mapping[Against, tuple[str, ...]] = {
    "mean": _reasons("the smallest worst case found ({worst})"),
    "worst": _reasons("the smallest mean error ({mean})"),
}
"""What each number of `_Ranking._key` says of the first code."""
TELLING = 3
"""The first numbers that are told, where several decide."""


class _Measured:
    """A code and what is known of it so far; `known` finds out more.

    Attributes
    ----------
    lost : (sets,)
        The share of the gradient that is lost on the first sets, the mean over draws.
    spread
        The variance of its mean that comes from the draws.
    worst
        The largest share found.
    """

    def __init__(self, candidate: Candidate, sets: StragglerSets) -> None:
        self.candidate, self.codes, self._sets = candidate, candidate.codes, sets
        self._level, self._searched, self.worst = -1, False, 0.0
        self.gradients = self.codes.at(0).plain_gradients
        self.sharpen()

    @property
    def name(self) -> str:
        """Assignment and encoding."""
        return f"{self.codes.assignment} + {self.codes.encoding}"

    @property
    def mean(self) -> float:
        """The mean share of the gradient that is lost."""
        return float(self.lost.mean())

    @cached_property
    def noise(self) -> float:
        """The noise gain when nobody straggles."""
        code = self.codes.at(0)
        return noise_gain(code, code.decode(np.ones(code.n, dtype=np.bool_)))

    @property
    def sharp(self) -> bool:
        """Whether it is measured on all sets."""
        last = self._level == len(LEVELS) - 1
        return last or (not self.codes.changes and len(self.lost) == len(self._sets.survivors))

    def sharpen(self) -> None:
        """Measure it on more sets, and more draws."""
        self._level += 1
        survivors = self._sets.survivors[: LEVELS[self._level]]
        draws = DRAWS[self._level] if self.codes.changes else 1
        lost = np.array([_lost(self.codes, t, survivors) for t in range(draws)])
        self.lost: Array = lost.mean(axis=0)
        self.spread = float(np.var(lost.mean(axis=1), ddof=1)) / draws if draws > 1 else 0.0
        late = np.sum(~survivors, axis=1)
        self.worst = max(self.worst, float(lost[:, late <= self._sets.s].max(initial=0.0)))

    def known(self) -> bool:
        """Find out more, the cheaper part first, and say whether all was known before."""
        if not self._searched and self._sets.hosts is None:
            self._search()
        elif not self.sharp:
            self.sharpen()
        else:
            return True
        return False

    def _search(self) -> None:
        """Search for the worst set."""
        self._searched = True
        code, rng = self.codes.at(0), seeds.generator(0, seeds.MONTE_CARLO, self._sets.s)
        error = worst_set(code.A, code.B, code.m, self._sets.s, rng, RESTARTS)[1]
        if error > ROUNDING * self.codes.total:
            self.worst = max(self.worst, error / self.codes.total)

    @property
    def row(self) -> Row:
        """The code as a row."""
        return Row(
            assignment=str(self.codes.assignment),
            encoding=str(self.codes.encoding),
            load=self.candidate.load,
            mean_error=self.mean,
            standard_error=math.sqrt(self._sets.variance(self.lost) + self.spread),
            worst_found=self.worst,
            build_seconds=self.candidate.seconds,
            plain_gradients=self.gradients,
            server_memory=server_memory(self.codes),
        )

    def more(self, other: _Measured) -> tuple[float, float]:
        """Return how much more it loses than another in the mean, and the standard error of that.

        On the sets that both are measured on, so that the luck of the sets cancels.
        """
        common = min(len(self.lost), len(other.lost))
        by = self.lost[:common] - other.lost[:common]
        variance = self._sets.variance(by) + self.spread + other.spread
        return float(by.mean()), math.sqrt(variance)

    def could_beat(self, other: _Measured) -> bool:
        """Say whether more sets may show that it loses less than another one that ties.

        Not if any code on its assignment loses as much: a subset with h survivors loses m - h of
        its m parts at least.
        """
        if self.sharp or not other.sharp:
            return False
        holders = self._sets.survivors.astype(np.float64) @ self.codes.A.T
        floor = np.maximum(1.0 - holders / self.codes.m, 0.0).mean(axis=1)
        by = other.lost - floor
        return float(by.mean()) > CHANCE * math.sqrt(self._sets.variance(by) + other.spread)

    def ties(self, best: _Measured, against: Against) -> bool:
        """Say whether it is as good as the best but for chance and rounding."""
        if against == "worst":
            return self.worst <= best.worst + SAME
        by, error = self.more(best)
        return by <= CHANCE * error + ROUNDING


def _lost(codes: Ensemble, t: int, survivors: BoolArray) -> Array:
    """Return the share of the gradient that is lost, (sets,), with the code of iteration t."""
    B = codes.at(t).B
    engine = ErrorEngine(B, target(B, codes.m))
    lost = engine.errors(survivors) / engine.total
    return np.where(lost < ROUNDING, 0.0, lost)


class _Ranking:
    """The codes in their order, measured as far as the first ones need it."""

    def __init__(self, codes: Sequence[_Measured], against: Against, shown: int) -> None:
        self._against: Against = against
        known = False
        while not known:
            tiers = list(self._tiers(codes))
            self.order = list(itertools.chain(*tiers))
            self._first, best = tiers[0], self._best(tiers[0])
            starts = itertools.accumulate(map(len, tiers), initial=0)
            needed = self.order[:shown]
            needed += [
                self._best(tier) for tier, i in zip(tiers, starts, strict=False) if i < shown
            ]
            rough = [x for x in tiers[0] if against == "mean" and x.could_beat(best)]
            for x in rough:
                x.sharpen()
            news = [x for x in needed if not x.known()]
            known = not (news or rough)

    def _best(self, codes: Sequence[_Measured]) -> _Measured:
        """Return the code that loses least, the one that is known best of several."""
        return min(codes, key=lambda x: (getattr(x, self._against), -len(x.lost)))

    def _tiers(self, codes: Sequence[_Measured]) -> Iterator[list[_Measured]]:
        """Iterate over the codes that tie, best first."""
        rest = list(codes)
        while rest:
            best = self._best(rest)
            tied = [x for x in rest if x is best or x.ties(best, self._against)]
            yield sorted(tied, key=self._key)
            rest = [x for x in rest if x not in tied]

    def _key(self, x: _Measured) -> tuple[float, ...]:
        """Return what decides between codes that tie: see `_REASONS`."""
        other = x.worst if self._against == "mean" else x.mean
        seconds, noise = round(x.candidate.seconds, 1), float(f"{x.noise:.6g}")
        decided = (x.gradients, round(other / SAME), x.candidate.load)
        return (*decided, seconds, noise, len(x.name))

    @property
    def why(self) -> str:
        """Why the first is the first, in a sentence."""
        first, tied = self._first[0], self._first[1:]
        where = "in the mean" if self._against == "mean" else "in the worst case that was found"
        lost = _percent(getattr(first, self._against))
        least = f"it loses least {where}, {lost} of the gradient"
        if tied:
            chance = ", beyond chance," if self._against == "mean" else ""
            least = f"no code loses less {where}{chance} than its {lost} of the gradient"
        if not getattr(first, self._against):
            least = f"it loses nothing {where}"
        least = f"{first.name} comes first because {least}"
        reasons: list[str] = []
        mine = self._key(first)
        for i, text in enumerate(_REASONS[self._against]):
            behind = [x for x in tied if self._key(x)[i] > mine[i]]
            tied = [x for x in tied if x not in behind]
            if behind and (i < TELLING or not reasons):
                shares = {"worst": _percent(first.worst), "mean": _percent(first.mean)}
                reasons.append(text.format(first.row, **shares))
        if not reasons:
            return f"{least}."
        return f"{least}, and of the codes that tie with it, it has {', then '.join(reasons)}."


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
