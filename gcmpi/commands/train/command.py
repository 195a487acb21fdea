"""Train with a gradient code: ``mpirun -n 32 python -m gcmpi.train``.

Rank 0 is the parameter server, every other rank a worker. Exit status: 0 valid, 1 crash, 2 wrong
usage, 3 the result is invalid, 75 interrupted after a checkpoint (go on with --resume).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gcmpi import environment
from gcmpi.commands import parsing
from gcmpi.commands.train import options
from gcmpi.experiments.interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcmpi.cluster.mpi import World
    from gcmpi.experiments.run import Run
    from gcmpi.training import Exchange

VALID, USAGE, INVALID, INTERRUPTED = 0, 2, 3, 75


def run_server(
    request: options.Request,
    run: Run,
    exchange: Exchange,
    surroundings: Mapping[str, str],
    interrupt: Interrupt,
) -> int:
    """Train, print and record; returns the exit status."""
    from gcmpi.commands.train import report
    from gcmpi.experiments import resume
    from gcmpi.experiments.launch import conduct

    notes = (*request.notes, *resume.notes(run, request.earlier))
    print(report.header(run, surroundings, notes), end="")
    progress = report.Progress(sys.stdout, request.experiment.iterations, run.shared.problem.metric)
    progress.begin()
    completed = conduct(
        run,
        exchange,
        surroundings,
        earlier=request.earlier,
        observer=progress.show,
        output=request.output,
        interrupt=interrupt,
    )
    path = str(completed.path)
    print(report.verdict(run, completed.columns, path, completed.status), flush=True)
    if completed.status == "interrupted":
        _complain(f"interrupted; go on with --resume {path}")
        return INTERRUPTED
    return VALID if completed.valid else INVALID


def serve_over_mpi(world: World, argv: list[str], interrupt: Interrupt) -> int:
    """Rank 0: read the options, hand out the parts, train."""
    from gcmpi.experiments.launch import lead, refuse
    from gcmpi.records import TakenError

    try:
        request = options.read_request(argv)
    except ValueError as error:
        refuse(world)
        return _refused(error, argv)
    try:
        run, exchange, places = lead(world, request.experiment, earlier=request.earlier)
    except (ValueError, MemoryError) as error:
        return _refused(error, argv)
    surroundings = environment.describe(places, world.library)
    try:
        status = run_server(request, run, exchange, surroundings, interrupt)
    except TakenError as error:  # another run has begun with the same output
        status = _refused(error, argv)
    if not exchange.close():
        _complain("some workers did not answer at the end: ending them")
        world.abort(status)
    return status


def work_over_mpi(world: World) -> int:
    """Every other rank: compute until the server says stop."""
    from gcmpi.experiments.worker import follow

    return VALID if follow(world) else USAGE


def run_without_mpi(argv: list[str]) -> int:
    """Answer --help and --print-config, or simulate."""
    if environment.launched()[0] != 0:
        return VALID
    try:
        words = options.parser().parse_args(argv)
        if words.print_config:
            print(options.read_experiment(words).toml, end="")
            return VALID
        from gcmpi.experiments import resume
        from gcmpi.experiments.building import assignment_matrix, build
        from gcmpi.records import TakenError

        request = options.read_request(argv)
        e, earlier = request.experiment, request.earlier
        run = build(e, assignment_matrix(e), earlier=earlier)
        share = request.share if earlier is None else earlier.shares
        exchange = run.simulate(share=share)
        if earlier is not None:
            resume.check(run, earlier, exchange)
    except (ValueError, MemoryError) as error:
        return _refused(error, argv)
    surroundings = environment.simulated(share=share)
    try:
        return run_server(request, run, exchange, surroundings, Interrupt())
    except TakenError as error:  # another run has begun with the same output
        return _refused(error, argv)


def _refused(error: Exception, argv: list[str]) -> int:
    """Say in one sentence, by one of the ranks, what is wrong; returns the exit status."""
    if environment.launched()[0] == 0:
        _complain(error, parsing.TRACEBACK in argv)
    return USAGE


def _complain(error: Exception | str, traceback: bool = False) -> None:
    parsing.complain(parsing.prog("train"), error, traceback)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    environment.one_blas_thread()
    options.announce(argv)
    if any(word in options.WITHOUT_MPI for word in argv):
        return run_without_mpi(argv)
    interrupt = Interrupt()  # before MPI starts
    from gcmpi.cluster.mpi import World

    world = World()
    try:
        if world.rank == 0:
            return serve_over_mpi(world, argv, interrupt)
        interrupt.leave_to_server()
        return work_over_mpi(world)
    except BaseException as error:
        world.abort_on(error)
        raise
