"""The code that a command line names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.codes.ensemble import Ensemble
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, STRAGGLERS, Spec


@dataclass(frozen=True, eq=False)
class Choice(Ensemble):
    """The codes that a command line names.

    Attributes
    ----------
    model
        The straggler model that the code is for, if one is given.
    """

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
        A = ASSIGNMENTS.build(first)
        model = odds = None
        if stragglers is not None and stragglers[:1].isalpha():
            model = STRAGGLERS.parse(stragglers)
            odds = STRAGGLERS.build(model, n=A.shape[1], seed=0).odds
        return cls(A, m, second, odds, assignment=first, model=model)

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
