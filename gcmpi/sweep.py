"""Run many experiments over MPI: ``python -m gcmpi.sweep jobs/figure6.toml``.

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
trace; within a seed their order is shuffled. A run whose file is complete is not run again: the
same command goes on after an interruption. What a failed run printed is kept beside its file.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gcmpi import comparison, recording, seeds
from gcmpi.experiment import Experiment
from gcmpi.recording.figures import Figures, figures
from gcmpi.run import assignment_matrix, build


@dataclass(frozen=True)
class Job:
    """One run of a sweep: a competitor with a seed."""

    name: str
    experiment: Experiment
    ranks: int
    output: Path

    @property
    def complete(self) -> bool:
        """Whether its file says that this very experiment was run to the end."""
        try:
            file = recording.read(self.output)
            same = Experiment.from_toml(file.experiment) == self.experiment
        except ValueError:
            return False
        return same and file.status == "complete"

    @property
    def figures(self) -> Figures:
        """What the run came to, from its file."""
        A = assignment_matrix(self.experiment)
        load = int(A.sum(axis=0, dtype=int).max()) / A.shape[0]
        columns = recording.read(self.output).columns
        return figures(columns, load, self.experiment.target_accuracy)

    def command(self, launcher: str) -> list[str]:
        """Return the command line; {ranks} in the launcher is replaced."""
        lines = (line.strip().replace('"', "") for line in self.experiment.differences)
        settings = [f"--set={line.replace(' = ', '=', 1)}" for line in lines]
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
        raise ValueError(f"cannot read sweep {path}: {error}") from error
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
    if not isinstance(own, dict) or "/" in name:
        raise ValueError("a run is a table [runs.NAME] of settings, NAME without a slash")
    if "seed" in {**common, **own}:
        raise ValueError("seed is 0, 1, .. up to repetitions - 1: leave it out")
    return Experiment().change(common).change(own)


def run_sweep(jobs: list[Job], launcher: str) -> int:
    """Run what is not complete yet, printing a line a run; returns how many runs failed."""
    waiting = [job for job in jobs if not job.complete]
    print(f"{len(jobs) - len(waiting)} done, {len(waiting)} to run", flush=True)
    failed, durations = 0, []
    for number, job in enumerate(waiting, 1):
        began = time.monotonic()
        job.output.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            job.command(launcher), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        durations.append(time.monotonic() - began)
        log = job.output.with_suffix(".log")
        if done.returncode == 0:
            log.unlink(missing_ok=True)
            outcome = "ok"
        else:
            log.write_text(done.stdout + done.stderr, encoding="utf-8")
            outcome, failed = f"FAILED with exit status {done.returncode}, see {log}", failed + 1
        left = (len(waiting) - number) * float(np.median(durations)) / 60
        print(
            f"{number:4d}/{len(waiting)}  {job.name:<24} seed {job.experiment.seed:<4d} "
            f"{durations[-1]:7.1f} s  {outcome}  ({left:.1f} min left)",
            flush=True,
        )
        if done.returncode == 75:
            break
    return failed


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns the exit status: 0 all complete, 1 some failed, 2 wrong usage, 75 interrupted.
    """
    p = argparse.ArgumentParser(
        prog="python -m gcmpi.sweep", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("sweep", metavar="FILE", type=Path, help="TOML: what to compare")
    p.add_argument("--output", metavar="DIR", type=Path, help="default: runs/<name of FILE>")
    p.add_argument("--launcher", default="mpirun -n {ranks}", metavar="COMMAND",
                   help="how to start {ranks} ranks (default: %(default)s)")  # fmt: skip
    p.add_argument("--list", action="store_true", help="show the runs and exit")
    options = p.parse_args(argv)
    try:
        jobs = read_sweep(options.sweep, options.output or Path("runs") / options.sweep.stem)
    except ValueError as error:
        print(f"gcmpi.sweep: {error}", file=sys.stderr)
        return 2
    if options.list:
        for job in jobs:
            state = "done" if job.complete else "to run"
            print(f"{state:<7} {job.name:<24} {job.ranks:4d} ranks  {job.output}")
        return 0
    try:
        for experiment in {job.name: job.experiment for job in jobs if not job.complete}.values():
            build(experiment, assignment_matrix(experiment))  # refuses what does not fit together
    except (ValueError, MemoryError) as error:
        print(f"gcmpi.sweep: {experiment.label}: {error}", file=sys.stderr)
        return 2
    try:
        failed = run_sweep(jobs, options.launcher)
    except KeyboardInterrupt:
        print("gcmpi.sweep: interrupted; the same command goes on", file=sys.stderr)
        return 75
    if complete := [job for job in jobs if job.complete]:
        runs = [(job.name, job.experiment.seed, job.figures) for job in complete]
        names = tomllib.loads(options.sweep.read_text(encoding="utf-8"))["runs"]
        print(comparison.table(runs, list(names)))
        print(f"# medians over the seeds; run files in {complete[0].output.parent}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
