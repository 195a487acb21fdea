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
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a script: find `analysis`

from analysis.load import load_sweep

ROOT = Path(__file__).parent.parent
PANELS = {
    "coset": "(a) coset graph (27, 2, 5), n = 54, ε = 0.1",
    "bibd": "(b) BIBD (7, 7, 3, 3, 1), n = 7, ε = 0",
}
STYLES = {"random-diagonal": ("random diagonal", "C0", "-"), "stacked": ("stacked", "C1", "--")}

Runs = Mapping[str, Sequence[xr.Dataset]]


def draw(sweep: Runs, output: Path) -> None:
    """Draw both panels: the mean over the seeds, and the band from the lowest to the highest."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True, layout="constrained")
    for axis, (panel, title) in zip(axes, PANELS.items(), strict=True):
        for encoding, (label, color, style) in STYLES.items():
            runs = sweep[f"{panel}-{encoding}"]
            iteration = runs[0]["iteration"].values + 1
            losses = np.array([run["loss"].values for run in runs])
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


def table(sweep: Runs) -> str:
    """Return the mean final losses, and the paired ratio stacked / random diagonal by panel."""
    lines = [
        "# panel   random diagonal   stacked   ratio of losses, paired by seed (lowest-highest)"
    ]
    for panel in PANELS:
        coded, stacked = (
            np.array([run["loss"].values[-1] for run in sweep[f"{panel}-{encoding}"]])
            for encoding in STYLES
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
        sweep = load_sweep(ROOT / "jobs" / "figure6.toml", options.runs, options.launcher)
    except ValueError as error:
        print(f"figure6: {error}", file=sys.stderr)
        return 1
    draw(sweep, options.output)
    print(table(sweep))
    print(f"# figure: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
