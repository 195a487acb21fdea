"""Parts in turn: a worker sends one of the m parts of its message, and the next one next time.

What a worker sends is what it would send with m = 1, cut into m parts. No arithmetic is added, and
a message has d/m numbers, but an iteration sees only one part of each worker. The parts that are
missing have to be remembered from earlier iterations (`gcmpi.training.memory`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gcmpi.arrays import Array, IntArray
from gcmpi.codes.ensemble import Ensemble


@dataclass(frozen=True, eq=False)
class InTurn(Ensemble):
    """The codes of the encoding for m = 1, of which each worker sends one of m parts in turn.

    In iteration t, worker i sends part (t + its place) mod m. Holders of a subset have places of
    their own, so that together they send as many different parts as they can.

    Attributes
    ----------
    whole
        The codes with m = 1.

    Raises
    ------
    ValueError
        As of an `Ensemble`, and for partial codes and relabelled ones.
    """

    whole: Ensemble = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.relabel:
            raise ValueError("--parts in-turn goes without --relabel: leave one of them out")
        options = {"assignment": self.assignment, "placement": self.placement}
        self._set("whole", Ensemble(self.A, 1, self.encoding, self.odds, self.seed, **options))
        super().__post_init__()
        if self.partial:
            raise ValueError(
                f"--parts in-turn needs an encoding that is fixed before an iteration, not "
                f"{self.encoding}: choose another encoding, or --parts all"
            )
        self._set("_first", None)

    @cached_property
    def places(self) -> IntArray:
        """Where each worker begins, (n,); the holders of a subset are spread evenly over the parts.

        A part of a subset with g holders then comes every m/g iterations.
        """
        first = self.A.argmax(axis=0)
        rank = np.cumsum(self.A, axis=1, dtype=np.intp)[first, np.arange(self.n)] - 1
        holders = self.A.sum(axis=1, dtype=np.intp)[first]
        places: IntArray = first + rank * self.m // holders
        return places

    def draw(self, rng: np.random.Generator) -> Array:
        """Return the encoding matrix of an iteration, which `rng` chooses too, (m k, n)."""
        return self._cut(self.whole.draw(rng), int(rng.integers(self.m)))

    def _matrix(self, t: int) -> Array:
        return self._cut(self.whole.at(t).B, t)

    def _cut(self, B: Array, t: int) -> Array:
        """Return the matrix (m k, n) of which each worker has one part of its column of B."""
        parts = np.zeros((self.m, *B.shape))
        turn = (self.places + t) % self.m
        parts[turn, :, np.arange(self.n)] = B.T
        return parts.reshape(-1, self.n)
