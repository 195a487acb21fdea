"""Codes that use what stragglers have finished: the worker's side of an iteration.

A worker computes its subset gradients one after the other. It says how many it has finished
when it has them all, or when the server has stopped waiting and asks; the server answers with the
coefficients that follow from all counts, and the worker sends its one message. This module knows
no MPI: `gcmpi.cluster` has the link and the server's side.
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.learning import Problem, in_memory
from gcmpi.learning.batches import EVERYTHING, Sampling
from gcmpi.learning.gradients import gradients
from gcmpi.training import Link, Message, Shard


class PartialLink(Link, Protocol):
    """A worker's view of a server that asks for counts; the delay of a reply has passed."""

    def asked(self, seconds: float) -> bool:
        """Sleep so long, or until the server asks for a count or ends the run; says if it did."""
        ...

    def say_finished(self, t: int, finished: int) -> AnyArray | None:
        """Say how many subsets are finished, and wait for what the server makes of it.

        Returns
        -------
        coefficients : (m, finished) or None
            None when the server goes on without this worker's message.
        """
        ...


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

    def rehearse(self, theta: AnyArray | None = None) -> None:
        """Make an answer to iteration 0 and throw it away; see `gcmpi.training.Worker.rehearse`."""
        self.begin(0, self.problem.initial(np.random.default_rng(0)) if theta is None else theta)
        for position in range(self.load):
            self.compute(position)
        self.encode(np.ones((self.m, self.load)))


def work(link: PartialLink, worker: PartWorker, stragglers: StragglerModel) -> None:
    """Answer the server until it says that the run is over.

    The delay of the straggler model is spread evenly over the subsets.
    """
    while (request := link.receive()) is not None:
        t, _, theta = request
        delay = float(stragglers.delays(t)[worker.i])
        if np.isinf(delay):
            link.stay_silent(t)
            continue
        finished, computing, sleeping = 0, 0.0, 0.0
        for position in range(worker.load):
            started = time.perf_counter()
            if not position:
                worker.begin(t, theta)
            worker.compute(position)
            computed = time.perf_counter()
            computing += computed - started
            unit = computed - started if stragglers.unit == "compute" else 1 / worker.load
            asked = link.asked(delay * unit)
            slept = time.perf_counter() - computed
            sleeping += min(slept, delay * unit)
            finished += slept >= delay * unit
            if asked:
                break
        coefficients = link.say_finished(t, finished)
        if coefficients is not None:
            started = time.perf_counter()
            y = worker.encode(coefficients)
            encoding = time.perf_counter() - started
            link.reply(Message(t, y, computing, encoding, sleeping))
