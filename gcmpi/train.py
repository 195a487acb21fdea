"""Train with a gradient code: ``mpirun -n 32 python -m gcmpi.train``.

Rank 0 is the parameter server, every other rank a worker. Exit status: 0 valid, 1 crash, 2 wrong
usage, 3 the result is invalid, 75 interrupted after a checkpoint (go on with --resume).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gcmpi import environment

if TYPE_CHECKING:
    from gcmpi.comm.mpi import World
    from gcmpi.experiment import Experiment, Run
    from gcmpi.recording import RunFile
    from gcmpi.training import Exchange

VALID, USAGE, INVALID, INTERRUPTED = 0, 2, 3, 75
CHECKPOINT_SECONDS = 60.0
WITHOUT_MPI = ("-h", "--help", "--print-config", "--simulate")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting: one rank speaks for all."""
        raise ValueError(f"{message} (--help lists the options)")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = _Parser(
        prog="python -m gcmpi.train",
        description="Train with a communication-efficient gradient code over MPI: rank 0 is the "
        "parameter server, ranks 1 to n are workers.",
        epilog="A part is name:key=value,key=value, e.g. --assignment projective-plane:order=5 "
        "--encoding random-diagonal:epsilon=0.1. python -m gcmpi.codes list shows the codes. "
        "--print-config shows the whole experiment, with the default of every setting.",
        allow_abbrev=False,
    )
    add = p.add_argument
    add("--config", metavar="FILE", help="a TOML experiment, or a run file (.h5) to run again")
    add("--assignment", metavar="PART", help="which worker holds which subsets")
    add("--encoding", metavar="PART", help="what workers send")
    add("--m", metavar="M", help="communication reduction: messages of d/m numbers")
    add("--problem", metavar="PART", help="mlp, softmax, logistic or least-squares")
    add("--dataset", metavar="PART", help="mnist-10k, mixture, or the path of an .npz or IDX file")
    add("--dtype", metavar="TYPE", help="parameters and gradients: float32 or float64")
    add("--optimizer", metavar="PART", help="sgd, momentum or adam, with rate=")
    add("--iterations", metavar="T", help="how many")
    add("--stragglers", metavar="PART", help="how late workers are, e.g. bernoulli:q=0.25")
    add(
        "--wait",
        metavar="PART",
        help="deadline:SECONDS, deadline:auto, fastest:COUNT, all or decodable:TOLERANCE",
    )
    add("--wire", metavar="TYPE", help="coded vectors: float16, bfloat16, float32 or float64")
    add("--compression", metavar="PART", help="none, rand-k:fraction= or top-k:fraction=")
    add("--seed", metavar="SEED", help="of data split, parameters, codes and stragglers")
    add("--rescale", metavar="HOW", help="alpha (divide by the mean shrinkage) or none")
    add("--audit-every", metavar="T", help="iterations between audits (untimed)")
    add("--target-accuracy", metavar="A", help="stop when an audit finds this test accuracy")
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="changes",
        help="any setting, or one option of a part: encoding.epsilon=0.1; may be repeated",
    )
    add("--smoke", action="store_true", help="five iterations only, to see that all works")
    add("--output", metavar="FILE", help="run file to write; runs/... by default")
    add("--overwrite", action="store_true", help="replace an --output that exists")
    add("--resume", metavar="RUN", help="go on with an interrupted run, in its file")
    add("--print-config", action="store_true", help="print the experiment as TOML and exit")
    add(
        "--simulate",
        action="store_true",
        help="no MPI: all workers in this process, on a virtual clock",
    )
    return p


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    experiment: Experiment
    output: Path
    earlier: RunFile | None


SETTINGS = (
    "assignment", "encoding", "m", "problem", "dataset", "dtype", "optimizer", "iterations",
    "stragglers", "wait", "wire", "compression", "seed", "rescale", "audit_every",
    "target_accuracy",
)  # fmt: skip


def read_experiment(options: argparse.Namespace) -> Experiment:
    """Return the experiment: defaults, then --config, then flags, then --set.

    Raises
    ------
    ValueError
        If a file cannot be read or a setting is wrong.
    """
    from gcmpi import recording
    from gcmpi.experiment import Experiment

    experiment = Experiment()
    source = options.config or options.resume
    if source and Path(source).suffix == ".toml":
        try:
            text = Path(source).read_text(encoding="utf-8")
            experiment = Experiment.from_toml(text)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot use --config {source}: {error}") from error
    elif source:
        experiment = Experiment.from_toml(recording.read(Path(source)).experiment)
    changes: dict[str, Any] = {
        name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None
    }
    for item in options.changes:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set needs key=value, not {item!r}")
        changes[key] = value
    if options.resume and set(changes) - {"iterations"}:
        raise ValueError("--resume goes on with the same experiment: only --iterations may change")
    if options.smoke:
        changes |= {"iterations": 5, "audit_every": 2, "warmup": 1}
    return experiment.change(changes) if changes else experiment


