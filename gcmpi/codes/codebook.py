"""Which code is used in which iteration: one for the run, one drawn anew, or one made of a report.

Server and workers each hold the same `CodeBook` and so agree on every code without a message:
what is random comes from the run's seed and the iteration. A code that depends on what workers
have finished is the server's alone, which tells them their coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.code import Code
from gcmpi.codes.relabelling import Relabelling, check_circulant
from gcmpi.registry import ENCODINGS, Spec


@dataclass(frozen=True, eq=False)
class CodeBook:
    """The codes of a run.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    encoding
        The encoding's name and options.
    seed
        The run's seed.
    fixed : (m * k, n) or None
        B, when the encoding keeps it over the iterations; None when it is redrawn. Of a code
        that is made of reports, the B with which everybody has finished everything.
    relabel
        Whether workers, subsets and parts of the fixed code get new names in every iteration.
    odds : (n,) or None
        Each worker's probability to straggle, where it is known, for encodings that use it.
    """

    A: AnyArray
    m: int
    encoding: Spec
    seed: int
    fixed: Array | None
    relabel: bool = False
    odds: Array | None = None

    @classmethod
    def build(
        cls,
        A: AnyArray,
        m: int,
        encoding: Spec,
        seed: int,
        *,
        relabel: bool = False,
        odds: Array | None = None,
    ) -> CodeBook:
        """Make the code book of a run, and with it the B of an encoding that keeps it.

        Raises
        ------
        ValueError
            If the encoding does not fit A and m, or cannot be relabelled.
        """
        if relabel:
            check_circulant(A)
        if relabel and odds is not None:  # every worker plays every other as often
            odds = np.full(A.shape[1], odds.mean())
        book = cls(A, m, encoding, seed, None, odds=odds)
        first = book.draw(seeds.generator(seed, seeds.CODE))
        Code(A, first, m)
        promises = ENCODINGS[encoding.name].promises
        if relabel and (promises.redrawn or promises.reported):
            drawn, made = "drawn anew in every iteration", "made of what is reported"
            how = drawn if promises.redrawn else made
            raise ValueError(
                f"--relabel is for encodings that stay the same: {encoding.name} is {how}"
            )
        return book if promises.redrawn else replace(book, fixed=first, relabel=relabel)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return the encoding matrix that `rng` gives, shape (m * k, n); the fixed one if any."""
        if self.fixed is not None:
            return self.fixed
        B: Array = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng, odds=self.odds)
        return B

    @property
    def reported(self) -> bool:
        """Whether the code of a message depends on what workers report to have finished."""
        return ENCODINGS[self.encoding.name].promises.reported

    @property
    def changes(self) -> bool:
        """Whether B may be another one in every iteration, new names of a fixed one aside."""
        return self.fixed is None or self.reported

    def code(self, t: int, finished: IntArray | None = None) -> Code:
        """Return the code of iteration t.

        Parameters
        ----------
        t
            The iteration.
        finished : (n,)
            For a code made of reports: how many of its `subsets` each worker has finished; all of
            them unless given. Coefficients of the others are zero.
        """
        if finished is None:
            if self._original is None:
                return Code(self.A, self._matrix(t), self.m)
            return self._names(t).of(self._original) if self.relabel else self._original
        pairs = (self._position >= 0) & (self._position < finished)
        rng = seeds.generator(self.seed, seeds.CODE)
        B = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng, finished=pairs)
        return Code(self.A, B, self.m)

    def subsets(self, i: int) -> IntArray:
        """Return the subsets of worker i in the order in which it computes them, (delta_i,)."""
        held = np.flatnonzero(self.A[:, i])
        return held[self._position[held, i].argsort()] if self.reported else held

    def columns(self, t: int, finished: IntArray) -> list[Array]:
        """Return each worker's coefficients for the subsets it has finished, (m, finished[i])."""
        blocks = self.code(t, finished).B.reshape(self.m, *self.A.shape)
        return [blocks[:, self.subsets(i)[:count], i] for i, count in enumerate(finished)]

    def coefficients(self, t: int, i: int) -> Array:
        """Return worker i's coefficients in iteration t, shape (m, delta_i)."""
        blocks = self._matrix(t).reshape(self.m, *self.A.shape)
        held: Array = blocks[:, np.flatnonzero(self.A[:, i]), i]
        return held

    @cached_property
    def _position(self) -> IntArray:
        from gcmpi.codes.assignments.order import order

        return order(self.A)

    @cached_property
    def _original(self) -> Code | None:
        return None if self.fixed is None else Code(self.A, self.fixed, self.m)

    def _matrix(self, t: int) -> Array:
        B = self.draw(seeds.generator(self.seed, seeds.CODE, t))
        return self._names(t).matrix(B, len(self.A)) if self.relabel else B

    def _names(self, t: int) -> Relabelling:
        # the code itself is fixed: nothing else is drawn from this stream
        rng = seeds.generator(self.seed, seeds.CODE, t)
        return Relabelling.draw(len(self.A), self.m, rng)
