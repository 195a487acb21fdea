"""Audits that workers make: what the server asks them between two iterations of a `CodedLoop`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.wire import Wire
from gcmpi.experiments.run import Run
from gcmpi.experiments.steps import Values
from gcmpi.learning import partition
from gcmpi.training import Auditor, Decoding, GradientAudit
from gcmpi.training.audit import Truth, relative_error, rounding, rounding_floor

if TYPE_CHECKING:
    from gcmpi.cluster.mpi import World


@dataclass(frozen=True)
class Question:
    """What a worker is to find out about parameters, outside the clock.

    Attributes
    ----------
    t, m
        The iteration, and the m of its code.
    theta : (d,)
        The parameters.
    subsets
        The worker's part of the audit.
    quality
        Whether loss and accuracy are wanted; else the gradient of each subset.
    """

    t: int
    m: int
    theta: AnyArray
    subsets: tuple[int, ...]
    quality: bool


ELSEWHERE = "the server of a coded loop has no model: workers make its audits"


class DistantModel:
    """A model that workers have and the server does not.

    Attributes
    ----------
    theta : (d,)
        The initial parameters.
    """

    metric = "accuracy"

    def __init__(self, theta: AnyArray) -> None:
        self.theta = theta
        self.d, self.dtype = theta.size, theta.dtype

    def initial(self, rng: np.random.Generator) -> AnyArray:
        """Return the initial parameters that worker 0 has made, shape (d,)."""
        return self.theta.copy()

    def targets(self, y: AnyArray) -> AnyArray:
        """Refuse: only workers know targets."""
        raise RuntimeError(ELSEWHERE)

    def loss(self, theta: AnyArray, X: AnyArray, Y: AnyArray) -> float:
        """Refuse: only workers know losses."""
        raise RuntimeError(ELSEWHERE)

    def accuracy(self, theta: AnyArray, X: AnyArray, y: AnyArray) -> float:
        """Refuse: only workers know accuracies."""
        raise RuntimeError(ELSEWHERE)


@dataclass(frozen=True)
class DistantRun(Run):
    """A run whose model and data only the workers have.

    Attributes
    ----------
    world
        Rank 0 and the workers.
    """

    world: World

    @cached_property
    def auditor(self) -> Auditor:
        """What asks the workers for the truth about iterations."""
        e, k = self.experiment, len(self.A)
        sizes = [rows.stop - rows.start for rows in partition(len(self.dataset.X), k)]
        every, last = e.audit_every, e.iterations - 1
        wire = self.shared.wire
        return DistantAuditor(self.world, self.A, sizes, wire, e.dtype, every, last, self.theta)


class DistantAuditor:
    """Audits every so many iterations, and the last one, by asking the workers.

    Parameters
    ----------
    world
        Rank 0 and the workers.
    A : (k, n)
        Assignment matrix.
    rows
        How many training rows each subset has.
    wire
        It says how much rounding is to be expected; what was compressed is not checked.
    dtype
        The type of gradients.
    every
        Iterations 0, every, 2 every, ... are audited.
    last
        The last iteration.
    theta : (d,)
        The initial parameters.
    """

    def __init__(
        self,
        world: World,
        A: AnyArray,
        rows: list[int],
        wire: Wire,
        dtype: npt.DTypeLike,
        every: int,
        last: int,
        theta: AnyArray,
    ) -> None:
        self._world, self._every, self._last, self._theta = world, every, last, theta
        self._parts = parts(A)
        self._rows = [sum(rows[j] for j in part) for part in self._parts]
        self._exact, self._rounding = wire.exact, rounding(wire, dtype)
        self._asked = (0, 1)

    def due(self, t: int) -> bool:
        """Say whether iteration t is to be audited."""
        return t % self._every == 0 or t == self._last

    def gradient(self, t: int, theta: AnyArray, decoding: Decoding) -> GradientAudit:
        """Compare the decoded gradient with the subset gradients, of one holder each.

        See `gcmpi.training.audit.Auditor.gradient`. The gradient is over the rows that the
        workers' own code has chosen; the gradient over all rows is not known.
        """
        code, R = decoding.code, decoding.R
        self._asked = (t, code.m)
        truth = Truth(decoding, theta.size)
        for j, g in self._gradients(theta):
            truth.add(j, g)
        error = relative_error(decoding.decoded / decoding.divisor, truth.exact)
        right = truth.right(self._rounding)
        if not right:  # near an optimum that fits all rows, gradients are smaller than their terms
            floor = rounding_floor(code, R, self._initial_norms(), theta.dtype)
            right = truth.right(self._rounding, floor)
        return GradientAudit(error, math.nan, int(right) if self._exact else 255)

    def _gradients(self, theta: AnyArray) -> Iterator[tuple[int, AnyArray]]:
        """Yield every subset's gradient, of one holder each: (subset, (d,))."""
        holders = {i: part for i, part in enumerate(self._parts) if part}
        for i, gradients in self._ask(holders, theta, quality=False):
            yield from zip(self._parts[i], gradients, strict=True)

    def _initial_norms(self) -> Array:
        """Return the norms of the subset gradients at the initial parameters, (k,)."""
        norms = {j: float(np.linalg.norm(g)) for j, g in self._gradients(self._theta)}
        return np.array([norms[j] for j in sorted(norms)])

    def quality(self, theta: AnyArray) -> tuple[float, float]:
        """Return (mean training loss, mean of the accuracies), of what workers report.

        NaN where they do not: the loss needs every worker that has rows in the audit.
        """
        everybody = dict(enumerate(self._parts))
        values: dict[int, Values] = dict(self._ask(everybody, theta, quality=True))
        losses = [values[i].loss for i, rows in enumerate(self._rows) if rows]
        known = [loss for loss in losses if loss is not None]
        loss = math.nan
        if len(known) == len(losses):
            loss = sum(known) / sum(self._rows)
            loss = math.inf if math.isnan(loss) else loss
        accuracies = [value.accuracy for value in values.values() if value.accuracy is not None]
        return loss, sum(accuracies) / len(accuracies) if accuracies else math.nan

    def _ask(self, whom: Mapping[int, tuple[int, ...]], theta: AnyArray, *, quality: bool) -> Any:
        t, m = self._asked
        return self._world.ask(
            {i: Question(t, m, theta, subsets, quality) for i, subsets in whom.items()}
        )


def parts(A: AnyArray) -> list[tuple[int, ...]]:
    """Return which subsets each worker audits: each subset once, by a holder with fewest so far."""
    taken: list[list[int]] = [[] for _ in range(A.shape[1])]
    for j, holders in enumerate(A):
        fewest = min(np.flatnonzero(holders), key=lambda i: len(taken[i]))
        taken[fewest].append(j)
    return [tuple(subsets) for subsets in taken]
