"""Laws of the straggler sets that a code is trained for and judged by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.encodings.frames import most_stragglers
from gcmpi.codes.encodings.search.objective import Stragglers, losses, unit_columns

BATCH = 64
"""Straggler sets a step of the training, at least."""
TEMPERED = 0.5
"""Share of the sets that come from the tempered law."""
DEVIATIONS = 2.0
"""The tempered law has the mean number of stragglers plus so many standard deviations."""
QUANTILE = 0.9
"""Up to this quantile of their number, stragglers are to be made good or attacked."""
ATTACKS, EVERY, ATTACK_RIDGE = 32, 5, 1e-6
"""Straggler sets of an attack, steps until they are sought anew, and the ridge of the search."""


class Law(Protocol):
    """Straggler sets at random."""

    @property
    def most(self) -> int:
        """The number of stragglers to expect at most."""
        ...

    @property
    def key(self) -> dict[str, int | str]:
        """What tells it apart from other laws, for `store.key`."""
        ...

    def judge(self, sets: int, rng: np.random.Generator) -> Stragglers:
        """Return sets whose mean is that of the law."""
        ...

    def step(self, B: Array, rng: np.random.Generator) -> Stragglers:
        """Return the sets of one step of the training of B."""
        ...

    def loss(self, B: Array, m: int, judged: Stragglers, eps: float) -> float:
        """Return what B loses over sets that `judge` gave: what codes are chosen by."""
        ...


class _Mean:
    """Codes are chosen by their mean error."""

    def loss(self, B: Array, m: int, judged: Stragglers, eps: float) -> float:
        """Return the mean over the sets."""
        return judged.mean(losses(B, m, judged, eps))


@dataclass(frozen=True)
class Uniform(_Mean):
    """Each number of stragglers from 0 to `most` counts the same, and so does each set of a size.

    What is assumed unless the run says more.
    """

    n: int
    most: int

    @property
    def key(self) -> dict[str, int | str]:
        """The largest number of stragglers."""
        return {"most": self.most}

    def judge(self, sets: int, rng: np.random.Generator) -> Stragglers:
        """Return so many sets."""
        return Stragglers.draw(self.n, np.arange(sets) % (self.most + 1), rng)

    def step(self, B: Array, rng: np.random.Generator) -> Stragglers:
        """Return the sets of one step: the same number of each size."""
        return self.judge(-(-BATCH // (self.most + 1)) * (self.most + 1), rng)


@dataclass(frozen=True, eq=False)
class Independent(_Mean):
    """Each worker straggles by itself, with its own probability.

    Parameters
    ----------
    odds : (n,)
        The probabilities.
    """

    odds: Array
    _tempered: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        expected = float(self.odds.sum())
        deviation = float(np.sqrt(np.sum(self.odds * (1 - self.odds))))
        object.__setattr__(
            self, "_tempered", tempered(self.odds, expected + DEVIATIONS * deviation)
        )

    @property
    def most(self) -> int:
        """The quantile of the number of stragglers that is exceeded in a tenth of the sets."""
        return min(quantile(self.odds, QUANTILE), len(self.odds) - 1)

    @property
    def key(self) -> dict[str, int | str]:
        """The probabilities."""
        return {"odds": " ".join(f"{q:.9g}" for q in self.odds)}

    def judge(self, sets: int, rng: np.random.Generator) -> Stragglers:
        """Return so many sets, half of them tempered, weighed so that the mean is that of the law.

        Rare sets may cost most: the tempered half sees that they are among the sets.
        """
        late, tempered_share = self._draw(sets, rng)
        p, q = (np.where(late, x, 1 - x) for x in (self.odds, self._tempered))
        ratio = np.prod(q / p, axis=1)  # p is not zero for what was drawn
        weights = 1 / (1 - tempered_share + tempered_share * ratio)
        return Stragglers.of(late, weights)

    def step(self, B: Array, rng: np.random.Generator) -> Stragglers:
        """Return the sets of one step: half of the law, half tempered, all counting the same.

        Without weights, because a code that does well on the rare costly sets does so on the
        others too, while the reverse does not hold.
        """
        return Stragglers.of(self._draw(BATCH, rng)[0])

    def _draw(self, sets: int, rng: np.random.Generator) -> tuple[BoolArray, float]:
        """Return who is late, (sets, n) bool, and the share of the tempered sets."""
        more = round(TEMPERED * sets)
        q = np.repeat([self.odds, self._tempered], [sets - more, more], axis=0)
        return rng.random(q.shape) < q, more / sets


@dataclass(eq=False)
class Attacked:
    """Sets of another law, and sets that an adversary chooses for the code as it is.

    `law.most` workers are removed one by one, each at the greatest cost, after one to three at
    random; the sets are sought anew every few steps.

    Parameters
    ----------
    law
        The other law.
    m
        Communication reduction factor.
    share
        How much the adversary's sets count, from 0 to 1.
    """

    law: Law
    m: int
    share: float
    _steps: int = field(default=0, init=False)
    _found: Stragglers | None = field(default=None, init=False)

    @property
    def most(self) -> int:
        """That of the other law."""
        return self.law.most

    @property
    def key(self) -> dict[str, int | str]:
        """That of the other law, and the share."""
        return {**self.law.key, "attack": f"{self.share:.9g}"}

    def judge(self, sets: int, rng: np.random.Generator) -> Stragglers:
        """Return the sets of the other law."""
        return self.law.judge(sets, rng)

    def step(self, B: Array, rng: np.random.Generator) -> Stragglers:
        """Return the sets of one step."""
        if self._found is None or self._steps % EVERY == 0:
            self._found = attacks(B, self.m, self.most, ATTACKS, rng)
        self._steps += 1
        return joined(self.law.step(B, rng), self._found, B.shape[1], self.share)

    def loss(self, B: Array, m: int, judged: Stragglers, eps: float) -> float:
        """Return the weighted mean of what the sets and the adversary's sets cost."""
        found = attacks(B, m, self.most, 4 * ATTACKS, np.random.default_rng(0))
        worst = float(losses(B, m, found, eps).mean())
        return (1 - self.share) * self.law.loss(B, m, judged, eps) + self.share * worst


