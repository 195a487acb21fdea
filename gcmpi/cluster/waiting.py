"""When the server stops waiting in an iteration.

A rule is asked ``remaining(answered, elapsed)``: how many more seconds is it worth to wait?
Zero or less: stop now. Infinity: until the next answer, however long. One answer is enough for a
real cluster and for a virtual clock: the transport sleeps, or jumps, at most that long.

A transport ends an iteration whose rule says infinity when no outstanding answer can come, so a
rule without a time limit does not hang on workers that a straggler model keeps silent.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal, Protocol

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.code import Code
from gcmpi.registry import WAITING, called_by_name
from gcmpi.stateful import NOTHING, Arrays, need, own_state, restore_own


class StopRule(Protocol):
    """What the server asks of a rule, in this order in every iteration.

    `state` is what the rule remembers from one iteration to the next.
    """

    state: Arrays

    def begin(self, code: Code) -> None:
        """Start an iteration that uses this code."""
        ...

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return for how many seconds to wait on.

        Parameters
        ----------
        answered : (n,) bool
            The workers that answered in time so far.
        elapsed
            Seconds since the iteration began.
        """
        ...

    def observe(self, seconds: Array) -> None:
        """Learn the response times (any number of them) that became known, late ones included."""
        ...


def until(seconds: float, elapsed: float) -> float:
    """Return the time left until `seconds`; zero also when only rounding is left."""
    left = seconds - elapsed
    return left if left > 1e-9 else 0.0


class _Rule:
    """A rule that learns nothing."""

    state: Arrays = NOTHING

    def begin(self, code: Code) -> None:
        """Start an iteration."""

    def observe(self, seconds: Array) -> None:
        """Ignore the response times."""


IN_VAIN = 20
"""Times that a user's rule may extend its wait without an answer in between."""


class OwnRule:
    """A user's rule, or a user's function (answered, elapsed) that says what remains.

    `begin`, `observe` and `state` may be left out.

    Attributes
    ----------
    restorable
        Whether a resumed run can be the uninterrupted one: what learns must show its `state`.
    """

    def __init__(self, made: Any) -> None:
        self._made = made
        self._remaining = getattr(made, "remaining", made)
        self._answers, self._until, self._in_vain = -1, 0.0, 0
        self._begin = getattr(made, "begin", None)
        self._observe = getattr(made, "observe", None)
        self.restorable = hasattr(made, "state") or self._observe is None

    @property
    def state(self) -> Arrays:
        """Copies of the user's `state`, arrays by name; empty where there is none."""
        return own_state(self._made)

    @state.setter
    def state(self, arrays: Arrays) -> None:
        restore_own(self._made, arrays, "wait rule")

    def begin(self, code: Code) -> None:
        """Tell the user's rule which code the iteration uses."""
        self._answers, self._until, self._in_vain = -1, 0.0, 0
        if self._begin is not None:
            self._begin(code)

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return what the user's rule says; refuse NaN."""
        said = called_by_name(self._remaining, answered=answered, elapsed=elapsed)
        try:
            seconds = float(said)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            seconds = math.nan
        if math.isnan(seconds):
            raise ValueError(
                f"remaining must be seconds (0 to stop, inf to wait on), not {said!r:.60}"
            )
        self._refuse_forever(int(np.count_nonzero(answered)), elapsed, seconds)
        return seconds

    def _refuse_forever(self, answers: int, elapsed: float, seconds: float) -> None:
        """Refuse a rule that says again and again to wait on although nothing comes."""
        if answers != self._answers or seconds <= 0 or math.isinf(seconds):
            self._in_vain = 0
        elif elapsed >= self._until - 1e-9:  # all that the rule asked for has passed
            self._in_vain += 1
        else:
            return
        self._answers, self._until = answers, elapsed + seconds
        if self._in_vain >= IN_VAIN:
            raise ValueError(
                f"remaining said {IN_VAIN} times in a row to wait on, at last for {seconds:g} "
                f"seconds, although nobody answered: it must fall as elapsed grows, as "
                f"max(0, {seconds:g} - elapsed) does"
            )

    def observe(self, seconds: Array) -> None:
        """Tell the user's rule the response times."""
        if self._observe is not None:
            self._observe(seconds)


def complete(made: object) -> StopRule:
    """Return a user's rule with the members that it may leave out.

    Raises
    ------
    ValueError
        If it does not say how long to wait; the message follows the rule's name.
    """
    if not callable(getattr(made, "remaining", made)):
        raise ValueError(
            "must have remaining(answered, elapsed) that returns seconds, or be a function of "
            f"them, not {made!r:.60}"
        )
    return OwnRule(made)


@WAITING.register("all")
class All(_Rule):
    """Wait for every worker that will answer: the uncoded reference."""

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return 0 when all have answered, else infinity."""
        return 0.0 if answered.all() else math.inf


@WAITING.register("fastest", {"count": 2})
class Fastest(_Rule):
    """Wait for the first `count` answers (backup workers, k-sync)."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"wait rule fastest needs count >= 1, not count={count}")
        self.count = count

    def begin(self, code: Code) -> None:
        """Refuse a count that the workers cannot reach."""
        if self.count > code.n:
            raise ValueError(
                f"wait rule fastest:{self.count} needs {self.count} workers, but there are "
                f"n={code.n}: use fastest:COUNT with COUNT <= {code.n}"
            )

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return 0 when `count` workers have answered, else infinity."""
        return 0.0 if np.count_nonzero(answered) >= self.count else math.inf


@WAITING.register("decodable", {"tolerance": 0.1})
class Decodable(_Rule):
    """Wait until Err_S / (m k) <= tolerance, that is until the answers decode well enough."""

    def __init__(self, tolerance: float) -> None:
        if not 0 <= tolerance < 1:
            raise ValueError(
                f"wait rule decodable needs a tolerance in [0, 1), not {tolerance:g}: it is the "
                "part of the gradient that may be lost"
            )
        self.tolerance = tolerance

    def begin(self, code: Code) -> None:
        """Start an iteration that uses this code."""
        self._code = code
        self._answers = 0
        self._stop = False

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return 0 when the answers decode within the tolerance, else infinity."""
        count = int(np.count_nonzero(answered))
        if count > self._answers:
            self._answers = count
            code = self._code
            # rounding leaves an exact code at about 1e-28, not at zero
            lost = code.error(answered) / (code.m * code.k)
            self._stop = lost <= max(self.tolerance, 1e-12)
        return 0.0 if self._stop else math.inf


