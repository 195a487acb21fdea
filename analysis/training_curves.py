"""Loss against iterations and time: our codes, and what they replace, over MPI.

    python analysis/training_curves.py [--runs DIR] [--output FILE]

Runs what is missing of jobs/curves.toml first (130 runs of 200 iterations on 32 ranks: about
twenty minutes on two cores, with mpirun on the PATH; it may be interrupted and started again), then
draws. One column for each share q of silent workers. Above: the loss relative to that of full
gradient descent at the same iteration, paired by seed. Below: the loss over training time. On a
machine with fewer cores than ranks the time counts the work of all workers, six times as
much with a load of 6 subsets as uncoded; on a cluster they work side by side.
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
from gcmpi.arrays import Array

ROOT = Path(__file__).parent.parent
REFERENCE = "full-gradient"
SHARES = {"q05": "q = 0.05", "q10": "q = 0.1", "q25": "q = 0.25"}
SCHEMES = {
    "uncoded": ("uncoded, stragglers ignored", "C3", ":"),
    "random-diagonal": ("random diagonal, m = 2", "C0", "--"),
    "gaussian-exact": ("exact for 4 stragglers, m = 2", "C1", "-."),
    "exact-trained": ("exact-trained, m = 2", "C2", "-"),
}

Runs = Mapping[str, Sequence[xr.Dataset]]


def values(runs: Sequence[xr.Dataset], name: str) -> Array:
    """Return a column of all seeds, shape (seeds, audits)."""
    return np.array([run[name].values for run in runs])


def draw(sweep: Runs, output: Path) -> None:
    """Draw medians over the seeds and, of the ratios, the range."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.5), sharey="row", layout="constrained")
    reference = sweep[REFERENCE]
    full = values(reference, "loss")
    iterations = reference[0]["iteration"].values + 1
    for (above, below), (share, title) in zip(axes.T, SHARES.items(), strict=True):
        for scheme, (label, color, style) in SCHEMES.items():
            runs = sweep[f"{scheme}-{share}"]
            loss = values(runs, "loss")
            excess = 100 * (loss / full - 1)
            above.fill_between(
                iterations, excess.min(axis=0), excess.max(axis=0), color=color, alpha=0.15, lw=0
            )
            above.plot(iterations, np.median(excess, axis=0), style, color=color, label=label)
            seconds = np.median(values(runs, "seconds"), axis=0)
            below.plot(seconds, np.median(loss, axis=0), style, color=color)
        seconds = np.median(values(reference, "seconds"), axis=0)
        below.plot(
            seconds, np.median(full, axis=0), "k", lw=0.8, label="full gradient, no stragglers"
        )
        above.axhline(0, color="k", lw=0.8)
        above.axhspan(-2, 2, color="0.9", zorder=0)
        above.set_title(title, fontsize="medium")
        above.set_xlabel("iterations")
        below.set_xlabel("training time [s]")
        below.set_yscale("log")
        for axis in (above, below):
            axis.grid(alpha=0.3, which="both")
    axes[0, 0].set_ylabel("loss above full gradient descent [%]")
    axes[1, 0].set_ylabel("training loss")
    axes[0, 0].legend(fontsize="small", title=f"median and range of {len(full)} seeds; grey: ±2%")
    axes[1, 0].legend(fontsize="small")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


def table(sweep: Runs) -> str:
    """Return how far each scheme is from full gradient descent, and what an iteration takes."""
    full = values(sweep[REFERENCE], "loss")
    lines = [
        "# loss above full gradient descent [%]: largest over the iterations, and at the end "
        "(lowest to highest seed)",
        f"# {'':<20} {'q':<9} {'largest':>8}   {'at the end':>22}  gradient error  iteration [ms]",
    ]
    for share, title in SHARES.items():
        for scheme in SCHEMES:
            runs = sweep[f"{scheme}-{share}"]
            excess = 100 * (values(runs, "loss") / full - 1)
            far = np.abs(np.median(excess, axis=0)).max()
            last = excess[:, -1]
            end = f"{np.median(last):6.2f} ({last.min():.2f} to {last.max():.2f})"
            error = np.median(values(runs, "gradient_error"))
            seconds = values(runs, "seconds")
            each = 1e3 * np.median(np.diff(seconds) / np.diff(runs[0]["iteration"].values))
            lines.append(
                f"  {scheme:<20} {title:<9} {far:8.2f}   {end:>22}  {error:14.2g}  {each:14.1f}"
            )
    return "\n".join(lines)


def main() -> int:
    """Run, draw, print."""
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--runs", type=Path, default=Path("runs") / "curves", metavar="DIR")
    p.add_argument(
        "--output", type=Path, default=Path("figures") / "training_curves.png", metavar="FILE"
    )
    p.add_argument("--launcher", default="mpirun -n {ranks}")
    options = p.parse_args()
    try:
        sweep = load_sweep(ROOT / "jobs" / "curves.toml", options.runs, options.launcher)
    except ValueError as error:
        print(f"training_curves: {error}", file=sys.stderr)
        return 1
    draw(sweep, options.output)
    print(table(sweep))
    print(f"# figure: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
