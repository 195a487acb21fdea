"""Run many experiments over MPI: ``gcmpi sweep jobs/figure6.toml``.

The file names what is compared and how often::

    repetitions = 20                 # seeds 0 to 19
    [common]                         # settings of every run (see gcmpi.train --print-config)
    iterations = 300
    [runs.coded]                     # one table a competitor: what it does differently
    encoding = "random-diagonal"
    [runs.baseline]
    encoding = "stacked"

    [conditions.calm]                # if given: every competitor runs under each of them
    stragglers = "none"
    [conditions.rough]
    only = ["coded*"]                # or under some: names, with * for anything
    stragglers = "bernoulli:q=0.2"

A condition's settings go before a competitor's own. At the end there is a table, one for each
condition: load, bytes, times, gradient error, accuracy, what it took to the target, and the ratio
of the time to the first competitor's, paired by seed.

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
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
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

With [conditions.NAME] tables of settings every competitor runs under each of them, or under
those whose list `only` has its name (* stands for anything).

All competitors run on the same seeds. A run whose file is complete is not run again, unless
a part of your own has changed since. At the end one table, or one for each condition, compares
them, paired by seed."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: a competitor with a seed.

    Attributes
    ----------
    name
        The competitor, and behind a - its condition.
    condition
        Empty where a sweep has none.
    """

    name: str
    experiment: Experiment
    ranks: int
    output: Path
    condition: str = ""
    simulated: bool = False

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
        clock = file.simulated == self.simulated
        return same and current and clock and file.status == "complete"

    @property
    def figures(self) -> Figures:
        """What the run came to, from its file."""
        from gcmpi import records as recording
        from gcmpi.experiments.building import assignment_matrix
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
        start = [] if self.simulated else shlex.split(launcher.format(ranks=self.ranks))
        train = [sys.executable, "-m", "gcmpi.train", "--overwrite", f"--output={self.output}"]
        return [*start, *train, *(["--simulate", "--share"] if self.simulated else []), *settings]


def read_sweep(path: Path, directory: Path, *, simulated: bool = False) -> list[Job]:
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
    unknown = settings.keys() - {"repetitions", "common", "conditions", "runs"}
    if unknown or not settings.get("runs"):
        wrong = f"not {sorted(unknown)[0]!r}" if unknown else "and needs at least one [runs.NAME]"
        raise ValueError(
            f"sweep {path} has repetitions, [common], [conditions.NAME] and [runs.NAME] tables, "
            f"{wrong}"
        )
    repetitions = settings.get("repetitions", 1)
    if not isinstance(repetitions, int) or repetitions < 1:
        raise ValueError(f"sweep {path}: repetitions must be at least 1, not {repetitions}")
    return list(_jobs(settings, repetitions, directory, simulated))


def _jobs(
    settings: dict[str, Any], repetitions: int, directory: Path, simulated: bool
) -> Iterator[Job]:
    from gcmpi import seeds
    from gcmpi.experiments.building import assignment_matrix

    competitors: dict[str, tuple[Experiment, int, str]] = {}
    for name, condition, layers in _combinations(settings):
        try:
            experiment = _experiment(name, layers)
            ranks = assignment_matrix(experiment).shape[1] + 1
        except ValueError as error:
            raise ValueError(f"run {name}: {error}") from error
        competitors[name] = experiment, ranks, condition
    for seed in range(repetitions):
        order = list(competitors)
        seeds.generator(seed, seeds.MONTE_CARLO).shuffle(order)
        for name in order:
            experiment, ranks, condition = competitors[name]
            experiment = experiment.change({"seed": seed})
            file = directory / f"{name}-{experiment.digest}-s{seed}.h5"
            yield Job(name, experiment, ranks, file, condition, simulated)