@WAITING.register("covered", {}, {"count": 3}, {"copies": 2})
class Covered(_Rule):
    """Wait until every subset is on workers that answered, or for `count` answers.

    `copies` answers for every subset: m of them is the least that a code with messages of d/m
    numbers needs. With fractional repetition and one copy it is the rule of ErasureHead: every
    group has answered, or `count` workers have.

    References
    ----------
    Wang, Charles and Papailiopoulos, ErasureHead, arXiv 1901.09671.
    """

    def __init__(self, count: int | None = None, copies: int = 1) -> None:
        if copies < 1 or (count is not None and count < 1):
            raise ValueError(
                f"wait rule covered needs count and copies >= 1, not count={count}, copies={copies}"
            )
        self.count, self.copies = count, copies

    def begin(self, code: Code) -> None:
        """Refuse what the workers cannot reach."""
        if self.copies > code.gamma:
            raise ValueError(
                f"wait rule covered:copies={self.copies} needs every subset on so many workers; "
                f"one is on {code.gamma}: use copies <= {code.gamma}"
            )
        if self.count is not None and self.count > code.n:
            raise ValueError(
                f"wait rule covered:{self.count} needs {self.count} workers, but there are "
                f"n={code.n}: use covered:COUNT with COUNT <= {code.n}"
            )
        self._A = code.A.astype(np.float64)

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return 0 when all subsets are covered or enough workers have answered, else infinity."""
        enough = self.count is not None and np.count_nonzero(answered) >= self.count
        return 0.0 if enough or (self._A @ answered >= self.copies).all() else math.inf


@WAITING.register("deadline", {"seconds": 0.05}, {"seconds": "auto"})
def deadline(seconds: float | Literal["auto"], at_least: int = 0) -> StopRule:
    """Stop at a fixed time (seconds), or at one that follows the arrivals (auto).

    `at_least` answers are waited for even when the time is over. A deadline below the time that
    a healthy iteration takes would otherwise never see an answer in time.
    """
    if isinstance(seconds, str):
        return AutoDeadline(at_least)
    if not seconds > 0:
        raise ValueError(f"wait rule deadline needs seconds > 0, not {seconds:g}")
    return Deadline(seconds, at_least)


class Deadline(_Rule):
    """Stop `seconds` after the start of the iteration, but not before `at_least` answers."""

    def __init__(self, seconds: float, at_least: int = 0) -> None:
        self.seconds = seconds
        self.at_least = at_least

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return the time left, or infinity while it is over with too few answers."""
        if answered.all():
            return 0.0
        left = until(self.seconds, elapsed)
        return math.inf if not left and np.count_nonzero(answered) < self.at_least else left


class AutoDeadline:
    """Stop when a worker would be an outlier among the recent response times.

    The deadline is the median plus three median absolute deviations (at least a tenth of the
    median) of the response times of the last iterations. Answers that come late are counted
    with the time they took, so that a deadline that has become too short grows again. Until half
    of the workers have been seen, and in every iteration until half of them have answered, it
    waits on.
    """

    WINDOW = 16

    def __init__(self, at_least: int = 0) -> None:
        self.at_least = at_least
        self._recent: deque[Array] = deque(maxlen=self.WINDOW)
        self._seconds = math.inf

    @property
    def state(self) -> Arrays:
        """Response times of the last iterations one after the other, and how many each has."""
        return {
            "recent": np.concatenate(self._recent) if self._recent else np.zeros(0),
            "counts": np.array([times.size for times in self._recent], dtype=np.int64),
        }

    @state.setter
    def state(self, arrays: Arrays) -> None:
        need(arrays, ("recent", "counts"), "wait rule deadline:auto")
        self._recent.clear()
        if arrays["counts"].size:
            self._recent.extend(np.split(arrays["recent"], arrays["counts"].cumsum()[:-1]))

    def begin(self, code: Code) -> None:
        """Compute the deadline of this iteration."""
        half = -(-code.n // 2)
        self._needed = max(self.at_least, half)
        known = np.concatenate(self._recent) if self._recent else np.zeros(0)
        if known.size < half:
            self._seconds = math.inf
            return
        median = float(np.median(known))
        deviation = float(np.median(np.abs(known - median)))
        self._seconds = median + max(3 * deviation, 0.1 * median)

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return the time left, or infinity while it is over with too few answers."""
        if answered.all():
            return 0.0
        left = until(self._seconds, elapsed)
        return math.inf if not left and np.count_nonzero(answered) < self._needed else left

    def observe(self, seconds: Array) -> None:
        """Remember the response times that became known in an iteration."""
        if seconds.size:
            self._recent.append(np.asarray(seconds))
