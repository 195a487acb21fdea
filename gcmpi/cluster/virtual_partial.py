"""The exchange of codes that use what stragglers have finished, in one process.

The virtual clock is that of `gcmpi.cluster.virtual`: a worker with delta subsets has finished p of
them after p / delta of its computation and delay. Reports, coefficients and messages take no time,
so nothing is ever late, and all workers begin every iteration together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray
from gcmpi.cluster.messages import AnsweringInParts, Done, Replies, seconds_needed
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.wire import Wire, remembered, restore
from gcmpi.codes.ensemble import Ensemble
from gcmpi.formats import storage
from gcmpi.stateful import Arrays


class SimulatedPartialExchange:
    """The server's side and all workers.

    Parameters
    ----------
    workers
        Worker 0 to n - 1.
    codes
        What follows from their counts.
    stragglers
        Their delays.
    wires
        How their coded vectors travel, by m, one each.
    compute_seconds
        Virtual seconds that a worker computes.
    """

    def __init__(
        self,
        workers: Sequence[AnsweringInParts],
        codes: Ensemble,
        stragglers: StragglerModel,
        wires: Sequence[Mapping[int, Wire]],
        compute_seconds: float = 0.01,
    ) -> None:
        self.n = len(workers)
        self._workers, self._codes, self._stragglers = workers, codes, stragglers
        self._by_owner = {f"worker{i}": by_m for i, by_m in enumerate(wires)}
        self._wires = [by_m[codes.m] for by_m in wires]
        self._compute_seconds = compute_seconds
        self._loads = np.array([worker.load for worker in workers])
        self._sent = np.zeros(self._wires[0].elements, storage(self._wires[0].dtype))
        self._Y = np.zeros((self.n, self._wires[0].length), workers[0].problem.dtype)

    @property
    def state(self) -> Arrays:
        """What compression left out: nothing is ever on its way between two iterations."""
        return remembered(self._by_owner)

    @state.setter
    def state(self, arrays: Arrays) -> None:
        restore(self._by_owner, arrays)

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Do one iteration; the contract of `gcmpi.cluster.partial.MpiPartialExchange.exchange`."""
        unit = self._compute_seconds if self._stragglers.unit == "compute" else 1.0
        delays = self._stragglers.delays(t) * unit
        needed = self._compute_seconds + delays
        whole, elapsed = self._wait(t, needed, rule)
        done = np.where(whole, 1.0, elapsed / needed)  # nothing of an infinite time
        finished = np.floor(done * self._loads + 1e-9).astype(np.intp)
        reported = np.where(whole, needed, np.where(np.isfinite(needed), elapsed, np.nan))
        survivors = finished > 0
        columns = self._codes.columns(t, finished)
        for i in map(int, np.flatnonzero(survivors)):
            self._compute(t, i, finished[i], theta)
            y = self._workers[i].encode(columns[i])
            scale = self._wires[i].pack(y, t, i, self._sent)
            self._wires[i].unpack(self._sent, scale, t, i, self._Y[i])

        def told(seconds: Array) -> Array:
            return np.where(survivors, seconds, np.nan)

        return Replies(
            self._Y,
            survivors,
            told(np.full(self.n, elapsed)),
            told(done * self._compute_seconds),
            told(np.zeros(self.n)),
            told(np.where(survivors, delays, 0.0) * done),
            elapsed,
            [],
            int(np.count_nonzero(survivors)) * self._sent.nbytes,
            self.n * theta.nbytes + sum(column.size for column in columns) * theta.itemsize,
            Done(finished, seconds_needed(reported, finished, self._loads)),
        )

    def _wait(self, t: int, needed: Array, rule: StopRule) -> tuple[BoolArray, float]:
        """Return who has finished everything when the rule says stop, and when that is."""
        whole, elapsed = np.zeros(self.n, dtype=np.bool_), 0.0
        order = np.random.default_rng(t).permutation(self.n)  # of those that finish together
        for i in (*order[needed[order].argsort(kind="stable")], None):
            due = math.inf if i is None else float(needed[i])
            while (left := rule.remaining(whole, elapsed)) > 0 and due > elapsed + left:
                elapsed += left
            if left <= 0 or math.isinf(due):
                break
            whole[i], elapsed = True, due
        return whole, elapsed

    def _compute(self, t: int, i: int, finished: int, theta: AnyArray) -> None:
        self._workers[i].begin(t, theta)
        for position in range(finished):
            self._workers[i].compute(position)
