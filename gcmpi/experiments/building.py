"""An experiment's parts, made and checked."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gcmpi import environment, seeds
from gcmpi.arrays import AnyArray
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run
from gcmpi.experiments.schemes import every_ensemble, every_scheme, placement, switches
from gcmpi.formats import storage
from gcmpi.importing import blame
from gcmpi.learning import Dataset, Problem, datasets, in_memory, load
from gcmpi.learning.batches import Sampling
from gcmpi.learning.gradients import check
from gcmpi.learning.problem import complete
from gcmpi.records import RunFile
from gcmpi.registry import (
    ASSIGNMENTS,
    OPTIMIZERS,
    PROBLEMS,
    REGISTRIES,
    STRAGGLERS,
    WAITING,
)
from gcmpi.training import (
    Recipe,
    Shared,
)


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
    e, n = experiment, A.shape[1]
    _check_settings(e)
    stragglers = STRAGGLERS.build(e.specs["stragglers"], n=n, seed=e.seed)
    columns = earlier.placement if earlier else placement(e, A, stragglers.odds, hosts)
    ensembles = every_ensemble(e, A, stragglers.odds, columns)
    WAITING.build(e.specs["wait"]).begin(ensembles[e.m].at(0))
    OPTIMIZERS.build(e.specs["optimizer"])
    if dataset is None:
        dataset = load(e.specs["dataset"], seeds.generator(e.seed, seeds.DATA))
    sampling = _sampling(e, dataset, len(A))
    recipes = _recipes(e, dataset, n)
    if problem is None:
        problem = _problem(e, dataset)
    else:
        recipes.pop("problem", None)
    schemes = every_scheme(e, ensembles, problem.d)
    shared = Shared(problem, schemes, stragglers, sampling, recipes, _contents(e))
    run = Run(e, shared, dataset)
    _ = run.switch, run.target  # refuse impossible options
    if e.remembers:
        _check_memory(run)
    _try_out(run)
    return run


def _check_settings(e: Experiment) -> None:
    """Refuse settings that do not go together, whatever the parts are."""
    switched = switches(e)
    if e.m < 2 and switched:
        raise ValueError(
            f"--switch {e.switch} chooses among m = 1 to --m: give --m 2 or more, not {e.m}"
        )
    if e.late == "remember" and not e.remembers:
        raise ValueError(
            "--late remember feeds late answers to the server's memory: give --memory 1"
        )
    if e.parts == "in-turn" and (not e.remembers or switched):
        instead = "--switch never" if e.remembers else "--memory 1"
        raise ValueError(
            "--parts in-turn leaves out all parts of a message but one, which the server must "
            f"remember, with one m: give {instead}"
        )


def _sampling(e: Experiment, dataset: Dataset, k: int) -> Sampling:
    """Return what draws mini-batches of the rows of k subsets."""
    sampling = Sampling(e.seed, e.batch)
    sampling.check([rows.stop - rows.start for rows in datasets.partition(len(dataset.X), k)])
    return sampling


def _problem(e: Experiment, dataset: Dataset) -> Problem:
    """Return the problem for the rows of a data set, tried on some of them."""
    problem = complete(PROBLEMS.build(e.specs["problem"], **_of_rows(e, dataset)), e.dtype)
    with blame(f"problem {e.problem}"):
        for row in _telling_rows(dataset):
            check(problem, dataset.X[row], dataset.y[row])
    return problem


def _contents(e: Experiment) -> list[tuple[str, str, str]]:
    """Return setting, text and SHA-256 of the user's own parts that workers use."""
    used = ("encoding", "problem", "stragglers", "compression")
    return [(name, getattr(e, name), e.own[name].sha256) for name in used if name in e.own]


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
