"""The error of a registered code against the number of stragglers, between its bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from gcmpi import seeds
from gcmpi.arrays import Array, BoolArray, IntArray
from gcmpi.codes import bounds, theorems
from gcmpi.codes.code import Code
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.errors.engine import ErrorEngine
from gcmpi.codes.errors.sampling import Progress, Source, Summary, sample, sample_from
from gcmpi.promises import LeastSquaresTheorem, SetTheorem, Stated


@dataclass(frozen=True)
class Point:
    """One straggler count of a curve.

    Attributes
    ----------
    s
        The number of stragglers.
    error
        Err_S over encodings and sets.
    bound
        The upper bound on the mean over the same sets, where a theorem covers the code.
    lower_bound
        No encoding on this assignment has a lower mean.
    """

    s: int
    error: Summary
    bound: Summary | None
    lower_bound: float


@dataclass(frozen=True)
class Curve:
    """The error of a code over straggler counts; `str` makes a table of it.

    Attributes
    ----------
    points
        One for each count.
    theorem
        The name of the upper bound, if any.
    total
        The error when nobody answers, m k.
    """

    points: tuple[Point, ...]
    theorem: str | None
    total: int

    def __str__(self) -> str:
        """Return a table: mean with its standard error, maximum, bounds."""
        lines = [
            f"# Err_S, of m k = {self.total}; bound: {self.theorem or 'by no theorem'}",
            f"#{'s':>4}{'mean':>12}{'+-':>10}{'max':>12}{'bound':>12}{'lower bound':>14}",
        ]
        for p in self.points:
            bound = "-" if p.bound is None else f"{p.bound.mean:.5g}"
            lines.append(
                f"{p.s:5d}{p.error.mean:12.5g}{p.error.stderr:10.2g}{p.error.maximum:12.5g}"
                f"{bound:>12}{p.lower_bound:14.5g}"
            )
        return "\n".join(lines)


def curve(
    code: Ensemble | Code,
    stragglers: Sequence[int],
    *,
    sets: int = 1000,
    draws: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    """Return mean, quantiles, maximum and bounds of Err_S for each number of stragglers.

    Parameters
    ----------
    code
        An assignment, an encoding and m; or one code.
    stragglers
        Straggler counts, 0 to n.
    sets, draws
        Straggler sets of each size for each encoding, and encodings, as in `sample`. An encoding
        that is not redrawn and uses no randomness is the same in every draw.
    seed
        Seed of the encodings and sets. The sets do not depend on the code, only on n.
    progress
        Called with what is done and how much there is.

    Raises
    ------
    ValueError
        If a count, draws or sets is out of range.
    """
    code = Ensemble.of(code) if isinstance(code, Code) else code
    A, m, spec, draw, counts = code.A, code.m, code.encoding, _drawing(code), list(stragglers)

    def rng() -> np.random.Generator:
        return seeds.generator(seed, seeds.MONTE_CARLO)

    errors = sample(draw, m, counts, rng(), draws=draws, sets=sets, progress=progress)
    upper: Sequence[Summary | None] = [None] * len(counts)
    closed = theorems.closed_form(A, m, spec)
    name = closed.name if closed else theorems.cited(spec)
    if closed:
        values = [closed.bound(s) for s in counts]
        upper = [Summary(value, 0.0, value, (), exhaustive=True) for value in values]
    elif (make := _over_sets(code)) is not None:
        name, source = make
        upper = sample_from(source, counts, rng(), draws=draws, sets=sets)
    lower = [bounds.holder_bound(A, m, s) for s in counts]
    points = map(Point, counts, errors, upper, lower)
    return Curve(tuple(points), name, code.total)


def _drawing(code: Ensemble) -> Callable[[np.random.Generator], Array]:
    """Return what draws B; where nothing is random it is made once."""
    fixed = code.fixed
    if fixed is None or "rng" in code.part.parameters:
        return code.draw
    return lambda _: fixed


def _over_sets(code: Ensemble) -> tuple[str, Callable[[np.random.Generator], Source]] | None:
    """Return the name of a bound that depends on the set, and what makes its source."""
    theorem = next((x for x in code.part.promises.theorems if _covers(x, code)), None)
    if theorem is None:
        return None
    name = f"{theorem.name}, mean over the sets"
    if isinstance(theorem, SetTheorem):
        bound = theorem.bound
        return name, lambda rng: EachSetBound(bound, _drawing(code)(rng), code.m)
    options = theorems.taken(theorem.problem, theorems.options_of(code.encoding))
    same = LeastSquaresBound(*theorem.problem(code.A, code.m, **options), code.m)
    return name, lambda _: same


def _covers(theorem: Stated, code: Ensemble) -> TypeGuard[SetTheorem | LeastSquaresTheorem]:
    """Say whether a theorem is about every set of a code's survivors."""
    if isinstance(theorem, SetTheorem):
        try:
            theorem.bound(code.at(0).B, code.m, np.ones(code.n, dtype=np.bool_))
        except ValueError:
            return False
        return True
    return isinstance(theorem, LeastSquaresTheorem)


class LeastSquaresBound:
    """The bound m min_x ||C_S x - f||^2 for many sets: m times the error of another code.

    Parameters
    ----------
    C : (rows, n)
        One column for each worker.
    f : (rows, 1)
        What C_S x is to be.
    m
        Communication reduction factor.
    """

    def __init__(self, C: Array, f: Array, m: int) -> None:
        self._engine = ErrorEngine(C, f)
        self.n, self._m = C.shape[1], m

    def errors(self, survivors: BoolArray) -> Array:
        """Return the bound for each row of `survivors` (sets, n), shape (sets,)."""
        return self._m * self._engine.errors(survivors)

    def nested(self, orders: IntArray, counts: npt.ArrayLike) -> Array:
        """Return the bound when the first s workers of each row straggle, (sets, counts)."""
        return self._m * self._engine.nested(orders, counts)


class EachSetBound:
    """A bound of B and the survivors for many sets.

    Parameters
    ----------
    bound
        ``bound(B, m, survivors)`` for survivors (sets, n), shape (sets,).
    B : (m * k, n)
        Encoding matrix.
    m
        Communication reduction factor.
    """

    def __init__(self, bound: Callable[[Array, int, BoolArray], Array], B: Array, m: int) -> None:
        self._bound, self._B, self._m, self.n = bound, B, m, B.shape[1]

    def errors(self, survivors: BoolArray) -> Array:
        """Return the bound for each row of `survivors` (sets, n), shape (sets,)."""
        return self._bound(self._B, self._m, survivors)

    def nested(self, orders: IntArray, counts: npt.ArrayLike) -> Array:
        """Return the bound when the first s workers of each row straggle, (sets, counts)."""
        place = np.argsort(orders, axis=1)
        return np.stack([self.errors(place >= s) for s in np.asarray(counts)], axis=1)
