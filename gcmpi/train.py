"""Train with a gradient code: ``mpirun -n 32 python -m gcmpi.train``.

Rank 0 is the parameter server, every other rank a worker. Exit status: 0 valid, 1 crash, 2 wrong
usage, 3 the result is invalid, 75 interrupted after a checkpoint (go on with --resume).
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from gcmpi import environment, options

if TYPE_CHECKING:
    from gcmpi.code import BoolArray
    from gcmpi.comm.mpi import World
    from gcmpi.run import Run
    from gcmpi.training import Exchange
    from gcmpi.waiting import StopRule

VALID, USAGE, INVALID, INTERRUPTED = 0, 2, 3, 75
CHECKPOINT_SECONDS = 60.0


class Interrupt:
    """Remembers that somebody wants the run to end: the server stops after the iteration it is in.

    SIGUSR1 is for batch scripts; SIGINT is Ctrl-C under MPICH, SIGTERM what Open MPI's launcher
    makes of it. Launchers pass them on to every rank; rank 0 alone decides. A second SIGINT ends
    it at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.asked = False
        for number in self.SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    @staticmethod
    def leave_to_server() -> None:
        """Ignore the signals in this rank from now on."""
        for number in Interrupt.SIGNALS:
            signal.signal(number, signal.SIG_IGN)


class Interrupted(Exception):
    """The run is to end, in the middle of waiting."""


