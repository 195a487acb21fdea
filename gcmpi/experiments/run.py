"""An experiment's parts, built and checked: what train runs over MPI or on a virtual clock."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from gcmpi import environment, seeds
from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.cluster.partial import PartialServer
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.virtual import (
    LastDelays,
    SimulatedExchange,
    partial_worker,
    whole_worker,
)
from gcmpi.cluster.waiting import StopRule
from gcmpi.cluster.whole import MakeServer, WholeServer
from gcmpi.cluster.wire import Wire
from gcmpi.codes.code import message_length
from gcmpi.codes.decoders import always, decoder, decoder_of, ridge_of
from gcmpi.codes.decoders.least_squares import Decoder
from gcmpi.codes.encodings.search import store
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.errors import alpha, decoder_alpha, unbiased
from gcmpi.codes.in_turn import InTurn
from gcmpi.codes.placement import consecutive, place
from gcmpi.codes.relabelling import ByOriginal
from gcmpi.experiments.experiment import Experiment
from gcmpi.formats import NOISE_POWER, storage
from gcmpi.importing import blame
from gcmpi.learning import Dataset, Problem, datasets, in_memory, load
from gcmpi.learning.batches import Sampling
from gcmpi.learning.gradients import Pool, check, gradients
from gcmpi.learning.optimizers import Optimizer
from gcmpi.learning.optimum import optimum
from gcmpi.learning.problem import complete
from gcmpi.records import RunFile
from gcmpi.records.figures import Figures, Target, figures
from gcmpi.registry import (
    ASSIGNMENTS,
    COMPRESSORS,
    DECODERS,
    ENCODINGS,
    OPTIMIZERS,
    PROBLEMS,
    REGISTRIES,
    STRAGGLERS,
    SWITCHES,
    WAITING,
)
from gcmpi.training import (
    Auditor,
    Exchange,
    Moving,
    Recipe,
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


def assignment_matrix(experiment: Experiment) -> AnyArray:
    """Return A (k, n) of an experiment: what the number of ranks has to fit.

    Raises
    ------
    ValueError
        If the assignment does not exist.
    """
    A: AnyArray = ASSIGNMENTS.build(experiment.specs["assignment"])
    return A


def build(
    experiment: Experiment,
    A: AnyArray,
    *,
    problem: Problem | None = None,
    dataset: Dataset | None = None,
    hosts: Sequence[str] = (),
    earlier: RunFile | None = None,
) -> Run:
    """Build the parts of an experiment whose assignment matrix is A.

    Parameters
    ----------
    hosts
        The host of each worker, for ``hosts = auto``; all are on one host unless given.
    earlier
        A run to go on with: workers hold what they held.
    problem, dataset
        Used in place of the experiment's, which are then neither built nor tried; a `problem` is
        complete, and pickled for the workers.

    Raises
    ------
    ValueError
        If parts do not fit together, or data cannot be read.
    """
    e = experiment
    k, n = A.shape
    stragglers = STRAGGLERS.build(e.specs["stragglers"], n=n, seed=e.seed)
    if e.m < 2 and _switched(e):
        raise ValueError(
            f"--switch {e.switch} chooses among m = 1 to --m: give --m 2 or more, not {e.m}"
        )
    if e.late == "remember" and not e.remembers:
        raise ValueError(
            "--late remember feeds late answers to the server's memory: give --memory 1"
        )
    if e.parts == "in-turn" and (not e.remembers or _switched(e)):
        instead = "--switch never" if e.remembers else "--memory 1"
        raise ValueError(
            "--parts in-turn leaves out all parts of a message but one, which the server must "
            f"remember, with one m: give {instead}"
        )
    columns = earlier.placement if earlier else _placement(e, A, stragglers.odds, hosts)
    ensembles = {m: _codes(e, A, m, stragglers, columns) for m in _every_m(e)}
    if len(ensembles) > 1 and ensembles[e.m].partial:
        raise ValueError(
            f"--switch {e.switch} is for codes that are fixed before an iteration: {e.encoding} is "
            "made of what workers have finished, with the m of --m"
        )
    if e.late == "remember" and ensembles[e.m].partial:
        raise ValueError(
            f"--late remember is for whole answers: of {e.encoding} the server asks for messages "
            "only while it waits for them; give --late drop"
        )
    WAITING.build(e.specs["wait"]).begin(ensembles[e.m].at(0))
    OPTIMIZERS.build(e.specs["optimizer"])
    if dataset is None:
        dataset = load(e.specs["dataset"], seeds.generator(e.seed, seeds.DATA))
    slices = datasets.partition(len(dataset.X), k)
    sampling = Sampling(e.seed, e.batch)
    sampling.check([rows.stop - rows.start for rows in slices])
    recipes = _recipes(e, dataset, n)
    if problem is None:
        problem = complete(PROBLEMS.build(e.specs["problem"], **_of_rows(e, dataset)), e.dtype)
        with blame(f"problem {e.problem}"):
            for row in _telling_rows(dataset):
                check(problem, dataset.X[row], dataset.y[row])
    else:
        recipes.pop("problem", None)
    if e.m > problem.d:
        raise ValueError(
            f"--m {e.m} is more than the d={problem.d} parameters: choose m <= {problem.d}"
        )
    compression, supplied = e.specs["compression"], {"dtype": e.wire, "seed": e.seed}
    wires: dict[int, Wire] = {
        m: COMPRESSORS.build(compression, length=message_length(problem.d, m), **supplied)
        for m in ensembles
    }
    if wires[e.m].remembers and (changes := _what_changes(e, ensembles)):
        raise ValueError(
            f"--compression {e.compression} adds what it left out to the next message, which means "
            f"nothing when the code changes in every iteration, as with {changes}: give "
            "feedback=false, or a code that stays the same"
        )
    schemes = {
        m: _scheme(e, codes, wires[m], switched=len(ensembles) > 1)
        for m, codes in ensembles.items()
    }
    used = ("encoding", "problem", "stragglers", "compression")
    own = e.own
    contents = [(name, getattr(e, name), own[name].sha256) for name in used if name in own]
    run = Run(e, Shared(problem, schemes, stragglers, sampling, recipes, contents), dataset)
    _ = run.switch, run.target  # refuse impossible options
    if e.remembers:
        _check_memory(run)
    _try_out(run)
    return run


def _check_memory(run: Run) -> None:
    """Refuse a memory that does not fit in that of this machine."""
    problem, numbers = run.shared.problem, run.layout.numbers
    needed, free = numbers * problem.dtype.itemsize, environment.free_memory()
    if needed > free:
        raise ValueError(
            f"--memory {run.experiment.memory} keeps {numbers:,} numbers, {needed / 1e6:,.0f} MB, "
            f"but {free / 1e6:,.0f} MB are free: choose a code with fewer subsets, or one that "
            "stays the same"
        )


def _telling_rows(dataset: Dataset) -> list[slice]:
    """Return the first row, and one with the last label, which a model must know too."""
    labels = in_memory(dataset.y) if dataset.classes else np.zeros(1)
    last = int(labels.argmax())
    return [slice(0, 1)] + ([slice(last, last + 1)] if last else [])


def _of_rows(e: Experiment, dataset: Dataset) -> dict[str, Any]:
    """Return what a problem is built with."""
    return {
        "features": dataset.features,
        "shape": dataset.shape,
        "classes": dataset.classes,
        "dtype": e.dtype,
    }


def _recipes(e: Experiment, dataset: Dataset, n: int) -> dict[str, Recipe]:
    """Return how each rank makes the user's own parts."""
    supplied = {
        "problem": _of_rows(e, dataset),
        "stragglers": {"n": n, "seed": e.seed},
        "compression": {"dtype": e.wire, "seed": e.seed},
    }
    own = e.own
    return {
        name: Recipe(name, getattr(e, name), supplied[name]) for name in supplied if name in own
    }


