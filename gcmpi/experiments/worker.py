"""What every rank but the first does in a run over MPI; it imports numpy and mpi4py only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from gcmpi import environment, training
from gcmpi.importing import blame
from gcmpi.training import partial

if TYPE_CHECKING:
    from gcmpi.cluster.mpi import World
    from gcmpi.experiments.experiment import Experiment


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
        parts = receive_parts(world, e)
        if parts is None:
            return False
        shared, rows = parts
        work = _worker(world, shared, rows)
    except (ValueError, ImportError) as error:
        decline(world, str(error))
        return False
    if not ready(world):
        return False
    work()
    return True


def receive_parts(
    world: World, e: Experiment | None = None
) -> tuple[training.Shared, training.Shard] | None:
    """Wait for this worker's parts of the run; None if there is no run.

    Raises
    ------
    ValueError, ImportError
        If this rank cannot make its parts, or its experiment is another one than the server's: to
        be told to the server by `decline`.
    """
    parts = world.receive()
    if parts is None:
        return None
    text, shared, rows = parts
    _same(e, text)
    return shared, rows


def decline(world: World, why: str) -> None:
    """Tell the server why this worker cannot take part; the server refuses the run."""
    world.send_up(why)
    world.receive()


def ready(world: World) -> bool:
    """Tell the server that this worker is ready, and wait for all; False if one has declined."""
    world.send_up(environment.place())
    return bool(world.receive())


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


def _worker(world: World, shared: training.Shared, rows: training.Shard) -> Callable[[], None]:
    """Return what a worker does in the run, after a rehearsal."""
    from gcmpi.cluster.mpi import MpiLink

    i, problem, codes = world.rank - 1, shared.problem, shared.codes
    ends = (world, problem.d, problem.dtype, shared.wires)
    worker: training.Worker | partial.PartWorker
    if codes.partial:
        worker = partial.PartWorker(i, problem, rows, codes.m, shared.sampling)
    else:
        worker = training.Worker(i, problem, rows, shared.schemes, shared.sampling)
    own = shared.recipes.get("problem")
    with blame(f"problem {own.text}") if own else contextlib.nullcontext():
        worker.rehearse()

    def work() -> None:
        if isinstance(worker, partial.PartWorker):
            link = MpiLink(*ends, room=worker.m * worker.load)
            partial.work(link, worker, shared.stragglers)
        else:
            link = MpiLink(*ends)
            training.work(link, worker, shared.stragglers)
        link.close()

    return work
