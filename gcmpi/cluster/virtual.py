"""The exchange in one process, on a virtual clock: the protocol of `gcmpi.cluster.mpi`, no waiting.

Workers compute for a fixed virtual time and send in no time: who answers when, and so the whole
training, is exactly reproducible, and a run over many minutes of delays takes seconds. Answers
that are due at the same time come in random order. Decoding and updates take real seconds.

Answers that are on their way when an iteration ends are part of the exchange's state, so that a run
that is resumed has them arrive when they would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.cluster.messages import Answering, Replies
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.wire import Wire, remembered, restore
from gcmpi.formats import storage
from gcmpi.stateful import Arrays, need


class SimulatedExchange:
    """The server's side and all workers.

    Parameters
    ----------
    workers
        Worker 0 to n - 1.
    stragglers
        Their delays.
    wires
        How their coded vectors travel, by m, one each: a wire may remember what it left out.
    compute_seconds
        Virtual seconds that a worker computes.
    """

    def __init__(
        self,
        workers: Sequence[Answering],
        stragglers: StragglerModel,
        wires: Sequence[Mapping[int, Wire]],
        compute_seconds: float = 0.01,
    ) -> None:
        self.n = len(workers)
        self._workers, self._stragglers = workers, stragglers
        self._compute_seconds = compute_seconds
        problem = workers[0].problem
        self._wires = wires
        self._by_owner = {f"worker{i}": by_m for i, by_m in enumerate(wires)}
        self._sent = {m: np.zeros(w.elements, storage(w.dtype)) for m, w in wires[0].items()}
        self._Y = {m: np.zeros((self.n, w.length), problem.dtype) for m, w in wires[0].items()}
        self._parameter_bytes = problem.d * problem.dtype.itemsize
        self._now = 0.0
        # what each worker owes: an iteration (-1: nothing), when its answer will be there, and
        # when that iteration began and with which m
        self._owes = np.full(self.n, -1)
        self._due = np.full(self.n, math.inf)
        self._began = np.zeros(self.n)
        self._m = np.zeros(self.n, dtype=np.int64)

    @property
    def state(self) -> Arrays:
        """The virtual clock, what each worker owes, and what compression left out."""
        owed = {name: getattr(self, f"_{name}").copy() for name in ("owes", "due", "began", "m")}
        return {"now": np.array(self._now), **owed, **remembered(self._by_owner)}

    @state.setter
    def state(self, arrays: Arrays) -> None:
        need(arrays, ("now", "owes", "due", "began", "m"), "the exchange on a virtual clock")
        self._now = float(arrays["now"])
        for name in ("owes", "due", "began", "m"):
            setattr(self, f"_{name}", arrays[name].copy())
        restore(self._by_owner, arrays)

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Do one iteration; the same contract as `gcmpi.cluster.mpi.MpiExchange.exchange`.

        An iteration that is given up leaves no trace: it may be done again.
        """
        before = self.state
        try:
            return self._exchange(t, m, theta, rule)
        except BaseException:
            self.state = before
            raise

    def _exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        n = self.n
        survivors = np.zeros(n, dtype=bool)
        arrival, compute, encode, delay = (np.full(n, np.nan) for _ in range(4))
        late: list[tuple[int, int, float]] = []
        start = self._now
        delays = self._delays(t)
        order = np.random.default_rng(t).permutation(n)
        idle = self._owes < 0
        self._dispatch(np.flatnonzero(idle), t, m, start, delays)
        sent = int(np.count_nonzero(idle))
        bytes_up = 0
        while True:
            left = rule.remaining(survivors, self._now - start)
            i = int(order[self._due[order].argmin()])
            if left <= 0 or (math.isinf(left) and math.isinf(self._due[i])):
                break
            if self._due[i] > self._now + left:
                self._now += left
                continue
            self._now = max(self._now, float(self._due[i]))
            iteration, began = int(self._owes[i]), float(self._began[i])
            self._owes[i], self._due[i] = -1, math.inf
            bytes_up += self._sent[int(self._m[i])].nbytes
            if iteration == t:
                message = self._workers[i].answer(t, m, theta)
                wire = self._wires[i][m]
                scale = wire.pack(message.y, t, i, self._sent[m])
                wire.unpack(self._sent[m], scale, t, i, self._Y[m][i])
                survivors[i] = True
                arrival[i] = self._now - start
                compute[i], encode[i], delay[i] = self._compute_seconds, 0.0, delays[i]
            else:
                late.append((iteration, i, self._now - began))
                self._dispatch(np.array([i]), t, m, start, delays)
                sent += 1
        return Replies(
            self._Y[m],
            survivors,
            arrival,
            compute,
            encode,
            delay,
            self._now - start,
            late,
            bytes_up,
            sent * self._parameter_bytes,
        )

    def _delays(self, t: int) -> AnyArray:
        """Return the delays of iteration t in seconds, infinite for silent workers, shape (n,)."""
        unit = self._compute_seconds if self._stragglers.unit == "compute" else 1.0
        return self._stragglers.delays(t) * unit

    def _dispatch(self, workers: AnyArray, t: int, m: int, began: float, delays: AnyArray) -> None:
        """Give theta to idle workers; silent ones stay idle until the next iteration."""
        answering = workers[np.isfinite(delays[workers])]
        self._owes[answering], self._began[answering], self._m[answering] = t, began, m
        self._due[answering] = self._now + self._compute_seconds + delays[answering]