def _try_out(run: Run) -> None:
    """Use each of the user's own parts once, so that what fails does so before any training."""
    e, own, shared = run.experiment, run.experiment.own, run.shared

    def trying(setting: str) -> AbstractContextManager[None]:
        return blame(f"{REGISTRIES[setting].kind} {getattr(e, setting)}")

    if "stragglers" in own:
        with trying("stragglers"):
            shared.stragglers.delays(0)
    if "wait" in own:
        with trying("wait"):
            rule, code = run.rule, shared.codes.at(0)
            rule.begin(code)
            nobody, elapsed = np.zeros(code.n, dtype=np.bool_), 0.0
            while 0 < (left := rule.remaining(nobody, elapsed)) < math.inf:
                elapsed += left
    if "optimizer" in own:
        with trying("optimizer"):
            theta = run.theta
            run.optimizer.step(theta, np.zeros_like(theta), 0)
    if "compression" in own:
        with trying("compression"):
            wire = copy.deepcopy(shared.wire)
            sent, out = np.zeros(wire.elements, storage(wire.dtype)), np.zeros(wire.length)
            wire.unpack(sent, wire.pack(out, 0, 0, sent), 0, 0, out)


def _every_m(e: Experiment) -> range:
    """Return every m that the run may use."""
    return range(1 if _switched(e) else e.m, e.m + 1)


def _switched(e: Experiment) -> bool:
    """Say whether m may change from iteration to iteration."""
    return SWITCHES[e.specs["switch"].name].promises.changes


