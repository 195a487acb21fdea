"""What every rank but the first does in a run over MPI; it imports numpy and mpi4py only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gcmpi import environment, reporting, training
from gcmpi.importing import blame

if TYPE_CHECKING:
    from gcmpi.comm.mpi import World
    from gcmpi.experiment import Experiment
    from gcmpi.stragglers import StragglerModel


def follow(world: World, e: Experiment | None = None) -> bool:
    """Every other rank: work until the server says that the run is over.

    Parameters
    ----------
    e
        The experiment that this rank's script has made; None where the server's counts.

    Returns
    -------
    ran
        False if there was no run.
    """
    try:
        parts = world.receive()
        if parts is None:
            return False
        text, shared, rows = parts
        _same(e, text)
        work = _worker(world, shared, rows)
    except (ValueError, ImportError) as error:
        world.report(str(error))
        world.receive()
        return False
    world.report(environment.place())  # ready: the server starts the clock when all are
    if not world.receive():
        return False
    work(shared.stragglers)
    return True


def _same(e: Experiment | None, text: str) -> None:
    """Refuse an experiment that is another one than the server's."""
    if e is None or e.toml == text:
        return
    mine, servers = e.toml.splitlines(), text.splitlines()
    here, there = next(pair for pair in zip(mine, servers, strict=True) if pair[0] != pair[1])
    raise ValueError(
        f"this rank has another experiment than rank 0 ({here} against {there}): every rank must "
        "run the same script with the same arguments"
    )


def _worker(
    world: World, shared: training.Shared, rows: training.Shard
) -> Callable[[StragglerModel], None]:
    """Return what a worker does in the run, after a rehearsal."""
    from gcmpi.comm.mpi import MpiLink
    from gcmpi.comm.reports import MpiReportLink

    i, problem, codes = world.rank - 1, shared.problem, shared.codes
    ends = (world, problem.d, problem.dtype, shared.wires)
    name = shared.recipes["problem"].text if "problem" in shared.recipes else "of this package"
    work: Callable[[StragglerModel], None]
    if codes.reported:
        part_worker = reporting.PartWorker(i, problem, rows, codes.m, shared.sampling)
        rehearse = part_worker.rehearse
        work = partial(reporting.work, MpiReportLink(*ends, part_worker.load), part_worker)
    else:
        worker = training.Worker(i, problem, rows, shared.schemes, shared.sampling)
        rehearse = worker.rehearse
        work = partial(training.work, MpiLink(*ends), worker)
    with blame(f"problem {name}"):
        rehearse()
    return work
