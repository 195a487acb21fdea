"""An experiment's parts: what train runs over MPI or on a virtual clock."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.partial import PartialServer
from gcmpi.cluster.virtual import (
    LastDelays,
    SimulatedExchange,
    partial_worker,
    whole_worker,
)
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.whole import MakeServer, WholeServer
from gcmpi.codes.decoders import ridge_of
from gcmpi.codes.encodings.search import store
from gcmpi.experiments.experiment import Experiment
from gcmpi.formats import NOISE_POWER
from gcmpi.learning import Dataset, datasets
from gcmpi.learning.gradients import Pool, gradients
from gcmpi.learning.optimizers import Optimizer
from gcmpi.learning.optimum import optimum
from gcmpi.records.figures import Figures, Target, figures
from gcmpi.registry import (
    OPTIMIZERS,
    SWITCHES,
    WAITING,
)
from gcmpi.training import (
    Auditor,
    Exchange,
    Moving,
    Scheme,
    Shard,
    Shared,
    State,
    Worker,
    audit,
    shard,
)
from gcmpi.training.memory import AUTO, LEAST, PART, Estimate, Layout, Memory, Nothing
from gcmpi.training.partial import PartWorker
from gcmpi.training.switching import Switch


@dataclass(frozen=True)
class Run:
    """An experiment's parts, ready to run.

    `optimizer`, `switch` and `rule` are new ones at every look, which remember nothing yet.
    """

    experiment: Experiment
    shared: Shared
    dataset: Dataset

    @property
    def schemes(self) -> Mapping[int, Scheme]:
        """All that belongs to each m that the run may use."""
        return self.shared.schemes

    @property
    def iterations(self) -> int:
        """How many iterations there are in all."""
        return self.experiment.iterations

    @property
    def A(self) -> AnyArray:
        """The assignment matrix, (k, n)."""
        A: AnyArray = self.shared.codes.A
        return A

    @property
    def alpha(self) -> Array:
        """What gradients decoded with the largest m are divided by, (n + 1,)."""
        return self.schemes[self.experiment.m].alpha

    @property
    def theta(self) -> AnyArray:
        """The initial parameters, (d,)."""
        rng = seeds.generator(self.experiment.seed, seeds.INITIAL)
        return self.shared.problem.initial(rng)

    @property
    def start(self) -> State:
        """Where training begins."""
        return State(0, self.theta, timed_from=self.experiment.warmup)

    def moving(self, exchange: Exchange) -> Moving:
        """Return new parts that remember nothing yet, and the exchange."""
        return Moving(self.optimizer, self.switch, self.rule, exchange, self.memory)

    @property
    def switch(self) -> Switch:
        """A new rule that says which m is next."""
        e = self.experiment
        losses = {m: scheme.loss for m, scheme in self.schemes.items()}
        switch: Switch = SWITCHES.build(e.specs["switch"], m=e.m, losses=losses)
        return switch

    @property
    def rule(self) -> StopRule:
        """A new stop rule."""
        rule: StopRule = WAITING.build(self.experiment.specs["wait"])
        return rule

    @property
    def memory(self) -> Memory:
        """A new memory of subset gradients; nothing is ever in it for ``memory=0``."""
        e = self.experiment
        if not e.remembers:
            return Nothing()
        eps = max(ridge_of(e.specs["decoder"], e.wire) or 0.0, NOISE_POWER[e.wire])
        return Estimate(self.layout, self.eta, self.shared.problem.dtype, eps)

    @cached_property
    def layout(self) -> Layout:
        """What a server with memory keeps."""
        ensembles = {m: scheme.codes for m, scheme in self.schemes.items()}
        return Layout.of(ensembles, self.shared.problem.d)

    @property
    def eta(self) -> float:
        """How much of what is new is believed."""
        e = self.experiment
        if e.memory != AUTO:
            return float(e.memory)
        rows = len(self.dataset.X)
        slices = datasets.partition(rows, len(self.A))
        used = sum(self.shared.sampling.size(part.stop - part.start) for part in slices)
        return 1.0 if used == rows else max(PART * used / rows, LEAST)

    @property
    def optimizer(self) -> Optimizer:
        """A new optimizer."""
        optimizer: Optimizer = OPTIMIZERS.build(self.experiment.specs["optimizer"])
        return optimizer

    @property
    def load(self) -> float:
        """The part of the data that the worker with most of it holds."""
        return float(self.A.sum(axis=0, dtype=np.intp).max() / self.A.shape[0])

    def figures(self, columns: Mapping[str, AnyArray]) -> Figures:
        """Return what these columns of a run file come to."""
        return figures(columns, self.load, self.target)

    @cached_property
    def target(self) -> Target:
        """What ends the run early; finds the optimum where the target is measured from it."""
        e = self.experiment
        if not e.target_excess:
            return Target(e.target_accuracy, e.target_loss)
        found = optimum(self.shared.problem, self.dataset, e.problem, store.directory())
        return Target(loss=found.loss * (1 + e.target_excess), optimum=found.loss)

    @cached_property
    def auditor(self) -> Auditor:
        """What computes the truth about iterations."""
        e = self.experiment
        problem, k = self.shared.problem, self.A.shape[0]
        return audit.Auditor(
            problem,
            self.dataset,
            k,
            self.shared.wire,
            e.audit_every,
            e.iterations - 1,
            self.shared.sampling,
            self.theta,
        )

    def shards(self) -> Iterator[Shard]:
        """Yield the rows of worker 0, 1, ..."""
        k, n = self.A.shape
        for i in range(n):
            yield shard(self.dataset, self.shared.codes.subsets(i), k)

    def simulate(self, compute_seconds: float = 0.01, *, share: bool = False) -> Exchange:
        """Return the exchange on a virtual clock, all workers in this process.

        Parameters
        ----------
        share
            Compute the gradient of a subset once for all workers that hold it: the same up to
            rounding, with the work of one copy of the data. Not where workers answer in parts.
        """
        s = self.shared
        wires = [copy.deepcopy(s.wires) for _ in range(self.A.shape[1])]
        timing = LastDelays(s.stragglers), compute_seconds
        shards = enumerate(self.shards())
        if s.codes.partial:
            parts = [PartWorker(i, s.problem, rows, s.codes.m, s.sampling) for i, rows in shards]
            workers = [partial_worker(p.i, p.load, p.message, *timing) for p in parts]
        else:
            pool = self._pool() if share else None
            wholes = [Worker(i, s.problem, rows, s.schemes, s.sampling, pool) for i, rows in shards]
            workers = [whole_worker(w.i, w.answer, *timing) for w in wholes]
        return SimulatedExchange(workers, wires, s.problem.dtype, self.server)

    @property
    def server(self) -> MakeServer:
        """What makes the server's half of the protocol."""
        codes = self.shared.codes
        if not codes.partial:
            return partial(WholeServer, keep_late=self.experiment.late == "remember")
        loads = codes.A.sum(axis=0, dtype=np.intp)
        return partial(PartialServer, loads=loads, columns=codes.columns)

    def _pool(self) -> Pool:
        """Return the gradients that all workers of this process share."""
        s, data, k = self.shared, self.dataset, self.A.shape[0]
        sizes = [rows.stop - rows.start for rows in datasets.partition(len(data.X), k)]
        scale = 1 / len(data.X)
        everything = gradients(s.problem, data.X, data.y, sizes, range(k), scale, s.sampling)
        return Pool(everything, s.problem)
