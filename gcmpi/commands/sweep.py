"""Run many experiments over MPI: ``gcmpi sweep jobs/figure6.toml``.

The file names what is compared and how often::

    repetitions = 20                 # seeds 0 to 19
    [common]                         # settings of every run (see gcmpi.train --print-config)
    iterations = 300
    [runs.coded]                     # one table a competitor: what it does differently
    encoding = "random-diagonal"
    [runs.baseline]
    encoding = "stacked"

At the end it prints one table: load, bytes, times, gradient error, accuracy, time to the target
accuracy, and its ratio to the first competitor's, paired by seed.

All competitors run on the same seeds, and so on the same data, initial parameters and straggler
trace; within a seed their order is shuffled. A run whose file is complete is not run again, unless
a part of your own has changed since: the same command goes on after an interruption. What a failed
run printed is kept beside its file.

Heavy modules are imported where they are used: the command line is read before.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcmpi import environment
from gcmpi.commands import parsing
from gcmpi.sentences import left, words

if TYPE_CHECKING:
    from gcmpi.experiments.experiment import Experiment
    from gcmpi.records.figures import Figures

COMPLETE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75
EXITS = (
    (COMPLETE, "all runs are complete"),
    (FAILED, "some runs failed: what they printed lies beside their files, in .log"),
    (USAGE, "wrong usage: one sentence says what is wrong"),
    (INTERRUPTED, "interrupted: the same command goes on"),
)
ABOUT = """\
The file names what is compared and how often:

    repetitions = 20                 # seeds 0 to 19
    [common]                         # settings of every run (see gcmpi train --print-config)
    iterations = 300
    [runs.coded]                     # one table a competitor: what it does differently
    encoding = "random-diagonal"
    [runs.baseline]
    encoding = "stacked"

All competitors run on the same seeds. A run whose file is complete is not run again, unless
a part of your own has changed since. At the end one table compares them, paired by seed."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: a competitor with a seed."""

    name: str
    experiment: Experiment
    ranks: int
    output: Path

    @property
    def complete(self) -> bool:
        """Whether its file says that this very experiment was run to the end.

        A run whose own parts have another content now is not complete: its numbers are old.
        """
        from gcmpi import records
        from gcmpi.experiments.experiment import Experiment

        try:
            file = records.read(self.output)
            same = Experiment.from_toml(file.experiment) == self.experiment
        except ValueError:
            return False
        current = not file.changed(self.experiment.own)
        return same and current and file.status == "complete"

    @property
    def figures(self) -> Figures:
        """What the run came to, from its file."""
        from gcmpi import records as recording
        from gcmpi.experiments.run import assignment_matrix
        from gcmpi.records.figures import figures

        A = assignment_matrix(self.experiment)
        load = int(A.sum(axis=0, dtype=int).max()) / A.shape[0]
        file = recording.read(self.output)
        target = replace(file.target, accuracy=self.experiment.target_accuracy)
        return figures(file.columns, load, target)

    def command(self, launcher: str) -> list[str]:
        """Return the command line; {ranks} in the launcher is replaced."""
        changed = tomllib.loads("".join(self.experiment.differences))
        settings = [f"--set={name}={value}" for name, value in changed.items()]
        start = shlex.split(launcher.format(ranks=self.ranks))
        train = [sys.executable, "-m", "gcmpi.train", "--overwrite", f"--output={self.output}"]
        return [*start, *train, *settings]


def read_sweep(path: Path, directory: Path) -> list[Job]:
    """Return the runs of a sweep file, in the order to run them.

    Raises
    ------
    ValueError
        If the file cannot be read or describes an impossible run.
    """
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read sweep {path}: {words(error, path)}") from error
    unknown = settings.keys() - {"repetitions", "common", "runs"}
    if unknown or not settings.get("runs"):
        wrong = f"not {sorted(unknown)[0]!r}" if unknown else "and needs at least one [runs.NAME]"
        raise ValueError(f"sweep {path} has repetitions, [common] and [runs.NAME] tables, {wrong}")
    repetitions, common = settings.get("repetitions", 1), settings.get("common", {})
    if not isinstance(repetitions, int) or repetitions < 1:
        raise ValueError(f"sweep {path}: repetitions must be at least 1, not {repetitions}")
    return list(_jobs(settings["runs"], common, repetitions, directory))


def _jobs(
    runs: dict[str, dict[str, Any]], common: dict[str, Any], repetitions: int, directory: Path
) -> Iterator[Job]:
    from gcmpi import seeds
    from gcmpi.experiments.run import assignment_matrix

    experiments, ranks = {}, {}
    for name, own in runs.items():
        try:
            experiments[name] = _experiment(name, common, own)
            ranks[name] = assignment_matrix(experiments[name]).shape[1] + 1
        except ValueError as error:
            raise ValueError(f"run {name}: {error}") from error
    for seed in range(repetitions):
        order = list(runs)
        seeds.generator(seed, seeds.MONTE_CARLO).shuffle(order)
        for name in order:
            experiment = experiments[name].change({"seed": seed})
            file = directory / f"{name}-{experiment.digest}-s{seed}.h5"
            yield Job(name, experiment, ranks[name], file)


def _experiment(name: str, common: dict[str, Any], own: Any) -> Experiment:
    """Return what a competitor runs, with any seed."""
    from gcmpi.experiments.experiment import Experiment

    if not isinstance(own, dict) or "/" in name:
        raise ValueError("a run is a table [runs.NAME] of settings, NAME without a slash")
    if "seed" in {**common, **own}:
        raise ValueError("seed is 0, 1, .. up to repetitions - 1: leave it out")
    return Experiment().change(common).change(own)


