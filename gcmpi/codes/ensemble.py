"""An assignment, an encoding and m that fit together: the codes that a run may draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.code import Code
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Part, Registry, Spec


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The codes that an encoding makes on an assignment; a fixed code is the simplest case.

    Parameters
    ----------
    A : (k, n) zeros and ones, or a text, or a function that gives the matrix
        The assignment: ``gcmpi.assignments.projective_plane(5)``, ``"projective-plane:order=5"``.
    m
        Communication reduction factor: messages of ceil(d / m) numbers.
    encoding : function, (m k, n) matrix, or text
        A function gets by name what it takes of A, m, rng and odds, and returns B (m k, n), where
        row ``u * k + j`` is part u of subset j. Its other parameters are options. What it promises
        is declared by `gcmpi.encoding`.
    odds : (n,), optional
        Each worker's probability to straggle, for encodings that use it.
    seed
        Of what is drawn by `at`.

    Raises
    ------
    ValueError
        If a part cannot be used, or the parts do not fit together.

    Examples
    --------
    >>> code = gcmpi.Ensemble(gcmpi.assignments.projective_plane(5), m=2, encoding="stacked")
    >>> print(code)
    __main__.matrix_1c9ffe15 + stacked, m=2: 31 workers, 31 subsets, load 6, replication 6
    """

    A: Any
    m: int = 1
    encoding: Any = "stacked"
    odds: Any = None
    seed: int = 0
    assignment: Spec = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.m, bool) or not isinstance(self.m, int | np.integer) or self.m < 1:
            raise ValueError(f"m must be a whole number of at least 1, not {self.m!r}")
        given = self.A if isinstance(self.A, str | Spec) or callable(self.A) else _matrix(self.A)
        assignment = spec_of(ASSIGNMENTS, given)
        object.__setattr__(self, "assignment", assignment)
        object.__setattr__(self, "A", ASSIGNMENTS.build(assignment))
        object.__setattr__(self, "encoding", spec_of(ENCODINGS, self.encoding))
        if self.odds is not None:
            object.__setattr__(self, "odds", np.asarray(self.odds, dtype=np.float64))
        Code(self.A, self.draw(seeds.generator(self.seed, seeds.CODE)), self.m)

    @classmethod
    def of(cls, code: Code) -> Ensemble:
        """Return the ensemble that has this one code."""
        return cls(code.A, code.m, code.B)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return the encoding matrix that `rng` gives, shape (m k, n)."""
        B: Array = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng, odds=self.odds)
        return B

    def at(self, t: int) -> Code:
        """Return the code of iteration t: another one in each if the encoding is redrawn."""
        if not self.part.traits.redrawn:
            return self._first
        return Code(self.A, self.draw(seeds.generator(self.seed, seeds.CODE, t)), self.m)

    @cached_property
    def _first(self) -> Code:
        return Code(self.A, self.draw(seeds.generator(self.seed, seeds.CODE)), self.m)

    @property
    def part(self) -> Part:
        """The encoding's part: its function, its options and what it promises."""
        return ENCODINGS[self.encoding.name]

    @property
    def name(self) -> str:
        """The code in one line, as one would type it."""
        return f"{self.assignment} + {self.encoding}, m={self.m}"

    @property
    def k(self) -> int:
        """The number of subsets."""
        return int(self.A.shape[0])

    @property
    def n(self) -> int:
        """The number of workers."""
        return int(self.A.shape[1])

    @property
    def total(self) -> int:
        """The error when nobody answers, m k."""
        return self.m * self.k

    def __str__(self) -> str:
        """Return the code in one line."""
        load = int(self.A.sum(axis=0, dtype=np.intp).max())
        replication = int(self.A.sum(axis=1, dtype=np.intp).min())
        return (
            f"{self.name}: {self.n} workers, {self.k} subsets, load {load}, "
            f"replication {replication}"
        )


def spec_of(registry: Registry, value: Any) -> Spec:
    """Return a part's name and options: of a text, or of an object that a program hands over."""
    if isinstance(value, Spec):
        return value
    return registry.parse(value) if isinstance(value, str) else registry.adopt(value)


def _matrix(A: Any) -> AnyArray:
    matrix: AnyArray = np.asarray(A)
    return matrix.astype(np.uint8) if np.isin(matrix, (0, 1)).all() else matrix
