"""The code that a command line names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcmpi.code import AnyArray, Array, Code
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Spec


@dataclass(frozen=True, eq=False)
class Choice:
    """An assignment, an encoding and m that fit together.

    Attributes
    ----------
    A : (k, n)
        The assignment matrix.
    """

    assignment: Spec
    encoding: Spec
    m: int
    A: AnyArray

    @classmethod
    def parse(cls, assignment: str, encoding: str, m: int) -> Choice:
        """Build the assignment, and an encoding matrix to see that it can be done.

        Raises
        ------
        ValueError
            If a part is unknown or impossible, or they do not fit together.
        """
        if m < 1:
            raise ValueError(f"m must be at least 1, not {m}")
        first, second = ASSIGNMENTS.parse(assignment), ENCODINGS.parse(encoding)
        choice = cls(first, second, m, ASSIGNMENTS.build(first))
        Code(choice.A, choice.draw(np.random.default_rng(0)), m)
        return choice

    @property
    def name(self) -> str:
        """The code in one line."""
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

    def draw(self, rng: np.random.Generator) -> Array:
        """Return an encoding matrix (m * k, n)."""
        B: Array = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng)
        return B

    def counts(self, text: str | None) -> list[int]:
        """Read straggler counts as in ``0,3,5-8``; 0 to n/4 without a text.

        Raises
        ------
        ValueError
            If it cannot be read or a count is above n.
        """
        if text is None:
            return list(range(self.n // 4 + 1))
        counts: list[int] = []
        for item in text.split(","):
            first, dash, last = item.strip().partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                raise ValueError(f"--stragglers needs counts such as 0,3,7 or 0-8, not {text!r}")
            counts += range(int(first), int(last or first) + 1)
        if not counts or max(counts) > self.n:
            raise ValueError(f"--stragglers must be in 0..{self.n} (the workers), not {text}")
        return counts
