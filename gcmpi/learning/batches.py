"""Mini-batches, and whatever else of a gradient is drawn: the same for all holders of a subset.

What is drawn follows from the run's seed, the iteration and the subset, so that every worker that
holds a subset, and the audit, use the same rows and the same generator without a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import IntArray

WHOLE = "1"
ROWS = "rows:"


@dataclass(frozen=True)
class Sampling:
    """What is drawn by (seed, iteration, subset).

    Parameters
    ----------
    seed
        The run's seed.
    batch
        How many rows of a subset a gradient takes: a fraction (``0.1``) or a count (``rows:32``).

    Raises
    ------
    ValueError
        If `batch` is neither a fraction in (0, 1] nor ``rows:COUNT``.
    """

    seed: int = 0
    batch: str = WHOLE

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", canonical(self.batch))

    @property
    def whole(self) -> bool:
        """Whether gradients take all rows."""
        return self.batch == WHOLE

    def size(self, rows: int) -> int:
        """Return how many of the rows of a subset are in a batch: at least one."""
        if self._count:
            return min(self._count, rows)
        return max(1, int(self._fraction * rows + 0.5))

    def rows(self, t: int, j: int, rows: int) -> IntArray | None:
        """Return the rows of subset j in the batch of iteration t, ascending; None for all.

        They are drawn without replacement, each set of that size with the same probability.
        """
        size = self.size(rows)
        if size == rows:
            return None
        rng = seeds.generator(self.seed, seeds.BATCH, t, j)
        return np.sort(rng.choice(rows, size, replace=False, shuffle=False))

    def generator(self, t: int, j: int) -> np.random.Generator:
        """Return the generator of a model that draws, in iteration t for subset j."""
        return seeds.generator(self.seed, seeds.MODEL, t, j)

    def check(self, sizes: Sequence[int]) -> None:
        """Refuse more rows than the smallest subset has.

        Raises
        ------
        ValueError
            With the numbers.
        """
        if self._count > min(sizes):
            raise ValueError(
                f"--batch {self.batch} is more than the {min(sizes)} rows of the smallest subset: "
                f"choose at most rows:{min(sizes)}, or 1 for all rows"
            )

    @cached_property
    def _count(self) -> int:
        return int(self.batch.removeprefix(ROWS)) if self.batch.startswith(ROWS) else 0

    @cached_property
    def _fraction(self) -> float:
        return float(self.batch)


def canonical(batch: object) -> str:
    """Return the text of a batch as it is stored: ``1``, ``0.1``, ``rows:32``.

    Raises
    ------
    ValueError
        If it is neither a fraction in (0, 1] nor ``rows:COUNT`` with a count of at least 1.
    """
    text = str(batch).strip()
    count = text.removeprefix(ROWS)
    if text.startswith(ROWS) and count.isdecimal() and int(count) >= 1:
        return f"{ROWS}{int(count)}"
    try:
        fraction = float("nan" if isinstance(batch, bool) else text)
    except ValueError:
        fraction = float("nan")
    if not 0 < fraction <= 1:
        raise ValueError(
            "--batch must be a fraction of the rows, above 0 and at most 1 (0.1), or a count "
            f"for each subset (rows:32), not {text!r}"
        )
    return WHOLE if fraction == 1 else repr(fraction)


EVERYTHING = Sampling()
"""All rows in every iteration; models that draw do so with seed 0."""
