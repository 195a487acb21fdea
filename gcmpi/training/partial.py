"""Codes that use what stragglers have finished: what a worker computes, one subset at a time.

The protocol is in `gcmpi.cluster.partial`.
"""

from __future__ import annotations

import time

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.cluster.messages import Mailbox, Parameters
from gcmpi.cluster.partial import PartialWorker
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.whole import requests
from gcmpi.learning import Problem, in_memory
from gcmpi.learning.batches import EVERYTHING, Sampling
from gcmpi.learning.gradients import gradients
from gcmpi.training import Shard


class PartWorker:
    """A worker that computes one subset gradient after the other.

    Parameters
    ----------
    i
        The worker.
    problem
        The loss.
    shard
        Its rows, subsets in the order in which it computes them.
    m
        The communication reduction of the run's code.
    sampling
        The rows of mini-batches, and the generators of models that draw.

    Attributes
    ----------
    load
        How many subsets it holds.
    """

    def __init__(
        self,
        i: int,
        problem: Problem,
        shard: Shard,
        m: int = 1,
        sampling: Sampling = EVERYTHING,
    ) -> None:
        self.i, self.problem, self.load, self.m = i, problem, len(shard.sizes), m
        self.gradients = gradients(
            problem,
            in_memory(shard.X),
            in_memory(shard.y),
            shard.sizes,
            shard.subsets,
            shard.scale,
            sampling,
        )

    def begin(self, t: int, theta: AnyArray) -> None:
        """Take the parameters of iteration t, which must stay as they are until its message."""
        self.gradients.begin(t, theta)

    def compute(self, position: int) -> None:
        """Compute the gradient of one subset and keep it."""
        self.gradients.keep(position)

    def encode(self, coefficients: AnyArray) -> AnyArray:
        """Return the message of the first subsets with these coefficients (m, finished)."""
        return self.gradients.combine(coefficients)

    def message(self, t: int, theta: AnyArray, coefficients: AnyArray) -> AnyArray:
        """Return the message of iteration t with coefficients (m, finished), computed at once."""
        self.begin(t, theta)
        for position in range(coefficients.shape[1]):
            self.compute(position)
        return self.encode(coefficients)

    def rehearse(self, theta: AnyArray | None = None) -> None:
        """Make an answer to iteration 0 and throw it away; see `gcmpi.training.Worker.rehearse`."""
        theta = self.problem.initial(np.random.default_rng(0)) if theta is None else theta
        self.message(0, theta, np.ones((self.m, self.load)))


class TimedHands:
    """A worker whose computations are timed by this process's clock."""

    def __init__(self, worker: PartWorker) -> None:
        self._worker, self.load = worker, worker.load
        # a copy: the server may send something else while theta is in use
        self._theta = np.empty(worker.problem.d, worker.problem.dtype)
        self._t = 0

    def begin(self, parameters: Parameters) -> None:
        """Take the parameters of an iteration."""
        self._t = parameters.t
        self._theta[...] = parameters.theta

    def compute(self, position: int) -> float:
        """Compute the gradient of one subset and keep it; return the seconds that it took."""
        started = time.perf_counter()
        if not position:
            self._worker.begin(self._t, self._theta)
        self._worker.compute(position)
        return time.perf_counter() - started

    def encode(self, coefficients: AnyArray) -> tuple[AnyArray, float]:
        """Return the message with coefficients (m, finished), and the seconds that it took."""
        started = time.perf_counter()
        y = self._worker.encode(coefficients)
        return y, time.perf_counter() - started


def work(mailbox: Mailbox, worker: PartWorker, stragglers: StragglerModel) -> None:
    """Take part until the server says that the run is over."""
    half = PartialWorker(worker.i, stragglers, TimedHands(worker))
    list(requests(mailbox, half))  # nothing is left to others
