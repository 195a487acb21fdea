"""The worker's side: its rows, the message it makes of them, and its loop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import AnyArray, IntArray
from gcmpi.cluster.messages import Mailbox, Message, Parameters, Spent
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.whole import WholeWorker, requests
from gcmpi.learning import AnyRows, Dataset, Problem, in_memory, partition
from gcmpi.learning.batches import EVERYTHING, Sampling
from gcmpi.learning.gradients import Gradients, Pool, PooledGradients, gradients
from gcmpi.training.scheme import Scheme


@dataclass(frozen=True)
class Shard:
    """The rows of one worker, or where in a file they lie.

    Attributes
    ----------
    X, y : (r, *shape), (r,)
        Rows and targets of its subsets, one subset after the other, as in the data set.
    sizes
        How many rows each of its subsets has.
    scale
        1 / (number of all training rows): the subset gradients then add up to the gradient of
        the mean loss.
    subsets
        Its subsets.
    """

    X: AnyRows
    y: AnyRows
    sizes: tuple[int, ...]
    scale: float
    subsets: tuple[int, ...]


def shard(dataset: Dataset, subsets: IntArray, k: int) -> Shard:
    """Return the rows of a worker that holds these of the k subsets."""
    slices = partition(len(dataset.X), k)
    rows = np.concatenate([np.arange(slices[j].start, slices[j].stop) for j in subsets])
    sizes = tuple(slices[j].stop - slices[j].start for j in subsets)
    names = tuple(int(j) for j in subsets)
    return Shard(dataset.X[rows], dataset.y[rows], sizes, 1 / len(dataset.X), names)


class Worker:
    """Worker i: its rows, and the message it makes of them.

    Parameters
    ----------
    i
        The worker.
    problem
        The loss.
    shard
        Its rows.
    schemes
        The codes of the run, by m.
    sampling
        The rows of mini-batches, and the generators of models that draw.
    pool
        Where workers of one process share gradients; without it each computes its own.
    """

    def __init__(
        self,
        i: int,
        problem: Problem,
        shard: Shard,
        schemes: Mapping[int, Scheme],
        sampling: Sampling = EVERYTHING,
        pool: Pool | None = None,
    ) -> None:
        self.i, self.problem, self.schemes = i, problem, schemes
        self.gradients: PooledGradients | Gradients = (
            PooledGradients(pool, shard.subsets)
            if pool is not None
            else gradients(
                problem,
                in_memory(shard.X),
                in_memory(shard.y),
                shard.sizes,
                shard.subsets,
                shard.scale,
                sampling,
            )
        )
        for member in schemes.values():  # imports what draws codes, before the first iteration
            member.codes.coefficients(0, i)

    def answer(self, t: int, m: int, theta: AnyArray) -> Message:
        """Return the message of iteration t, without a delay."""
        started = time.perf_counter()
        coefficients = self.schemes[m].codes.coefficients(t, self.i)
        self.gradients.begin(t, theta)
        y, encoding = self.gradients.message(coefficients)
        return Message(t, m, y, Spent(time.perf_counter() - started - encoding, encoding))

    def rehearse(self, theta: AnyArray | None = None) -> None:
        """Make an answer to iteration 0 with each m and throw it away.

        What a model imports, compiles or puts on a device then happens before the clock starts.

        Parameters
        ----------
        theta : (d,)
            Any parameters; initial ones unless given.
        """
        theta = self.problem.initial(np.random.default_rng(0)) if theta is None else theta
        for m in self.schemes:
            self.answer(0, m, theta)


def work(mailbox: Mailbox, worker: Worker, stragglers: StragglerModel) -> None:
    """Answer the server until it says that the run is over."""
    half = WholeWorker(worker.i, stragglers)
    for wanted in requests(mailbox, half):
        if isinstance(wanted, Parameters):
            half.computed(worker.answer(*wanted), mailbox.now)
