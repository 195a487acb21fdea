"""The code that a command line names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gcmpi.code import AnyArray, Array, BoolArray, Code
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, STRAGGLERS, Spec
from gcmpi.stragglers import StragglerModel, odds


@dataclass(frozen=True, eq=False)
class Choice:
    """An assignment, an encoding and m that fit together.

    Attributes
    ----------
    A : (k, n)
        The assignment matrix.
    model
        The straggler model that the code is for, if one is given.
    """

    assignment: Spec
    encoding: Spec
    m: int
    A: AnyArray
    model: Spec | None = None

    @classmethod
    def parse(cls, assignment: str, encoding: str, m: int, stragglers: str | None = None) -> Choice:
        """Build the assignment, and an encoding matrix to see that it can be done.

        `stragglers` may name a straggler model, which the code is then for; other texts are left
        to `counts`.

        Raises
        ------
        ValueError
            If a part is unknown or impossible, or they do not fit together.
        """
        if m < 1:
            raise ValueError(f"m must be at least 1, not {m}")
        first, second = ASSIGNMENTS.parse(assignment), ENCODINGS.parse(encoding)
        model = None
        if stragglers is not None and stragglers[:1].isalpha():
            model = STRAGGLERS.parse(stragglers)
        choice = cls(first, second, m, ASSIGNMENTS.build(first), model)
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
        B: Array = ENCODINGS.build(self.encoding, A=self.A, m=self.m, rng=rng, odds=self.odds)
        return B

    @cached_property
    def odds(self) -> Array | None:
        """Each worker's probability to straggle, (n,), where a model is given that says so."""
        return None if self.model is None else odds(self._stragglers(0))

    def survivors(self, sets: int, seed: int) -> BoolArray:
        """Return who answers in the first iterations of the model, (sets, n).

        Raises
        ------
        ValueError
            If the model makes workers late by some time: who straggles is then up to the server.
        """
        model = self._stragglers(seed)
        delays: Array = np.array([model.delays(t) for t in range(sets)])
        if not ((delays == 0) | np.isinf(delays)).all():
            raise ValueError(
                f"--stragglers {self.model} delays workers by some time; whom the server waits for "
                "depends on its rule: take a model of silent workers, such as bernoulli:q=0.25 or "
                "markov:q=0.25,delay=inf"
            )
        answers: BoolArray = delays == 0
        return answers

    def _stragglers(self, seed: int) -> StragglerModel:
        assert self.model is not None
        model: StragglerModel = STRAGGLERS.build(self.model, n=self.n, seed=seed)
        return model

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