def expected(
    n: int,
    name: str,
    stragglers: int | None,
    odds: Array | None,
    *,
    m: int = 1,
    attack: float = 0.0,
) -> Law:
    """Return the law that a code for n workers is made for.

    Where `stragglers` is given, each number up to it counts the same. Otherwise each number up to
    n/4, unless the workers are known to straggle with different probabilities, or more than
    half of the time more than n/4 of them do: then the law of the run. With `attack`, an
    adversary's sets count so much.

    Raises
    ------
    ValueError
        If `stragglers` is not in 0..n - 1, `odds` are not n probabilities, or `attack` is not in
        0..1.
    """
    most = most_stragglers(n, stragglers, name)
    if odds is not None and (odds.shape != (n,) or not ((odds >= 0) & (odds <= 1)).all()):
        raise ValueError(
            f"{name} needs n={n} probabilities as odds, one a worker, not numbers of shape "
            f"{np.shape(odds)} from {np.min(odds):g} to {np.max(odds):g}"
        )
    if not 0 <= attack <= 1:
        raise ValueError(f"{name} needs attack in [0, 1], not attack={attack:g}")
    law: Law = Uniform(n, most)
    if stragglers is None and odds is not None:
        covered = np.ptp(odds) == 0 and quantile(odds, 0.5) <= most
        law = law if covered else Independent(odds)
    return Attacked(law, m, attack) if attack else law


def quantile(odds: Array, probability: float) -> int:
    """Return the least s with P(number of stragglers <= s) >= probability."""
    law = np.ones(1)
    for q in odds:
        law = np.convolve(law, (1 - q, q))
    return int(np.searchsorted(np.cumsum(law), probability))


def tempered(odds: Array, expected: float) -> Array:
    """Return the probabilities with all q / (1 - q) multiplied so that they add up to `expected`.

    Those that are 0 or 1 stay; where the others cannot add up to so much, they come near 1.
    """
    free = (odds > 0) & (odds < 1)
    ratio = odds[free] / (1 - odds[free])
    low, high = 0.0, 40.0  # of the logarithm of the factor
    raised = odds.copy()
    for _ in range(60):
        factor = np.exp((low + high) / 2)
        raised[free] = factor * ratio / (1 + factor * ratio)
        low, high = ((low + high) / 2, high) if raised.sum() < expected else (low, (low + high) / 2)
    return raised


def attacks(B: Array, m: int, most: int, sets: int, rng: np.random.Generator) -> Stragglers:
    """Return sets of `most` stragglers that cost B (m * k, n) much.

    Each starts with one to three workers at random; then the worker goes that costs most, and so
    on: removing i from H = (B'B + eps I)^-1 and X = H B'F costs |X_i|^2 / H_ii.
    """
    U, _ = unit_columns(B)
    n = U.shape[1]
    H = np.linalg.inv(U.T @ U + ATTACK_RIDGE * np.eye(n))
    X = H @ U.reshape(m, -1, n).sum(axis=1).T
    H, X = np.repeat(H[None], sets, axis=0), np.repeat(X[None], sets, axis=0)
    chosen, row = np.zeros((sets, most), dtype=np.intp), np.arange(sets)
    lost = np.zeros((sets, n), dtype=np.bool_)
    start = rng.integers(1, 4, sets)
    at_random = rng.random((sets, n)).argsort(axis=1)
    for p in range(most):
        cost = np.sum(X**2, axis=2) / np.where(lost, np.inf, np.diagonal(H, axis1=1, axis2=2))
        i = np.where(p < start, at_random[:, p], np.where(lost, -1.0, cost).argmax(axis=1))
        chosen[:, p], lost[row, i] = i, True
        column = H[row, :, i] / H[row, i, i, None]
        X = X - column[:, :, None] * X[row, i][:, None]
        H = H - column[:, :, None] * H[row, i][:, None]
    return Stragglers(chosen, np.ones_like(chosen, dtype=np.bool_))


def joined(first: Stragglers, second: Stragglers, n: int, share: float) -> Stragglers:
    """Return the sets of both, those of the second counting `share` in all."""
    weights = []
    for sets, part in ((first, 1 - share), (second, share)):
        own = np.ones(len(sets.workers)) if sets.weights is None else sets.weights
        weights.append(part * own / own.sum())
    late = np.concatenate([first.late(n), second.late(n)])
    return Stragglers.of(late, np.concatenate(weights))
