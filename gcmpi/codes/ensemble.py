"""An assignment, an encoding and m that fit together: the codes that a run or a program may draw.

Server and workers each hold the same `Ensemble` and so agree on every code without a message:
what is random comes from the seed and the iteration. A code that depends on what workers have
finished is the server's alone, which tells them their coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.code import Code
from gcmpi.codes.relabelling import Relabelling, check_circulant
from gcmpi.promises import EncodingPromises
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
        The seed of the codes that `at` returns.
    relabel
        Whether workers, subsets and parts of a fixed code get new names in every iteration. The
        odds of all workers are then the mean, because every worker plays every other as often.
    assignment : Spec, optional
        Name and options of the assignment, for a matrix A that was built from them.
    placement : (n,), optional
        The column of A that each worker holds, as `gcmpi.codes.placement.place` returns them: A
        is then ``A[:, placement]``. The encoding is made for A as it was given and its columns
        are placed too, unless a column is held more than once.

    Attributes
    ----------
    fixed : (m k, n) or None
        B before any new names, when the encoding keeps it over the iterations; None when B is
        redrawn. Of a partial code, the B with which all workers have finished everything.

    Raises
    ------
    ValueError
        If a part cannot be used, the parts do not fit together, or the code cannot be relabelled.

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
    relabel: bool = field(default=False, kw_only=True)
    assignment: Any = field(default=None, kw_only=True)
    placement: Any = field(default=None, kw_only=True)
    _unplaced: AnyArray | None = field(init=False, repr=False, default=None)
    _first: Code | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.m, bool) or not isinstance(self.m, int | np.integer) or self.m < 1:
            raise ValueError(f"m must be a whole number of at least 1, not {self.m!r}")
        self._set("encoding", spec_of(ENCODINGS, self.encoding))
        if self.assignment is None:
            text = isinstance(self.A, str | Spec) or callable(self.A)
            assignment = spec_of(ASSIGNMENTS, self.A if text else _matrix(self.A))
            self._set("assignment", assignment)
            self._set("A", ASSIGNMENTS.build(assignment))
        if self.odds is not None:
            self._set("odds", np.asarray(self.odds, dtype=np.float64))
        self._place()
        if self.relabel:
            self._check_relabelling()
        first = Code(self.A, self.draw(seeds.generator(self.seed, seeds.CODE)), self.m)
        self._set("A", first.A)
        self._set("_first", None if self.part.promises.redrawn else first)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _place(self) -> None:
        """Let every worker hold its column, and remember for which A the encoding is made."""
        if self.placement is None:
            return
        columns = np.asarray(self.placement)
        if columns.shape != (self.n,) or not np.isin(columns, np.arange(self.n)).all():
            raise ValueError(
                f"a placement must be n={self.n} columns, 0 to {self.n - 1}, not "
                f"{self.placement!r:.60}"
            )
        self._set("placement", columns)
        if len(np.unique(columns)) == self.n and not self.partial:
            self._set("_unplaced", self.A)
        self._set("A", self.A[:, columns])

    def _check_relabelling(self) -> None:
        """Refuse a code that has no new names, and let every worker have the mean odds."""
        check_circulant(self.A)
        promises = self.part.promises
        if promises.redrawn or promises.partial:
            drawn, made = "drawn anew in every iteration", "made of what workers have finished"
            raise ValueError(
                "--relabel is for encodings that stay the same: "
                f"{self.encoding.name} is {drawn if promises.redrawn else made}"
            )
        if self.odds is not None:
            self._set("odds", np.full(self.n, self.odds.mean()))

    @classmethod
    def of(cls, code: Code) -> Ensemble:
        """Return the ensemble that has this one code."""
        return cls(code.A, code.m, code.B)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return the encoding matrix that `rng` gives, shape (m k, n), under its first names."""
        A, odds = self._unplaced, self.odds
        if A is None:
            made: Array = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng, odds=odds)
            return made
        if odds is not None:
            odds = odds[np.argsort(self.placement)]
        unplaced: Array = ENCODINGS.build(self.encoding, A=A, m=self.m, rng=rng, odds=odds)
        return unplaced[:, self.placement]

    def at(self, t: int, finished: IntArray | None = None) -> Code:
        """Return the code of iteration t: another one in each if the encoding is redrawn.

        Parameters
        ----------
        t
            The iteration.
        finished : (n,)
            For a partial code: how many of its `subsets` each worker has finished; all of them
            unless given. Coefficients of the others are zero.
        """
        if finished is not None:
            return self._of_finished(finished)
        if self._first is None:
            return Code(self.A, self._matrix(t), self.m)
        return self._names(t).of(self._first) if self.relabel else self._first

    def coefficients(self, t: int, i: int) -> Array:
        """Return worker i's coefficients in iteration t, shape (m, delta_i)."""
        blocks = self._matrix(t).reshape(self.m, *self.A.shape)
        held: Array = blocks[:, np.flatnonzero(self.A[:, i]), i]
        return held

    def columns(self, t: int, finished: IntArray) -> list[Array]:
        """Return each worker's coefficients for the subsets it has finished, (m, finished[i])."""
        blocks = self.at(t, finished).B.reshape(self.m, *self.A.shape)
        return [blocks[:, self.subsets(i)[:count], i] for i, count in enumerate(finished)]

    def subsets(self, i: int) -> IntArray:
        """Return the subsets of worker i in the order in which it computes them, (delta_i,)."""
        held = np.flatnonzero(self.A[:, i])
        return held[self._position[held, i].argsort()] if self.partial else held

    @property
    def fixed(self) -> Array | None:
        """B, when the encoding keeps it over the iterations."""
        return None if self._first is None else self._first.B

    @property
    def original(self) -> Code | None:
        """The code of all iterations before any new names, if there is one such code."""
        return None if self.changes else self._first

    @property
    def partial(self) -> bool:
        """Whether B depends on how many subsets each worker has finished."""
        return self.part.promises.partial

    @property
    def changes(self) -> bool:
        """Whether B may be another one in every iteration, new names of a fixed one aside."""
        return self._first is None or self.partial

    @property
    def part(self) -> Part[EncodingPromises]:
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

    def _matrix(self, t: int) -> Array:
        """Return B of iteration t, shape (m k, n)."""
        if self._first is None:
            return self.draw(seeds.generator(self.seed, seeds.CODE, t))
        B = self._first.B
        return self._names(t).matrix(B, self.k) if self.relabel else B

    def _names(self, t: int) -> Relabelling:
        # the code itself is fixed: nothing else is drawn from this stream
        rng = seeds.generator(self.seed, seeds.CODE, t)
        return Relabelling.draw(self.k, self.m, rng)

    def _of_finished(self, finished: IntArray) -> Code:
        pairs = (self._position >= 0) & (self._position < finished)
        rng = seeds.generator(self.seed, seeds.CODE)
        B = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng, finished=pairs)
        return Code(self.A, B, self.m)

    @cached_property
    def _position(self) -> IntArray:
        from gcmpi.codes.assignments.order import order

        return order(self.A)


def spec_of(registry: Registry[Any], value: Any) -> Spec:
    """Return a part's name and options: of a text, or of an object that a program hands over."""
    if isinstance(value, Spec):
        return value
    return registry.parse(value) if isinstance(value, str) else registry.adopt(value)


def _matrix(A: Any) -> AnyArray:
    matrix: AnyArray = np.asarray(A)
    return matrix.astype(np.uint8) if np.isin(matrix, (0, 1)).all() else matrix
