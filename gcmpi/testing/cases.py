"""One encoding on one assignment, and the straggler sets that parts are tried on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray
from gcmpi.codes.code import Code
from gcmpi.testing.parts import Own, Place

ALL_SETS = 2000
"""Straggler sets of a size up to which all are tried."""


@dataclass(frozen=True)
class Case:
    """One encoding on one assignment with one m.

    Attributes
    ----------
    tolerance
        What counts as zero, relative to m k.
    bias_draws
        Encodings over which the mean decoded gradient of a redrawn one is taken.
    """

    own: Own
    place: Place
    A: AnyArray
    m: int
    seed: int
    tolerance: float
    bias_draws: int

    @property
    def zero(self) -> float:
        """Errors up to this size count as none."""
        return self.tolerance * self.m * len(self.A)

    def build(self, rng: np.random.Generator) -> AnyArray:
        """Return what the encoding makes; it may raise ValueError to refuse A and m."""
        A = self.A.copy()
        needed = {"odds": None} if _lacks_default(self.own, "odds") else {}
        B = np.asarray(self.own(A=A, m=self.m, rng=rng, **needed))
        if (A != self.A).any():
            raise self.place.broken(
                "inputs", f"the function changes {np.count_nonzero(A != self.A)} entries of A"
            )
        return B

    def draw(self, rng: np.random.Generator) -> Array:
        """Return B as floats."""
        return np.asarray(self.build(rng), dtype=np.float64)

    def generator(self, extra: int = 0) -> np.random.Generator:
        """Return a generator from the seed; `extra` gives others."""
        return np.random.default_rng(self.seed + extra)

    @cached_property
    def code(self) -> Code:
        """The code of the seed."""
        return Code(self.A, self.draw(self.generator()), self.m)

    @property
    def counts(self) -> list[int]:
        """Numbers of stragglers at which mean errors are taken."""
        n = self.A.shape[1]
        return sorted({0, 1, n // 8, n // 4, n // 2, n})


def _lacks_default(own: Own, name: str) -> bool:
    found = own.parameters.get(name)
    return found is not None and found.default is found.empty


def straggler_sets(n: int, s: int, rng: np.random.Generator, most: int = ALL_SETS) -> BoolArray:
    """Return sets of survivors, one a row: all with s stragglers, or `most` random ones."""
    if math.comb(n, s) > most:
        lost = rng.permuted(np.broadcast_to(np.arange(n), (most, n)), axis=1)[:, :s]
    else:
        lost = np.array(list(itertools.combinations(range(n), s)), dtype=np.intp).reshape(
            -1 if s else 1, s
        )
    survivors = np.ones((len(lost), n), dtype=np.bool_)
    np.put_along_axis(survivors, lost, False, axis=1)
    return survivors
