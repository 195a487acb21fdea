"""An experiment's parts, built and checked: what train runs over MPI or on a virtual clock."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gcmpi import seeds
from gcmpi.audit import Auditor
from gcmpi.code import AnyArray, Array, message_length
from gcmpi.codebook import CodeBook
from gcmpi.comm.simulated import SimulatedExchange
from gcmpi.decoders import decoder
from gcmpi.decoding import Decoder
from gcmpi.errors import alpha, decoder_alpha
from gcmpi.experiment import Experiment
from gcmpi.optimizers import Optimizer
from gcmpi.problems import Dataset, datasets, load
from gcmpi.registry import (
    ASSIGNMENTS,
    COMPRESSORS,
    DECODERS,
    ENCODINGS,
    OPTIMIZERS,
    PROBLEMS,
    STRAGGLERS,
    WAITING,
)
from gcmpi.relabelling import ByOriginal
from gcmpi.training import Shard, Shared, Worker, shard
from gcmpi.waiting import StopRule
from gcmpi.wire import Wire


@dataclass(frozen=True)
class Run:
    """An experiment's parts, ready to run.

    Attributes
    ----------
    alpha : (n + 1,)
        What the gradient decoded with s stragglers is divided by; ones for ``rescale=none`` and
        for codes that make no promise of unbiasedness.
    """

    experiment: Experiment
    shared: Shared
    dataset: Dataset
    alpha: Array

    @property
    def A(self) -> AnyArray:
        """The assignment matrix, (k, n)."""
        return self.shared.codes.A

    @property
    def theta(self) -> AnyArray:
        """The initial parameters, (d,)."""
        rng = seeds.generator(self.experiment.seed, seeds.INITIAL)
        return self.shared.problem.initial(rng)

    @property
    def decoder(self) -> Decoder:
        """A new decoder."""
        return _decoder(self.experiment, self.shared.codes)

    @property
    def rule(self) -> StopRule:
        """A new stop rule."""
        rule: StopRule = WAITING.build(self.experiment.wait)
        return rule

    @property
    def optimizer(self) -> Optimizer:
        """A new optimizer."""
        optimizer: Optimizer = OPTIMIZERS.build(self.experiment.optimizer)
        return optimizer

    @property
    def auditor(self) -> Auditor:
        """A new auditor."""
        e = self.experiment
        problem, k = self.shared.problem, self.A.shape[0]
        return Auditor(problem, self.dataset, k, self.shared.wire, e.audit_every, e.iterations - 1)

    def shards(self) -> Iterator[Shard]:
        """Yield the rows of worker 0, 1, ..."""
        k, n = self.A.shape
        for i in range(n):
            yield shard(self.dataset, np.flatnonzero(self.A[:, i]), k)

    def simulate(self, compute_seconds: float = 0.01) -> SimulatedExchange:
        """Return the exchange on a virtual clock, all workers in this process."""
        s = self.shared
        workers = [Worker(i, s.problem, rows, s.codes) for i, rows in enumerate(self.shards())]
        wires = [copy.deepcopy(s.wire) for _ in workers]
        return SimulatedExchange(workers, s.stragglers, wires, compute_seconds)


def assignment_matrix(experiment: Experiment) -> AnyArray:
    """Return A (k, n) of an experiment: what the number of ranks has to fit.

    Raises
    ------
    ValueError
        If the assignment does not exist.
    """
    A: AnyArray = ASSIGNMENTS.build(experiment.assignment)
    return A


def build(experiment: Experiment, A: AnyArray) -> Run:
    """Build the parts of an experiment whose assignment matrix is A.

    Raises
    ------
    ValueError
        If parts do not fit together, or data cannot be read.
    """
    e = experiment
    k, n = A.shape
    codes = CodeBook.build(A, e.m, ENCODINGS.parse(e.encoding), e.seed, relabel=e.relabel)
    decode = _decoder(e, codes)
    decode(codes.code(0), np.ones(n, dtype=np.bool_))  # refuses a code that it does not serve
    stragglers = STRAGGLERS.build(e.stragglers, n=n, seed=e.seed)
    WAITING.build(e.wait).begin(codes.code(0))
    OPTIMIZERS.build(e.optimizer)
    dataset = load(e.dataset, seeds.generator(e.seed, seeds.DATA))
    datasets.partition(len(dataset.X), k)
    problem = PROBLEMS.build(
        e.problem, features=dataset.features, classes=dataset.classes, dtype=e.dtype
    )
    if e.m > problem.d:
        raise ValueError(
            f"--m {e.m} is more than the d={problem.d} parameters: choose m <= {problem.d}"
        )
    wire: Wire = COMPRESSORS.build(
        e.compression, length=message_length(problem.d, e.m), dtype=e.wire, seed=e.seed
    )
    if wire.remembers and not codes.constant:
        changes = "--relabel" if codes.relabel else f"--encoding {e.encoding}"
        raise ValueError(
            f"--compression {e.compression} adds what it left out to the next message, which means "
            f"nothing when the code changes in every iteration, as with {changes}: give "
            "feedback=false, or a code that stays the same"
        )
    scale = _alpha(e, codes, decode)
    return Run(e, Shared(problem, codes, stragglers, wire), dataset, scale)


def _decoder(e: Experiment, codes: CodeBook) -> Decoder:
    decode = decoder(e.decoder, codes.A.shape[1], redrawn=codes.fixed is None)
    return ByOriginal(decode) if codes.relabel else decode


def _alpha(e: Experiment, codes: CodeBook, decode: Decoder) -> Array:
    """Measure alpha for every number of stragglers: E[B_S R] = alpha_s F (paper, section 5)."""
    decoder_name = DECODERS.parse(e.decoder).name
    optimal = decoder_name == "least-squares"
    promise = ENCODINGS[codes.encoding.name] if optimal else DECODERS[decoder_name]
    if e.rescale == "none" or not (promise.traits.unbiased or codes.relabel):
        return np.ones(codes.A.shape[1] + 1)
    rng = seeds.generator(e.seed, seeds.MONTE_CARLO)
    if optimal:
        values = alpha(codes.draw, e.m, rng)
    else:
        values = decoder_alpha(codes.code(0), decode, rng, sets=50)
    # with everybody late the decoded gradient is zero, whatever it is divided by
    return np.where(values > 1e-9, values, 1.0)