class WatchedRule:
    """A stop rule that gives up the iteration, however long its wait, when the run is to end.

    Nothing of an abandoned iteration is kept: a resumed run does it again from its start.
    """

    def __init__(self, rule: StopRule, interrupt: Interrupt) -> None:
        self._rule, self._interrupt = rule, interrupt
        self.begin, self.observe = rule.begin, rule.observe

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return what the rule says; raise Interrupted when somebody wants the run to end."""
        if self._interrupt.asked:
            raise Interrupted
        return self._rule.remaining(answered, elapsed)


def run_server(
    request: options.Request,
    run: Run,
    exchange: Exchange,
    places: list[environment.Place],
    library: str,
    interrupt: Interrupt,
) -> int:
    """Train, print and record; returns the exit status."""
    from gcmpi import recording, report
    from gcmpi.training import Iteration, State, serve

    e, earlier = request.experiment, request.earlier
    surroundings = environment.describe(places, library)
    description = recording.Description(
        e.toml, e.digest, e.assignment, e.encoding, run.shared.codes, run.alpha, surroundings
    )
    if earlier is not None:
        description = dataclasses.replace(description, created=earlier.created)
    record = recording.Record(run.A.shape[1], None if earlier is None else earlier.columns)
    optimizer, switch = run.optimizer, run.switch
    state = State(0, run.theta)
    if earlier is not None:
        for answered in earlier.columns["survivors"]:
            switch.observe(int((answered == 0).sum()))
        state = earlier.state
        optimizer.state = dict(earlier.optimizer_state)
    print(report.header(run, surroundings), end="")
    progress = report.Progress(sys.stdout, e.iterations)
    progress.begin()
    saved = time.monotonic()

    def save(status: str) -> None:
        valid = not report.problems(record.columns)
        request.output.parent.mkdir(parents=True, exist_ok=True)
        recording.write(
            request.output, description, record, state, optimizer.state, status=status, valid=valid
        )

    def keep(row: Iteration, new: State) -> bool:
        nonlocal saved, state
        state = new
        record.append(row)
        reached = bool(e.target_accuracy) and row.accuracy >= e.target_accuracy
        over = interrupt.asked or reached or row.iteration == e.iterations - 1
        progress.show(row, last=over)
        if not over and time.monotonic() - saved > CHECKPOINT_SECONDS:
            save("running")
            saved = time.monotonic()
        return over

    try:
        serve(
            exchange,
            state,
            iterations=e.iterations,
            warmup=e.warmup,
            family=run.family,
            switch=switch,
            rule=WatchedRule(run.rule, interrupt),
            optimizer=optimizer,
            auditor=run.auditor,
            record=keep,
        )
    except Interrupted:
        pass  # saved below, as after any other interruption
    except BaseException:
        save("failed")
        raise
    reached_end = state.t == e.iterations or not interrupt.asked
    status = "complete" if reached_end else "interrupted"
    save(status)
    print(report.verdict(run, record.columns, str(request.output), status), flush=True)
    if not reached_end:
        report.complain(f"interrupted; go on with --resume {request.output}")
        return INTERRUPTED
    return INVALID if report.problems(record.columns) else VALID


def reason(error: Exception) -> str:
    """Return what to tell the user."""
    if isinstance(error, MemoryError):
        return f"this experiment does not fit into memory, choose smaller numbers: {error}"
    return str(error)


def serve_over_mpi(world: World, argv: list[str], interrupt: Interrupt) -> int:
    """Rank 0: read the options, hand out the parts, train."""
    from gcmpi import report
    from gcmpi.comm.mpi import MpiExchange
    from gcmpi.comm.reports import MpiReportExchange
    from gcmpi.run import assignment_matrix, build

    try:
        request = options.read_request(argv)
        A = assignment_matrix(request.experiment)
        options.check_ranks(request.experiment, A.shape[1], world.size)
        run = build(request.experiment, A)
        shared = run.shared
        parts = (world, shared.problem.d, shared.problem.dtype, shared.wires)
        exchange = (
            MpiReportExchange(*parts, shared.codes)
            if shared.codes.reported
            else MpiExchange(*parts)
        )
    except (ValueError, MemoryError) as error:
        if environment.launched()[0] == 0:
            report.complain(reason(error))
        world.hand_out([None] * (world.size - 1))
        return USAGE
    world.hand_out((shared, rows) for rows in run.shards())
    places = [environment.place(), *(world.receive(rank) for rank in range(1, world.size))]
    status = run_server(request, run, exchange, places, world.library, interrupt)
    if not exchange.close():
        report.complain("some workers did not answer at the end: ending them")
        world.abort(status)
    return status


def work_over_mpi(world: World) -> int:
    """Every other rank: compute until the server says stop."""
    from gcmpi import reporting, training
    from gcmpi.comm.mpi import MpiLink
    from gcmpi.comm.reports import MpiReportLink

    parts: tuple[training.Shared, training.Shard] | None = world.receive()
    if parts is None:
        return USAGE
    shared, rows = parts
    i, problem, codes = world.rank - 1, shared.problem, shared.codes
    ends = (world, problem.d, problem.dtype, shared.wires)
    if codes.reported:
        part_worker = reporting.PartWorker(i, problem, rows)
        link = MpiReportLink(*ends, part_worker.load)
        work = partial(reporting.work, link, part_worker)
    else:
        worker = training.Worker(i, problem, rows, shared.family)
        work = partial(training.work, MpiLink(*ends), worker)
    world.report(environment.place())  # ready: the server starts the clock when all are
    work(shared.stragglers)
    return VALID


def run_without_mpi(argv: list[str]) -> int:
    """Answer --help and --print-config, or simulate."""
    from gcmpi import report

    if environment.launched()[0] != 0:
        return VALID
    try:
        words = options.parser().parse_args(argv)
        if words.print_config:
            print(options.read_experiment(words).toml, end="")
            return VALID
        from gcmpi.run import assignment_matrix, build

        request = options.read_request(argv)
        run = build(request.experiment, assignment_matrix(request.experiment))
        exchange = run.simulate()
    except (ValueError, MemoryError) as error:
        report.complain(reason(error))
        return USAGE
    return run_server(
        request, run, exchange, [environment.place()], environment.SIMULATED, Interrupt()
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    environment.one_blas_thread()
    options.announce(argv)
    if any(word in options.WITHOUT_MPI for word in argv):
        return run_without_mpi(argv)
    interrupt = Interrupt()  # before MPI starts
    from gcmpi.comm.mpi import World

    world = World()
    try:
        if world.rank == 0:
            return serve_over_mpi(world, argv, interrupt)
        interrupt.leave_to_server()
        return work_over_mpi(world)
    except BaseException as error:
        world.abort_on(error)
        raise


if __name__ == "__main__":
    sys.exit(main())