def read_request(argv: list[str]) -> Request:
    """Return what the command line asks for, checked as far as one can without building it.

    Raises
    ------
    ValueError
        If it cannot be done; the message is one sentence for the user.
    """
    from gcmpi import recording

    options = parser().parse_args(argv)
    if options.resume and (options.output or options.config):
        raise ValueError("--resume RUN goes on in RUN: leave out --output and --config")
    experiment = read_experiment(options)
    if options.resume:
        path = Path(options.resume)
        earlier = recording.read(path)
        if earlier.state.t >= experiment.iterations:
            raise ValueError(
                f"{path} already has all its {earlier.state.t} iterations: give --iterations "
                f"above {earlier.state.t} to go on"
            )
        return Request(experiment, path, earlier)
    if options.output:
        path = Path(options.output)
        if path.exists() and not options.overwrite:
            raise ValueError(
                f"--output {path} exists: give another name, or --overwrite to replace it"
            )
    else:
        path = _free(Path("runs") / f"{experiment.label}-{experiment.digest}-s{experiment.seed}.h5")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _probe(path)
    except OSError as error:
        raise ValueError(f"cannot write --output {path}: {error.strerror or error}") from error
    return Request(experiment, path, None)


def _probe(path: Path) -> None:
    """Find out before the run whether its file can be written."""
    if path.is_dir():
        raise IsADirectoryError("it is a directory")
    probe = path.with_name(path.name + ".tmp")
    probe.touch()
    probe.unlink()


def _free(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that does not exist."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


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


def check_ranks(experiment: Experiment, n: int, size: int) -> None:
    """Refuse a number of ranks that does not fit the assignment.

    Raises
    ------
    ValueError
        With what to type instead.
    """
    promised = environment.launched()[1]
    if size == 1 and promised > 1:
        raise ValueError(
            f"{promised} ranks were launched, but each is alone in its MPI world: the launcher "
            "belongs to another MPI library than mpi4py uses. Start with the mpirun of that "
            "library (in the same virtual environment), or under SLURM with srun --mpi=pmi2 "
            "(MPICH) or --mpi=pmix (Open MPI)"
        )
    if size == n + 1:
        return
    raise ValueError(
        f"{experiment.assignment} needs {n + 1} ranks (1 server + {n} workers), not {size}: "
        f"mpirun -n {n + 1} python -m gcmpi.train{_alternative(experiment, size)}"
    )


def _alternative(experiment: Experiment, size: int) -> str:
    """Suggest an assignment for the ranks there are: of the same family, if one is near."""
    from gcmpi import assignments

    if size < 2:
        return ""
    found = assignments.find(size - 1, m=experiment.m)
    family = experiment.assignment.partition(":")[0]
    fitting = [entry for entry in (*found.exact, *found.nearest) if entry.n < size]
    same = [entry for entry in fitting if entry.spec.partition(":")[0] == family]
    chosen = (same or list(found.exact))[:1]
    return "".join(f", or --assignment {entry.spec} for {entry.n + 1}" for entry in chosen)


def run_server(
    request: Request,
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
    record = recording.Record(run.A.shape[1], None if earlier is None else earlier.columns)
    optimizer = run.optimizer
    state = State(0, run.theta)
    if earlier is not None:
        state = earlier.state
        optimizer.state = dict(earlier.optimizer_state)
    print(report.header(run, surroundings), end="")
    progress = report.Progress(sys.stdout)
    progress.begin()
    saved = time.monotonic()

    def save(status: str) -> None:
        valid = not report.problems(record.columns)
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
            codes=run.shared.codes,
            decoder=run.decoder,
            rule=run.rule,
            optimizer=optimizer,
            alpha=run.alpha,
            auditor=run.auditor,
            record=keep,
        )
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


def serve_over_mpi(world: World, argv: list[str], interrupt: Interrupt) -> int:
    """Rank 0: read the options, hand out the parts, train."""
    from gcmpi import report
    from gcmpi.comm.mpi import MpiExchange
    from gcmpi.experiment import assignment_matrix, build

    try:
        request = read_request(argv)
        A = assignment_matrix(request.experiment)
        check_ranks(request.experiment, A.shape[1], world.size)
        run = build(request.experiment, A)
    except ValueError as error:
        if environment.launched()[0] == 0:
            report.complain(str(error))
        world.hand_out([None] * (world.size - 1))
        return USAGE
    shared = run.shared
    world.hand_out((shared, rows) for rows in run.shards())
    exchange = MpiExchange(world, shared.problem.d, shared.problem.dtype, shared.wire)
    places = [environment.place(), *(world.receive(rank) for rank in range(1, world.size))]
    status = run_server(request, run, exchange, places, world.library, interrupt)
    if not exchange.close():
        report.complain("some workers did not answer at the end: ending them")
        world.abort(status)
    return status


def work_over_mpi(world: World) -> int:
    """Every other rank: compute until the server says stop."""
    from gcmpi.comm.mpi import MpiLink
    from gcmpi.training import Shard, Shared, Worker, work

    parts: tuple[Shared, Shard] | None = world.receive()
    if parts is None:
        return USAGE
    shared, rows = parts
    worker = Worker(world.rank - 1, shared.problem, rows, shared.codes)
    link = MpiLink(world, shared.problem.d, shared.problem.dtype, shared.wire)
    world.report(environment.place())
    work(link, worker, shared.stragglers)
    return VALID


def run_without_mpi(argv: list[str]) -> int:
    """Answer --help and --print-config, or simulate."""
    from gcmpi import report

    if environment.launched()[0] != 0:
        return VALID
    try:
        options = parser().parse_args(argv)
        if options.print_config:
            print(read_experiment(options).toml, end="")
            return VALID
        from gcmpi.experiment import assignment_matrix, build

        request = read_request(argv)
        run = build(request.experiment, assignment_matrix(request.experiment))
        return run_server(
            request, run, run.simulate(), [environment.place()], "simulated", Interrupt()
        )
    except ValueError as error:
        report.complain(str(error))
        return USAGE


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    environment.one_blas_thread()
    if any(word in WITHOUT_MPI for word in argv):
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