def run_sweep(jobs: list[Job], launcher: str) -> int:
    """Run what is not complete yet, printing a line a run; returns how many runs failed.

    Raises
    ------
    ValueError
        If the launcher cannot be started.
    OSError
        If a folder or a log cannot be written.
    """
    waiting = [job for job in jobs if not job.complete]
    print(f"{len(jobs) - len(waiting)} done, {len(waiting)} to run", flush=True)
    failed, began = 0, time.monotonic()
    for number, job in enumerate(waiting, 1):
        started = time.monotonic()
        job.output.parent.mkdir(parents=True, exist_ok=True)
        done = _start(job.command(launcher))
        now = time.monotonic()
        log = job.output.with_suffix(".log")
        if done.returncode == 0:
            log.unlink(missing_ok=True)
            outcome = "ok"
        else:
            log.write_text(done.stdout + done.stderr, encoding="utf-8")
            outcome, failed = f"FAILED with exit status {done.returncode}, see {log}", failed + 1
        progress = left(began, now, number, len(waiting), " done, ")
        print(
            f"{progress:<28} {job.name:<24} seed {job.experiment.seed:<4d} "
            f"{now - started:7.1f} s  {outcome}",
            flush=True,
        )
        if done.returncode == INTERRUPTED:
            break
    return failed


def _start(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it prints."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise ValueError(
            f"--launcher: {command[0]} cannot be started: {words(error, command[0])}"
        ) from error


def parser() -> parsing.Parser:
    """Return the command line."""
    p = parsing.Parser(
        prog=parsing.prog("sweep"),
        summary="Run many experiments over MPI and compare them.",
        about=ABOUT,
        examples=(
            ("{prog} jobs/figure6.toml", "all runs that are not complete, then the table"),
            ("{prog} jobs/figure6.toml --list", "what there is to run"),
            (
                "{prog} jobs/figure6.toml --launcher 'srun -n {{ranks}}'",
                "started by another launcher",
            ),
        ),
        exits=EXITS,
        usage="%(prog)s FILE [OPTIONS]",
    )
    what, how = p.add_argument_group("the sweep"), p.add_argument_group("how it runs")
    what.add_argument("sweep", metavar="FILE", type=Path, help="TOML: what to compare")
    what.add_argument(
        "--output", metavar="DIR", type=Path, help="where run files go; runs/<name of FILE>"
    )
    what.add_argument("--list", action="store_true", help="show the runs and exit")
    how.add_argument(
        "--launcher",
        default="mpirun -n {ranks}",
        metavar="COMMAND",
        help="how to start {ranks} ranks (default: %(default)s)",
    )
    parsing.add_traceback(how)
    return p


def check(jobs: list[Job]) -> None:
    """Build each competitor once: what does not fit together is refused before any run.

    Raises
    ------
    ValueError, MemoryError
        If a competitor cannot be built.
    """
    from gcmpi.experiments.run import assignment_matrix, build

    for experiment in {job.name: job.experiment for job in jobs if not job.complete}.values():
        try:
            build(experiment, assignment_matrix(experiment))
        except ValueError as error:
            raise ValueError(f"{experiment.label}: {error}") from error
        except MemoryError as error:
            raise MemoryError(f"{experiment.label}: {error}") from error


def compare(jobs: list[Job], names: list[str]) -> str:
    """Return the table of the runs that are complete, and where their files are."""
    from gcmpi.commands import comparison

    runs = [(job.name, job.experiment.seed, job.figures) for job in jobs]
    table = comparison.table(runs, names)
    return (
        f"{table}\n"
        "# medians over the seeds; up: received by the server in an iteration; load: the part of "
        "the data\n# that the busiest worker holds; to target: training time until the target "
        f"accuracy, paired\n# by seed with {names[0]}, the first; never: the target was not "
        f"reached. Run files in {jobs[0].output.parent}"
    )


def sweep(options: argparse.Namespace) -> int:
    """Run, or list, what the file says; returns the exit status.

    Raises
    ------
    ValueError, MemoryError, OSError
        If the file cannot be read, a competitor is impossible or nothing can be written.
    """
    if not options.list:
        parsing.announce(f"sweep {options.sweep}")
    jobs = read_sweep(options.sweep, options.output or Path("runs") / options.sweep.stem)
    if options.list:
        for job in jobs:
            state = "done" if job.complete else "to run"
            print(f"{state:<7} {job.name:<24} {job.ranks:4d} ranks  {job.output}")
        return COMPLETE
    check(jobs)
    failed = run_sweep(jobs, options.launcher)
    if complete := [job for job in jobs if job.complete]:
        in_file = tomllib.loads(options.sweep.read_text(encoding="utf-8"))["runs"]
        print(compare(complete, list(in_file)))
    return FAILED if failed else COMPLETE


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns the exit status: 0 all complete, 1 some failed, 2 wrong usage, 75 interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    environment.one_blas_thread()
    prog, traceback = parsing.prog("sweep"), parsing.TRACEBACK in argv
    try:
        options = parser().parse_args(argv)
        if parsing.refuse_ranks(prog):  # each would start ranks of its own
            return USAGE
        return sweep(options)
    except (ValueError, MemoryError, OSError) as error:
        parsing.complain(prog, error, traceback)
    except KeyboardInterrupt:
        parsing.complain(prog, "interrupted; the same command goes on")
        return INTERRUPTED
    return USAGE
