"""Which m an iteration has: always the same, or one that follows the stragglers seen so far.

A run whose m may change has a code for each m from 1 to the largest, all on one assignment: the
data of a worker stays the same, only what it sends changes. A rule is asked before every iteration
and told afterwards how many stragglers there were. What it says depends on what it was told only,
and what it keeps of that is its `state`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from gcmpi.arrays import Array
from gcmpi.registry import SWITCHES
from gcmpi.stateful import NOTHING, Arrays, need


class Switch(Protocol):
    """What the server asks of a rule; `state` is what it remembers."""

    state: Arrays

    def choose(self) -> int:
        """Return the m of the next iteration."""
        ...

    def observe(self, stragglers: int) -> None:
        """Learn how many workers did not answer an iteration in time."""
        ...


@SWITCHES.register("never", changes=False)
class Never:
    """The same m in all iterations."""

    def __init__(self, m: int) -> None:
        self._m = m
        self.state = NOTHING

    def choose(self) -> int:
        """Return m."""
        return self._m

    def observe(self, stragglers: int) -> None:
        """Ignore the stragglers."""


@SWITCHES.register("observed", {"tolerance": 0.1, "window": 5})
class Observed:
    """The largest m that would have lost at most `tolerance` with the last stragglers.

    What m loses with s stragglers is the mean of Err_S / (m k) over random sets of s; it is
    averaged over the numbers of stragglers of the last `window` iterations. Where no m loses so
    little it is the m that loses least. The first iteration counts on no straggler.

    Parameters
    ----------
    losses
        For each m what it loses with 0, 1, .. n stragglers, shape (n + 1,).
    tolerance
        The part of the gradient that may be lost.
    window
        How many iterations back the rule looks.

    Raises
    ------
    ValueError
        If the tolerance is not in [0, 1), the window is empty, or the largest m loses more than
        the tolerance even when nobody straggles.
    """

    def __init__(
        self, losses: Mapping[int, Array], tolerance: float = 0.02, window: int = 20
    ) -> None:
        if not 0 <= tolerance < 1:
            raise ValueError(
                f"--switch observed needs a tolerance in [0, 1), not {tolerance:g}: it is the "
                "part of the gradient that may be lost"
            )
        if window < 1:
            raise ValueError(f"--switch observed needs window >= 1, not {window}")
        largest = max(losses)
        if losses[largest][0] > max(tolerance, 1e-12):
            raise ValueError(
                f"--switch observed would never take m={largest}, which loses "
                f"{losses[largest][0]:.3g} of the gradient with no straggler: give a tolerance "
                f"above that, not {tolerance:g}, a smaller --m or a code that is exact there"
            )
        self._losses = losses
        # rounding leaves an exact code at about 1e-16, not at zero
        self._tolerance = max(tolerance, 1e-12)
        self._recent: deque[int] = deque(maxlen=window)

    def choose(self) -> int:
        """Return the m of the next iteration."""
        recent = list(self._recent) or [0]
        lost = {m: float(np.mean(losses[recent])) for m, losses in self._losses.items()}
        allowed = [m for m, loss in lost.items() if loss <= self._tolerance]
        return max(allowed) if allowed else min(lost, key=lost.__getitem__)

    @property
    def state(self) -> Arrays:
        """The numbers of stragglers in the window, oldest first."""
        return {"recent": np.array(self._recent, dtype=np.int64)}

    @state.setter
    def state(self, arrays: Arrays) -> None:
        need(arrays, ("recent",), "--switch observed")
        self._recent.clear()
        self._recent.extend(arrays["recent"].tolist())

    def observe(self, stragglers: int) -> None:
        """Remember how many workers did not answer in time."""
        self._recent.append(stragglers)
