"""What a `CodedLoop` hands to a worker's own code: one `Step` a turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.code import message_length
from gcmpi.learning.batches import Sampling

Refuse = Callable[[str], Exception]
"""Makes the exception for a mistake, of a sentence."""
Take = Callable[[int, AnyArray, float], None]
"""Uses the gradient (d,) of a subset, times a scale."""


@dataclass(frozen=True)
class Share:
    """The training rows of a run, cut into subsets.

    Attributes
    ----------
    rows
        The row numbers of every subset, each (r_j,) and ascending.
    count
        How many rows there are in all.
    sampling
        What is drawn by (seed, iteration, subset).
    """

    rows: tuple[IntArray, ...]
    count: int
    sampling: Sampling

    def of(self, subsets: tuple[int, ...]) -> IntArray:
        """Return the row numbers of some subsets, one subset after the other, (r,)."""
        return np.concatenate([np.empty(0, np.intp), *(self.rows[j] for j in subsets)])


@dataclass(frozen=True)
class Values:
    """What a worker reports of the parameters that an audit is about; None where it does not."""

    loss: float | None = None
    accuracy: float | None = None


@dataclass(eq=False)
class Step:
    """One turn of a worker's loop.

    A turn is of one of three kinds. Most turns are iterations: the server waits, and the clock
    runs. Turns outside the clock (`timed` is false) look the same and need no code of their own:
    the rehearsal in front of the run, and the subset gradients of an audit. In a turn with `audit`
    there is no subset; the worker reports what it finds on `rows`.

    Attributes
    ----------
    t, m
        The iteration, and the m of its code.
    theta : (d,)
        The parameters, a copy that may be kept and changed.
    subsets
        The subsets whose gradients are to be added, each once, in any order.
    audit
        Whether `report` may be called.
    rows : (r,)
        With `audit`, the training rows of this worker's part of the audit: each training row is
        in the part of one worker.
    timed
        Whether the clock runs.
    """

    t: int
    m: int
    theta: AnyArray
    subsets: tuple[int, ...]
    share: Share = field(repr=False)
    take: Take = field(repr=False)
    refuse: Refuse = field(repr=False)
    audit: bool = False
    rows: IntArray = field(default_factory=lambda: np.empty(0, np.intp), repr=False)
    timed: bool = True
    values: Values = field(default=Values(), repr=False)

    def __post_init__(self) -> None:
        self._left = set(self.subsets)
        self._d, self._dtype = self.theta.size, self.theta.dtype

    def rng(self, j: int) -> np.random.Generator:
        """Return a new generator that follows from the seed, the iteration and the subset.

        It gives the same numbers on all workers that hold subset j, and in audits.
        """
        self._check(j, "rng")
        return self.share.sampling.generator(self.t, j)

    def scale(self, j: int, count: int) -> float:
        """Return what to multiply the gradient of a SUM of losses over rows of subset j by.

        The scaled gradients of all subsets add up to the gradient of the mean loss, or to an
        unbiased estimate of it if the rows are drawn with equal probabilities.

        Parameters
        ----------
        j
            The subset.
        count
            How many of its rows the sum is over.
        """
        self._check(j, "scale")
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise self._refused(
                f"scale({j}, count) needs the number of rows in the sum, at least 1, not {count!r}"
            )
        return (1 / self.share.count) * (len(self.share.rows[j]) / int(count))

    def add(self, j: int, gradient: npt.ArrayLike, scale: float = 1.0) -> None:
        """Add the gradient of one subset to this worker's message.

        Parameters
        ----------
        j
            One of `subsets`.
        gradient : (d,)
            Of the SUM of the losses of the rows: what `numpy.asarray` makes d numbers of.
        scale
            The gradient is multiplied by it: see `scale`.

        Raises
        ------
        ValueError
            If j is no subset of this step or was added before, or the gradient is not d finite
            numbers.
        """
        self._check(j, "add")
        if j not in self._left:
            raise self._refused(
                f"add({j}, ...) was called twice: add the gradient of a subset once, over all its "
                "rows of the step"
            )
        g = self._vector(j, gradient)
        # the norm is quick to find, and may be too large for a float where no number is
        if not np.isfinite(np.dot(g, g) * scale) and not np.isfinite(g * scale).all():
            raise self._refused(
                f"add({j}, ...) needs finite numbers, but the scaled gradient holds "
                f"{int(np.count_nonzero(~np.isfinite(g * scale)))} infinities or NaNs (a smaller "
                "rate may help)"
            )
        self._left.discard(j)
        self.take(j, g, scale)

    def report(self, *, loss: float | None = None, accuracy: float | None = None) -> None:
        """Report what an audit found with the parameters `theta`.

        Parameters
        ----------
        loss
            The SUM of the losses of the training rows `rows`. The run records the sum of all
            workers' values over the number of rows, if every worker with rows reports one.
        accuracy
            Of test rows that this worker chooses, between 0 and 1. The run records the mean of the
            values that workers report: let all use equally many rows, or one worker all of them.

        Raises
        ------
        ValueError
            If the step is no audit, or a value is not a number.
        """
        if not self.audit:
            raise self._refused("report(...) is for audits: call it under `if step.audit:`")
        self.values = Values(self._number("loss", loss), self._number("accuracy", accuracy))

    def finish(self) -> None:
        """Check that nothing is missing.

        Raises
        ------
        ValueError
            If the gradient of a subset was not added.
        """
        if self._left:
            missing = ", ".join(map(str, sorted(self._left)))
            raise self._refused(
                f"no gradient was added for {missing} of the subsets "
                f"{', '.join(map(str, self.subsets))}: call step.add for each"
            )

    def _check(self, j: int, what: str) -> None:
        if j not in self.subsets:
            of_step = ", ".join(map(str, self.subsets)) or "none"
            raise self._refused(
                f"{what}({j}, ...) is about no subset of this step (subsets: {of_step}): go "
                "through step.subsets"
            )

    def _vector(self, j: int, gradient: Any) -> AnyArray:
        needed = f"add({j}, ...) needs a gradient of d={self._d} numbers"
        try:
            g = np.asarray(gradient)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._refused(
                f"{needed} that numpy can read, not {type(gradient).__name__}: {error}"
            ) from error
        if g.shape != (self._d,) or g.dtype.kind not in "fiu":
            raise self._refused(f"{needed}, shape ({self._d},), not {g.dtype} of shape {g.shape}")
        return g.astype(self._dtype, copy=False)

    def _number(self, name: str, value: Any) -> float | None:
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            raise self._refused(
                f"report({name}=...) needs a number, not {type(value).__name__}"
            ) from None

    def _refused(self, why: str) -> Exception:
        return self.refuse(f"CodedLoop, iteration {self.t}: {why}")


class Encoder:
    """A worker's message, to which subset gradients are added; used again in every iteration.

    Parameters
    ----------
    m, d, dtype
        The m of the code, number and type of the parameters.
    subsets
        The worker's subsets.

    Attributes
    ----------
    y : (ceil(d / m),)
        The message.
    seconds
        Spent on encoding since `begin`.
    """

    def __init__(self, m: int, d: int, dtype: npt.DTypeLike, subsets: tuple[int, ...]) -> None:
        self._subsets = subsets
        self.y: AnyArray = np.zeros(message_length(d, m), dtype)
        self._term = np.empty_like(self.y)
        self.seconds = 0.0

    def begin(self, coefficients: Array) -> None:
        """Begin a message with the coefficients (m, delta_i) of an iteration."""
        self._columns = dict(zip(self._subsets, coefficients.T, strict=True))
        self.y[...] = 0
        self.seconds = 0.0

    def take(self, j: int, g: AnyArray, scale: float) -> None:
        """Add the gradient (d,) of subset j, times a scale."""
        started = time.perf_counter()
        for u, c in enumerate(self._columns[j]):
            part = g[u * self.y.size : (u + 1) * self.y.size]
            term = np.multiply(part, g.dtype.type(c * scale), out=self._term[: part.size])
            self.y[: part.size] += term
        self.seconds += time.perf_counter() - started
