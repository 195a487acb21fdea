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
        model = straggler_model(stragglers)
        known = None if model is None else odds(model, A.shape[1])
        return cls(A, m, second, known, assignment=first, model=model)

    def survivors(self, sets: int, seed: int) -> BoolArray:
        """Return who answers in the first iterations of the model, as `survivors`."""
        assert self.model is not None
        return survivors(self.model, self.n, sets, seed)

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


def straggler_model(text: str | None) -> Spec | None:
    """Return the straggler model that a text names; None if it is no name."""
    return STRAGGLERS.parse(text) if text is not None and text[:1].isalpha() else None


def odds(model: Spec, n: int) -> Array | None:
    """Return the probabilities of n workers to straggle, where a model knows them, (n,)."""
    return _built(model, n, 0).odds


def survivors(model: Spec, n: int, sets: int, seed: int) -> BoolArray:
    """Return who of n workers answers in the first iterations of a straggler model, (sets, n).

    Raises
    ------
    ValueError
        If the model makes workers late by some time: who straggles is then up to the server.
    """
    built = _built(model, n, seed)
    delays: Array = np.array([built.delays(t) for t in range(sets)])
    if not ((delays == 0) | np.isinf(delays)).all():
        raise ValueError(
            f"--stragglers {model} delays workers by some time; whom the server waits for "
            "depends on its rule: take a model of silent workers, such as bernoulli:q=0.25 or "
            "markov:q=0.25,delay=inf"
        )
    answers: BoolArray = delays == 0
    return answers


def _built(model: Spec, n: int, seed: int) -> StragglerModel:
    built: StragglerModel = STRAGGLERS.build(model, n=n, seed=seed)
    return built