def _combinations(settings: dict[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield name, condition, and the settings that follow on each other, of every competitor."""
    common, runs = settings.get("common", {}), settings["runs"]
    conditions = settings.get("conditions")
    if conditions is None:
        yield from ((name, "", [common, own]) for name, own in runs.items())
        return
    for condition, given in conditions.items():
        if not isinstance(given, dict) or "/" in condition:
            raise ValueError(
                f"condition {condition}: a condition is a table [conditions.NAME] of settings, "
                "NAME without a slash"
            )
        patterns = given.get("only", ["*"])
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise ValueError(f"condition {condition}: only is a list of names, not {patterns!r}")
        shared = {key: value for key, value in given.items() if key != "only"}
        chosen = [name for name in runs if any(fnmatchcase(name, p) for p in patterns)]
        if not chosen:
            raise ValueError(
                f"condition {condition}: only = {patterns} is none of {', '.join(runs)}"
            )
        for name in chosen:
            yield f"{name}-{condition}", condition, [common, shared, runs[name]]


def _experiment(name: str, layers: list[Any]) -> Experiment:
    """Return what a competitor runs, with any seed."""
    from gcmpi.experiments.experiment import Experiment

    if not all(isinstance(layer, dict) for layer in layers) or "/" in name:
        raise ValueError("a run is a table [runs.NAME] of settings, NAME without a slash")
    if any("seed" in layer for layer in layers):
        raise ValueError("seed is 0, 1, .. up to repetitions - 1: leave it out")
    experiment = Experiment()
    for layer in layers:
        experiment = experiment.change(layer)
    return experiment


def chosen(jobs: list[Job], patterns: list[str], seeds: int | None) -> list[Job]:
    """Return the runs whose names fit one of the patterns, of the first seeds.

    Raises
    ------
    ValueError
        If there are none.
    """
    some = [job for job in jobs if any(fnmatchcase(job.name, p) for p in patterns)]
    some = [job for job in some if seeds is None or job.experiment.seed < seeds]
    if not some:
        names = ", ".join(dict.fromkeys(job.name for job in jobs))
        raise ValueError(f"--only {' '.join(patterns)} leaves no run; the runs are {names}")
    return some


def run_sweep(jobs: list[Job], launcher: str, side_by_side: int = 1) -> int:
    """Run what is not complete yet, printing a line a run; returns how many runs failed.

    Parameters
    ----------
    side_by_side
        How many runs go on at the same time.

    Raises
    ------
    ValueError
        If the launcher cannot be started.
    OSError
        If a folder or a log cannot be written.
    """
    waiting = [job for job in jobs if not job.complete]
    print(f"{len(jobs) - len(waiting)} done, {len(waiting)} to run", flush=True)
    failed, began, stop = 0, time.monotonic(), False

    def run(job: Job) -> tuple[Job, float, subprocess.CompletedProcess[str] | None]:
        started = time.monotonic()
        if stop:
            return job, 0.0, None
        job.output.parent.mkdir(parents=True, exist_ok=True)
        done = _start(job.command(launcher))
        return job, time.monotonic() - started, done

    with ThreadPoolExecutor(side_by_side) as pool:
        try:
            runs = [pool.submit(run, job) for job in waiting]
            for number, over in enumerate(as_completed(runs), 1):
                job, seconds, done = over.result()
                if done is None:
                    continue
                failed += done.returncode != 0
                progress = left(began, time.monotonic(), number, len(waiting), " done, ")
                print(
                    f"{progress:<28} {job.name:<24} seed {job.experiment.seed:<4d} "
                    f"{seconds:7.1f} s  {_outcome(job, done)}",
                    flush=True,
                )
                stop = stop or done.returncode == INTERRUPTED
        finally:
            stop = True
    return failed


def _outcome(job: Job, done: subprocess.CompletedProcess[str]) -> str:
    """Return how a run ended; what a failed one printed is kept beside its file."""
    log = job.output.with_suffix(".log")
    if done.returncode == 0:
        log.unlink(missing_ok=True)
        return "ok"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    return f"FAILED with exit status {done.returncode}, see {log}"


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
            (
                "{prog} jobs/memory.toml --simulate --jobs 2",
                "without MPI, two runs at a time",
            ),
        ),
        exits=EXITS,
        usage="%(prog)s FILE [OPTIONS]",
    )
    what, how = p.add_argument_group("the sweep"), p.add_argument_group("how it runs")
    what.add_argument("sweep", metavar="FILE", type=Path, help="TOML: what to compare")
    what.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="where run files go; runs/<name of FILE>, with -simulated behind it if so",
    )
    what.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="these runs only; * stands for anything, may be repeated",
    )
    what.add_argument("--seeds", metavar="COUNT", type=int, help="the first seeds only")
    what.add_argument("--list", action="store_true", help="show the runs and exit")
    how.add_argument(
        "--launcher",
        default="mpirun -n {ranks}",
        metavar="COMMAND",
        help="how to start {ranks} ranks (default: %(default)s)",
    )
    how.add_argument(
        "--simulate",
        action="store_true",
        help="no MPI: each run in one process, on a virtual clock",
    )
    how.add_argument(
        "--jobs",
        metavar="COUNT",
        type=int,
        default=1,
        help="how many runs go on side by side (default: %(default)s)",
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
    from gcmpi import seeds
    from gcmpi.experiments.building import assignment_matrix, build
    from gcmpi.learning import Dataset, load

    loaded: dict[tuple[str, int], Dataset] = {}
    for name, experiment in {job.name: job.experiment for job in jobs if not job.complete}.items():
        data = experiment.dataset, experiment.seed
        try:
            if data not in loaded:
                loaded[data] = load(data[0], seeds.generator(data[1], seeds.DATA))
            build(experiment, assignment_matrix(experiment), dataset=loaded[data])
        except ValueError as error:
            raise ValueError(f"run {name}: {error}") from error
        except MemoryError as error:
            raise MemoryError(f"run {name}: {error}") from error


def compare(jobs: list[Job]) -> str:
    """Return a table for each condition, of complete runs, and where their files are.

    Parameters
    ----------
    jobs
        All runs, in the order of the file; those that are not complete have no figures.
    """
    from gcmpi.commands import comparison

    lines = []
    for condition in dict.fromkeys(job.condition for job in jobs):
        some = [job for job in jobs if job.condition == condition]
        names = list(dict.fromkeys(job.name for job in some))
        runs = [(job.name, job.experiment.seed, job.figures) for job in some if job.complete]
        if runs:
            lines += [f"# {condition}"] if condition else []
            lines.append(comparison.table(runs, names))
    return "\n".join(
        [
            *lines,
            "# medians over the seeds; up: received by the server in an iteration; load: the part "
            "of the data\n# that the busiest worker holds; to target: iterations, megabytes that "
            "the server received and\n# training time until the target; the ratio is of the time, "
            "paired by seed with the first, in\n# front of its 95% interval; never: the target was "
            f"not reached. Run files in {jobs[0].output.parent}",
        ]
    )


def in_order(path: Path, jobs: list[Job]) -> list[Job]:
    """Return the runs in the order of the file."""
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    names = [name for name, _, _ in _combinations(settings)]
    return sorted(jobs, key=lambda job: names.index(job.name))


def sweep(options: argparse.Namespace) -> int:
    """Run, or list, what the file says; returns the exit status.

    Raises
    ------
    ValueError, MemoryError, OSError
        If the file cannot be read, a competitor is impossible or nothing can be written.
    """
    if not options.list:
        parsing.announce(f"sweep {options.sweep}")
    for name in ("jobs", "seeds"):
        count = getattr(options, name)
        if count is not None and count < 1:
            raise ValueError(f"--{name} must be at least 1, not {count}")
    folder = options.sweep.stem + ("-simulated" if options.simulate else "")
    directory = options.output or Path("runs") / folder
    jobs = read_sweep(options.sweep, directory, simulated=options.simulate)
    jobs = chosen(jobs, options.only or ["*"], options.seeds)
    if options.list:
        for job in jobs:
            state = "done" if job.complete else "to run"
            ranks = "simulated" if job.simulated else f"{job.ranks:4d} ranks"
            print(f"{state:<7} {job.name:<24} {ranks}  {job.output}")
        return COMPLETE
    check(jobs)
    failed = run_sweep(jobs, options.launcher, options.jobs)
    if any(job.complete for job in jobs):
        print(compare(in_order(options.sweep, jobs)))
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