def _placement(
    e: Experiment, A: AnyArray, odds: Array | None, hosts: Sequence[str]
) -> IntArray | None:
    """Return the column of A that each worker holds, or None where it is its own."""
    n = A.shape[1]
    if e.hosts == "off":
        return None
    if "+" in e.hosts:
        return np.array(e.hosts.split("+"), dtype=np.intp)
    if e.hosts == "odds":
        if odds is None:
            raise ValueError(
                "--hosts odds needs stragglers whose probabilities are known, as bernoulli or "
                f"markov with rates=, not --stragglers {e.stragglers}"
            )
        return place(A, e.m, odds=odds)
    if e.hosts == "auto":
        names = list(hosts) or ["here"] * n
        on = np.array([names.index(name) for name in names])
    else:
        on = consecutive(n, int(e.hosts))
    return place(A, e.m, hosts=on, odds=odds)


def _codes(
    e: Experiment,
    A: AnyArray,
    m: int,
    stragglers: StragglerModel,
    placement: IntArray | None,
) -> Ensemble:
    """Return the codes of one m, if there are any and the decoder serves them."""
    try:
        codes = (InTurn if e.parts == "in-turn" else Ensemble)(
            A,
            m,
            e.specs["encoding"],
            stragglers.odds,
            e.seed,
            relabel=e.relabel,
            assignment=e.specs["assignment"],
            placement=placement,
        )
        everybody = np.ones(A.shape[1], dtype=np.bool_)
        if DECODERS[e.specs["decoder"].name].own:
            with blame(f"decoder {e.decoder}"):
                _decoder(e, codes)(codes.at(0), everybody)
                _decoder(e, codes)(codes.at(0), ~everybody)
        else:
            _decoder(e, codes)(codes.at(0), everybody)
    except ValueError as error:
        if m == e.m:
            raise
        raise ValueError(f"--switch {e.switch} needs a code for m={m} too: {error}") from error
    return codes


def _what_changes(e: Experiment, ensembles: Mapping[int, Ensemble]) -> str:
    """Return the setting that gives every iteration another code; empty if none does."""
    if len(ensembles) > 1:
        return f"--switch {e.switch}"
    if e.parts != "all":
        return f"--parts {e.parts}"
    if ensembles[e.m].changes:
        return f"--encoding {e.encoding}"
    return "--relabel" if e.relabel else ""


def _decoder(e: Experiment, codes: Ensemble) -> Decoder:
    """Return what decodes: made once for a code that stays the same, or for any."""
    spec = e.specs["decoder"]
    if codes.original is None:
        return decoder(spec, codes.n, e.wire)
    decode = decoder_of(codes.original, spec, e.wire)
    return ByOriginal(decode) if codes.relabel else always(decode)


def _scheme(e: Experiment, codes: Ensemble, wire: Wire, *, switched: bool) -> Scheme:
    """Return what belongs to one m; its mean loss only if m may change."""
    plain = _shrinkage(codes, 0.0) if switched else None
    loss = None if plain is None else 1 - plain
    return Scheme(codes, wire, _decoder(e, codes), _alpha(e, codes, plain), loss)


def _shrinkage(codes: Ensemble, eps: float) -> Array:
    """Return alpha, (n + 1,): without a ridge it is 1 - E Err_S / (m k)."""
    rng = seeds.generator(codes.seed, seeds.MONTE_CARLO)
    fixed = codes.fixed
    return alpha(codes.draw if fixed is None else lambda _: fixed, codes.m, rng, eps=eps)


def _alpha(e: Experiment, codes: Ensemble, plain: Array | None) -> Array:
    """Measure alpha for every number of stragglers: E[B_S R] = alpha_s F (paper, section 5).

    `plain` is alpha of plain least squares, where it is known.
    """
    eps = ridge_of(e.specs["decoder"], e.wire)
    own = DECODERS[e.specs["decoder"].name]
    promise = own if eps is None else ENCODINGS[codes.encoding.name]
    promised = promise.promises.unbiased or codes.relabel
    if eps is not None and codes.fixed is not None:
        promised = promised or unbiased(codes.at(0))  # a symmetry of A and B together
    if e.rescale == "none" or e.remembers or not promised:
        return np.ones(codes.A.shape[1] + 1)
    if eps is not None:
        values = plain if plain is not None and not eps else _shrinkage(codes, eps)
    else:
        rng, code = seeds.generator(e.seed, seeds.MONTE_CARLO), codes.at(0)
        decode = _decoder(e, codes)
        if codes.changes:
            decode = always(decoder_of(code, e.specs["decoder"], e.wire))
        values = decoder_alpha(code, decode, rng, sets=50)
    # with everybody late the decoded gradient is zero, whatever it is divided by
    return np.where(values > 1e-9, values, 1.0)
