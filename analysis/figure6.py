"""Figure 6 of Munim and Ramamoorthy (2026): training loss over MPI, random diagonal and stacked.

    python analysis/figure6.py [--runs DIR] [--output FILE]

Runs what is missing of jobs/figure6.toml first (80 runs of 300 iterations on 8 and 55 ranks:
about half an hour on two cores, with mpirun on the PATH; it may be interrupted and started again),
then draws from the run files in DIR. Panel (a): coset graph (27, 2, 5), epsilon = 0.1. Panel (b):
BIBD (7, 7, 3, 3, 1), epsilon = 0. m = 2, a quarter of the workers silent in every iteration.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a script: find `analysis`

from analysis.load import load
from gcmpi.sweep import read_sweep, run_sweep

ROOT = Path(__file__).parent.parent
PANELS = {
    "coset": "(a) coset graph (27, 2, 5), n = 54, ε = 0.1",
    "bibd": "(b) BIBD (7, 7, 3, 3, 1), n = 7, ε = 0",
}
STYLES = {"random-diagonal": ("random diagonal", "C0", "-"), "stacked": ("stacked", "C1", "--")}

Curves = dict[str, list[tuple[Any, Any]]]


def read_curves(directory: Path, launcher: str) -> Curves:
    """Return (iteration, loss) of every run by competitor; runs what is not complete.

    Raises
    ------
    ValueError
        If a run failed.
    """
    jobs = read_sweep(ROOT / "jobs" / "figure6.toml", directory)
    if run_sweep(jobs, launcher):
        raise ValueError("some runs failed: see the lines above")
    curves: Curves = defaultdict(list)
    for job in jobs:
        run = load(job.output)
        audited = np.isfinite(run["loss"].values)
        curves[job.name].append((run["iteration"].values[audited], run["loss"].values[audited]))
    return curves


def draw(curves: Curves, output: Path) -> None:
    """Draw both panels: the mean over the seeds, and the band from the lowest to the highest."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True, layout="constrained")
    for axis, (panel, title) in zip(axes, PANELS.items(), strict=True):
        for encoding, (label, color, style) in STYLES.items():
            runs = curves[f"{panel}-{encoding}"]
            iteration = runs[0][0] + 1
            losses = np.array([loss for _, loss in runs])
            mean = losses.mean(axis=0)
            axis.fill_between(
                iteration, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.2, lw=0
            )
            axis.plot(iteration, mean, style, color=color, label=f"{label}, m = 2")
        axis.set_title(title, fontsize=11)
        axis.set_yscale("log")
        axis.set_xlabel("iterations")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("training loss")
    axes[0].legend(title=f"mean and range of {len(losses)} seeds, q = 0.25")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=160)


def table(curves: Curves) -> str:
    """Return the mean final losses, and the paired ratio stacked / random diagonal by panel."""
    lines = [
        "# panel   random diagonal   stacked   ratio of losses, paired by seed (lowest-highest)"
    ]
    for panel in PANELS:
        coded, stacked = (
            np.array([loss[-1] for _, loss in curves[f"{panel}-{encoding}"]]) for encoding in STYLES
        )
        ratio = stacked / coded
        lines.append(
            f"{panel:<9} {coded.mean():15.4f} {stacked.mean():9.4f}   {np.median(ratio):.3f} "
            f"({ratio.min():.3f}-{ratio.max():.3f})"
        )
    return "\n".join(lines)


def main() -> int:
    """Run, draw, print."""
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--runs", type=Path, default=Path("runs") / "figure6", metavar="DIR")
    p.add_argument("--output", type=Path, default=Path("figures") / "figure6.png", metavar="FILE")
    p.add_argument("--launcher", default="mpirun -n {ranks}")
    options = p.parse_args()
    try:
        curves = read_curves(options.runs, options.launcher)
    except ValueError as error:
        print(f"figure6: {error}", file=sys.stderr)
        return 1
    draw(curves, options.output)
    print(table(curves))
    print(f"# figure: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
