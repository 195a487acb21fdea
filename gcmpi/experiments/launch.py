"""Run an experiment: over MPI, or in this process on a virtual clock.

`launch` and `simulate` are what a program calls; the commands use the same pieces. Under
``mpirun`` every rank runs the same script: rank 0 is the server and gets the run, the others work
until it is over. Nothing of a user's is pickled: every rank makes the user's own parts itself.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gcmpi import environment
from gcmpi import records as recording
from gcmpi.experiments import resume as going_on
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.completed import CompletedRun
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.interrupt import Interrupt, Interrupted, WatchedExchange
from gcmpi.experiments.recorder import Observer, Output, RunRecorder
from gcmpi.experiments.run import Run
from gcmpi.experiments.worker import follow
from gcmpi.importing import OwnPartError
from gcmpi.sentences import words
from gcmpi.training import Exchange, train

if TYPE_CHECKING:
    from gcmpi.cluster.mpi import MpiExchange, World


INTERRUPTED = 75
"""Exit status of a job that was interrupted between its runs."""
_interrupted: list[bool] = []
PATIENCE = 10.0
"""Seconds after which a rank says that it waits for others to start."""


class RefusedError(ValueError):
    """An experiment that cannot be run as it was launched; the message is one sentence."""


def simulate(
    e: Experiment,
    *,
    observer: Observer | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: str | Path | None = None,
    share: bool = False,
) -> CompletedRun:
    """Run an experiment in this process, all workers on a virtual clock.

    The protocol and the numbers are those of a run over MPI.

    Parameters
    ----------
    e
        What to run.
    observer
        Called after every iteration with its row, a `gcmpi.training.Iteration`.
    output
        A run file to write at the end and at checkpoints; `CompletedRun.save` writes one later.
    overwrite
        Replace an output that exists.
    resume
        The file of an interrupted run of the same experiment: the run goes on there, exactly as if
        it had not stopped. Only the number of iterations may differ.
    share
        Compute the gradient of a subset once for all workers that hold it. It is the same up to
        rounding, and faster by about the load. A run that is resumed shares if it did before.

    Raises
    ------
    ValueError
        If parts do not fit together, data cannot be read, the output exists, or the file to go on
        with is of another experiment.
    """
    with environment.single_blas_thread():
        path, earlier = files(output, overwrite, resume, e)
        run = build(e, assignment_matrix(e), earlier=earlier)
        share = share if earlier is None else earlier.shares
        exchange = run.simulate(share=share)
        if earlier is not None:
            going_on.check(run, earlier, exchange)
        surroundings = environment.simulated(share=share)
        return conduct(run, exchange, surroundings, earlier=earlier, observer=observer, output=path)


def launch(
    e: Experiment,
    *,
    observer: Observer | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: str | Path | None = None,
) -> CompletedRun | None:
    """Run an experiment over MPI: ``mpirun -n RANKS python mine.py``.

    Every rank calls it with the same experiment. It may be called several times in one job. In a
    single process it simulates and says so. Ctrl-C, SIGTERM or USR1 end the run after the iteration
    it is in: `status` is interrupted then, and another launch ends the job with status 75.

    Parameters
    ----------
    e, observer, output, overwrite, resume
        As in `simulate`; observer and files are those of rank 0.

    Returns
    -------
    run
        On rank 0; None on the workers, when the run is over.

    Raises
    ------
    RefusedError
        On rank 0, a ValueError: parts do not fit together, the number of ranks does not fit the
        assignment, ranks have different experiments, or a user's part fails on some rank. When
        nothing catches it, all ranks end with one sentence and status 2.
    """
    if not environment.under_launcher():
        print(
            "gcmpi: one process, so the run is simulated on a virtual clock; over MPI: mpirun -n "
            f"{assignment_matrix(e).shape[1] + 1} {environment.command()}",
            file=sys.stderr,
            flush=True,
        )
        return simulate(e, observer=observer, output=output, overwrite=overwrite, resume=resume)
    environment.one_blas_thread()
    world = start_mpi()
    interrupt = Interrupt()
    try:
        if _interrupted:
            environment.complain("interrupted: no other run is started")
            world.abort(INTERRUPTED)
        if world.rank:
            interrupt.leave_to_server()
            with ending_all(world):
                follow(world, e)
            return None
        try:
            with _refusing(world):
                path, earlier = files(output, overwrite, resume, e)
            run, exchange, places = lead(world, e, earlier=earlier)
        except (ValueError, MemoryError) as error:
            raise RefusedError(words(error)) from error
        return conduct_over(
            world,
            run,
            exchange,
            places,
            earlier=earlier,
            observer=observer,
            output=path,
            interrupt=interrupt,
        )
    finally:
        interrupt.restore()


@cache
def start_mpi() -> World:
    """Start MPI, which waits for all ranks; rank 0 says so when it takes long."""
    with _notice_if_long():
        from gcmpi.cluster.mpi import World

        return World()


@contextlib.contextmanager
def _notice_if_long() -> Iterator[None]:
    """Let rank 0 say that it waits for the others, if it does; nothing else runs meanwhile."""
    rank, ranks = environment.launched()
    if rank:
        yield
        return
    words = f"rank 0 waits for the others: each of the {ranks} ranks must come to this launch"
    script = f"sleep {PATIENCE:g}; echo {shlex.quote(f'gcmpi: {words}')} >&2"
    notice = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has spoken
            os.killpg(notice.pid, signal.SIGKILL)
        notice.wait()


@contextlib.contextmanager
def ending_all(world: World) -> Iterator[None]:
    """End all ranks when this one fails: the others would wait for ever."""
    try:
        yield
    except BaseException as error:
        world.abort_on(error)
        raise


def lead(
    world: World,
    e: Experiment,
    built: Run | None = None,
    *,
    earlier: recording.RunFile | None = None,
) -> tuple[Run, MpiExchange, list[environment.Place]]:
    """Rank 0: build the parts and hand them out; returns when all workers are ready.

    Parameters
    ----------
    built
        The parts, where they are built already.

    Raises
    ------
    ValueError
        If the experiment cannot be run; all workers know it then.
    """
    from gcmpi.cluster.mpi import MpiExchange

    with _refusing(world):
        A = assignment_matrix(e)
        check_ranks(e, A.shape[1], world.size)
        hosts = world.hosts[1:]
        run = build(e, A, hosts=hosts, earlier=earlier) if built is None else built
        if earlier is not None:
            going_on.check(run, earlier)
        shared = run.shared
        model = shared.problem
        exchange = MpiExchange(world, model.d, model.dtype, shared.wires, run.server)
    world.hand_out((e.toml, shared, rows) for rows in run.shards())
    answers = [world.receive(rank) for rank in range(1, world.size)]
    refused = [(rank, said) for rank, said in enumerate(answers, 1) if isinstance(said, str)]
    world.hand_out([not refused] * (world.size - 1))
    if refused:
        exchange.free()
        rank, said = refused[0]
        raise OwnPartError(f"rank {rank} (worker {rank - 1}): {said}")
    return run, exchange, [environment.place(), *answers]


@contextlib.contextmanager
def _refusing(world: World) -> Iterator[None]:
    """Tell the workers that there is no run when rank 0 fails before it begins."""
    try:
        yield
    except BaseException:
        refuse(world)
        raise


def refuse(world: World) -> None:
    """Rank 0: tell the workers that there is no run."""
    workers = world.hosts[1:]  # received, because a rank may not end before what it has sent
    world.hand_out([None] * len(workers))


def conduct_over(
    world: World,
    run: Run,
    exchange: MpiExchange,
    places: list[environment.Place],
    *,
    interrupt: Interrupt,
    earlier: recording.RunFile | None = None,
    observer: Observer | None = None,
    output: Output | None = None,
) -> CompletedRun:
    """Conduct a run over MPI whose workers are ready, and tell them that it is over.

    Raises
    ------
    RefusedError
        If the run file is another run's by now.
    """
    taken: recording.TakenError | None = None
    with ending_all(world):
        surroundings = environment.describe(places, world.library)
        try:
            completed = conduct(
                run,
                exchange,
                surroundings,
                earlier=earlier,
                observer=observer,
                output=output,
                interrupt=interrupt,
            )
        except recording.TakenError as error:  # of another run that began at the same time
            taken = error
        if not exchange.close():
            environment.complain("some workers did not answer at the end: the job ends here")
            atexit.register(world.abort, 0)
    if taken is not None:
        raise RefusedError(str(taken)) from taken
    if completed.status == "interrupted":
        _interrupted.append(True)
    return completed


def conduct(
    run: Run,
    exchange: Exchange,
    surroundings: Mapping[str, str],
    *,
    earlier: recording.RunFile | None = None,
    observer: Observer | None = None,
    output: Output | None = None,
    interrupt: Interrupt | None = None,
) -> CompletedRun:
    """Train and record; what the server does of a run, over MPI or not.

    Parameters
    ----------
    earlier
        A run to go on with.
    output
        The run file; it is written at the start, at checkpoints, at the end, and when the run
        fails.
    interrupt
        Asked in every iteration whether the run is to end.

    Raises
    ------
    TakenError
        If the run file is another run's; nothing was done then.
    """
    e = run.experiment
    description = recording.Description(
        e.toml,
        e.digest,
        e.assignment,
        e.encoding,
        run.shared.codes,
        run.alpha,
        surroundings,
        e.own,
        run.target,
    )
    record, state = recording.Record(run.A.shape[1]), run.start
    if earlier is not None:
        description = description.resume(earlier)
        record = recording.Record(run.A.shape[1], earlier.columns)
        state = going_on.start(run, earlier, exchange)
    watched = exchange if interrupt is None else WatchedExchange(exchange, interrupt)
    parts = run.moving(watched)
    recorder = RunRecorder(
        run,
        parts,
        description,
        record,
        state,
        output=output,
        observer=observer,
        interrupt=interrupt,
    )
    try:
        train(run, parts, state, recorder)
    except Interrupted:
        pass  # saved below, as after any other interruption
    except BaseException:
        recorder.save("failed")
        raise
    return recorder.completed()


def files(
    output: str | Path | None, overwrite: bool, resume: str | Path | None, e: Experiment
) -> tuple[Output | None, recording.RunFile | None]:
    """Return the run file to write, and the run to go on with."""
    if resume is None:
        return free_output(output, overwrite), None
    if output is not None:
        raise ValueError(f"resume={resume} goes on in that file: leave out output")
    earlier = recording.read(Path(resume))
    before = Experiment.from_toml(earlier.experiment).change({"iterations": e.iterations})
    for now, then in zip(e.toml.splitlines(), before.toml.splitlines(), strict=True):
        if now != then:
            raise ValueError(
                f"{resume} is of another run ({then} there, {now} here): only iterations may change"
            )
    if earlier.state.t >= e.iterations:
        raise ValueError(
            f"{resume} is complete after {earlier.state.t} iterations: to go on, give iterations "
            f"above {earlier.state.t}"
        )
    return Output(Path(resume), "replace"), earlier


def free_output(output: str | Path | None, overwrite: bool) -> Output | None:
    """Return the run file; refuse one that exists."""
    if output is None:
        return None
    path = Path(output)
    if path.exists() and not overwrite:
        raise ValueError(f"output {path} exists: give another name, or overwrite=True")
    return Output(path, "replace" if overwrite else "refuse")


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
        f"mpirun -n {n + 1} {environment.program()}{_alternative(experiment, size)}"
    )


def _alternative(experiment: Experiment, size: int) -> str:
    """Suggest an assignment for the ranks there are: of the same family, if one is near."""
    from gcmpi.codes import assignments

    if size < 2:
        return ""
    found = assignments.find(size - 1, m=experiment.m)
    family = experiment.assignment.partition(":")[0]
    fitting = [entry for entry in (*found.exact, *found.nearest) if entry.n < size]
    same = [entry for entry in fitting if entry.spec.partition(":")[0] == family]
    chosen = (same or list(found.exact))[:1]
    return "".join(f", or --assignment {entry.spec} for {entry.n + 1}" for entry in chosen)
