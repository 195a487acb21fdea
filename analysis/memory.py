"""Iterations and bytes to a small excess loss, with and without memory: docs/accuracy.png.

    python -m gcmpi.sweep jobs/memory.toml --simulate --jobs 2      (two hours on two cores)
    python analysis/memory.py [--runs DIR] [--output FILE]          (ten seconds)

Prints a table for each condition of jobs/memory.toml, of the runs that are complete, and draws. A
line of the table has a code without and with memory: iterations until the target as a ratio to
`uncoded-all`, which waits for everybody (mean over the seeds in pairs, with its 95% interval),
megabytes that the server received until then (median), how many seeds never got there, and how far
above the smallest loss those end (median over the last quarter of the audits). The first line,
uncoded with memory, stands beside every code.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gcmpi import records
from gcmpi.arrays import Array
from gcmpi.commands.comparison import paired_ratio
from gcmpi.commands.sweep import Job, in_order, read_sweep
from gcmpi.records.figures import Figures, audited, figures

ROOT = Path(__file__).parent.parent
SWEEP = ROOT / "jobs" / "memory.toml"
REFERENCE, MEMORY = "uncoded-all", "-memory"
DRAWN = {
    "uncoded": ("uncoded", "C3"),
    "random-diagonal-m2": ("random diagonal, plane", "C0"),
    "trained-m2": ("trained, plane", "C2"),
    "harmonic-m2": ("harmonic, cyclic", "C1"),
    "groups-m2": ("groups", "C4"),
    "graph-m2": ("graph", "C5"),
}


@dataclass(frozen=True)
class Outcome:
    """One complete run.

    Attributes
    ----------
    at, loss : (audits,)
        Iterations that were audited, and their losses.
    """

    figures: Figures
    at: Array
    loss: Array
    optimum: float

    @classmethod
    def of(cls, job: Job) -> Outcome:
        """Return the outcome of a job."""
        file = records.read(job.output)
        seen = audited(file.columns)
        at, loss = file.columns["iteration"][seen] + 1, file.columns["loss"][seen]
        return cls(figures(file.columns, 0.0, file.target), at, loss, file.target.optimum)

    @cached_property
    def excess(self) -> Array:
        """Losses above the smallest one, relative to it, (audits,)."""
        return (self.loss - self.optimum) / self.optimum

    @property
    def floor(self) -> float:
        """The median over the last quarter of the audits: of the excess, else of the loss."""
        values = self.loss if np.isnan(self.optimum) else self.excess
        return float(np.median(values[-max(1, values.size // 4) :]))


Outcomes = Mapping[int, Outcome]
"""The complete runs of a competitor under a condition, by seed."""


def line(runs: Outcomes, reference: Outcomes) -> str:
    """Return the half of a table's line that is about a code with, or without, memory."""
    if not runs:
        return f"{'no complete run':<36}"
    common = sorted(runs.keys() & reference.keys())
    mine, its = (
        np.array([of[seed].figures.iterations_to_target for seed in common])
        for of in (runs, reference)
    )
    never = [run for run in runs.values() if np.isinf(run.figures.iterations_to_target)]
    floor = f"{np.median([run.floor for run in never]):.2g}" if never else ""
    ratio = paired_ratio(mine, its).removesuffix("  not distinguishable") if common else "-"
    if never:
        ratio = f"{len(never)} of {len(runs)} never"
    bytes_up = float(np.median([run.figures.bytes_to_target for run in runs.values()])) / 1e6
    sent = f"{bytes_up:.1f}" if np.isfinite(bytes_up) else "-"
    return f"{ratio:<18} {sent:>7}  {floor:<8}"


def table(condition: str, runs: Mapping[str, Outcomes]) -> str:
    """Return the table of a condition; `runs` by competitor, the reference among them."""
    reference = runs[REFERENCE]
    full = [run.figures.iterations_to_target for run in reference.values()]
    count = f"needs {np.median(full):.0f} iterations" if full else "has no complete run"
    if np.isinf(full).any():
        count = f"ends at {np.median([run.floor for run in reference.values()]):.2g}"
    half = f"{'iterations':<18} {'MB up':>7}  {'ends at':<8}"
    lines = [
        f"# {condition}: {REFERENCE} {count} (median of {len(full)} seeds)",
        f"# {'':<20} {'without memory':<36}  with memory",
        f"# {'':<20} {half}  {half}",
    ]
    for name in dict.fromkeys(name.removesuffix(MEMORY) for name in runs if name != REFERENCE):
        without, remembering = (line(runs.get(n, {}), reference) for n in (name, name + MEMORY))
        lines.append(f"  {name:<20} {without}  {remembering}".rstrip())
    return "\n".join(lines)


def curves(axes: Axes, runs: Mapping[str, Outcomes], title: str) -> None:
    """Draw excess against iterations, the median over the seeds: with memory and without."""
    for name, (label, color) in DRAWN.items():
        for memory, style in ((MEMORY, "-"), ("", ":")):
            outcomes = list(runs.get(name + memory, {}).values())
            if not outcomes:
                continue
            audits = min(run.at.size for run in outcomes)
            middle = np.median([run.excess[:audits] for run in outcomes], axis=0)
            text = label if memory else "_"
            axes.plot(outcomes[0].at[:audits], middle, style, color=color, label=text)
    axes.set_yscale("log")
    axes.set_ylim(5e-7, 1)
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("iterations")
    axes.grid(alpha=0.3)


def draw(runs: Mapping[str, Mapping[str, Outcomes]], output: Path) -> None:
    """Draw the excess losses under three conditions."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    titles = {
        "q20": "silent with probability 0.2",
        "slow": "6 of 31 slow for good",
        "batch": "mini-batches of 10%, q = 0.2",
    }
    panels = figure.subplots(1, len(titles), sharey=True)
    for axes, (condition, title) in zip(panels, titles.items(), strict=True):
        curves(axes, runs.get(condition, {}), title)
    panels[0].set_ylabel("loss above the smallest, relative")
    drawn = {
        str(curve.get_label()): curve
        for axes in panels
        for curve in axes.get_lines()
        if not str(curve.get_label()).startswith("_")
    }
    title = "solid: with memory, dotted: without"
    panels[-1].legend(
        drawn.values(), drawn.keys(), fontsize="small", title=title, title_fontsize="small"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


def main() -> int:
    """Print the tables and draw."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    p.add_argument("--runs", type=Path, default=Path("runs") / "memory-simulated", metavar="DIR")
    p.add_argument("--output", type=Path, default=Path("docs") / "accuracy.png", metavar="FILE")
    p.add_argument("--mpi", action="store_true", help="the folder has runs over MPI")
    options = p.parse_args()
    jobs = in_order(SWEEP, read_sweep(SWEEP, options.runs, simulated=not options.mpi))
    runs: dict[str, dict[str, dict[int, Outcome]]] = defaultdict(lambda: defaultdict(dict))
    missing = 0
    for job in jobs:
        if job.complete:
            competitor = job.name.removesuffix(f"-{job.condition}")
            runs[job.condition][competitor][job.experiment.seed] = Outcome.of(job)
        else:
            missing += 1
    if not runs:
        print(
            f"memory: no complete run in {options.runs}; see the head of this file", file=sys.stderr
        )
        return 1
    for condition, competitors in runs.items():
        print(table(condition, competitors))
    print(f"# {len(jobs) - missing} runs of {len(jobs)}")
    draw(runs, options.output)
    print(f"# figure: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
