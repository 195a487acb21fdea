"""A choice of m in every iteration against fixed m: a table of docs/codes.md, docs/switching.png.

    python analysis/switching.py [--iterations T] [--output FILE]    (two minutes on one core)

Workers are silent with probability 0.02, in the middle third of the iterations with 0.3; all runs,
simulated, follow the same trace. The code for m = 1 is trained the first time, a minute more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a script: find `analysis`

from analysis.simulated import simulate
from gcmpi import environment
from gcmpi.arrays import AnyArray
from gcmpi.registry import ASSIGNMENTS

WORKERS, PLANE = 31, "projective-plane:order=5"
CODES = {
    "groups": ("groups:n=31,c=5", "frame"),
    "exact-trained": (PLANE, "exact-trained"),
    "harmonic": (PLANE, "harmonic"),
}
CALM, STORM = 0.02, 0.3
RULES: dict[str, dict[str, Any]] = {
    "m = 1": {"m": 1},
    "m = 2": {"m": 2},
    "m = 3": {"m": 3},
    "m = 3, switch": {"m": 3, "switch": "observed"},
    "m = 3, memory": {"m": 3, "memory": "1"},
}
Columns = Mapping[str, AnyArray]


def write_trace(path: Path, iterations: int) -> slice:
    """Write seconds, none for silent workers; return the iterations with many of these."""
    storm = slice(iterations // 3, 2 * iterations // 3)
    share = np.full((iterations, 1), CALM)
    share[storm] = STORM
    silent = np.random.default_rng(0).random((iterations, WORKERS)) < share
    np.savetxt(path, np.where(silent, np.nan, 1.0), delimiter=",")
    return storm


def with_part_lost(run: Columns, k: int) -> Columns:
    """Return the columns with Err_S / (mk) of every iteration, ``lost``."""
    return {**run, "lost": run["approximation_error"] / (run["m"] * k)}


def row(run: Columns, storm: slice) -> str:
    """Return a row of the table."""
    sent = run["bytes_up"] / 1e6
    error = np.nanmedian(run["gradient_error"][storm])
    used = ", ".join(f"{np.count_nonzero(run['m'] == m)} with m = {m}" for m in np.unique(run["m"]))
    return (
        f"{sent.sum():8.1f} {sent[storm].sum():8.1f} {run['lost'][storm].mean():8.3f} "
        f"{error:8.2g} {run['loss'][-1]:8.4f}  {used}"
    )


def draw(code: str, runs: Mapping[str, Columns], storm: slice, output: Path) -> None:
    """Draw m, the error and the bytes over the iterations."""
    figure = Figure(figsize=(7.5, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 1, sharex=True)
    for (name, run), color in zip(runs.items(), ("C0", "C1", "C3", "k", "C2"), strict=True):
        look = {"color": color, "lw": 1.8 if "switch" in name else 1.1, "label": name}
        width = min(10, len(run["m"]))
        mean = np.convolve(run["lost"], np.full(width, 1 / width), "valid")
        panels[0].step(run["iteration"], run["m"], where="mid", **look)
        panels[1].plot(run["iteration"][width - 1 :], mean, **look)
        panels[2].plot(run["iteration"], np.cumsum(run["bytes_up"]) / 1e6, **look)
    panels[0].set(ylabel="m", yticks=(1, 2, 3))
    panels[1].set_ylabel("$\\mathrm{Err}_S/(mk)$, mean of\nthe last 10 iterations")
    panels[2].set(ylabel="megabytes up", xlabel="iteration")
    panels[2].legend(fontsize="small")
    for panel in panels:
        panel.axvspan(storm.start, storm.stop, color="0.92", zorder=0)
        panel.grid(alpha=0.3)
    title = f"{code}; grey: workers silent with probability {STORM}, else {CALM}"
    panels[0].set_title(title, fontsize="medium")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=100)


def main() -> None:
    """Print the table and draw the runs of the first encoding."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument(
        "--codes", nargs="+", default=[*CODES], choices=CODES, help="the first is drawn"
    )
    parser.add_argument("--output", type=Path, default=Path("docs") / "switching.png")
    options = parser.parse_args()
    environment.one_blas_thread()
    found: dict[str, dict[str, Columns]] = {code: {} for code in options.codes}
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace.csv"
        storm = write_trace(trace, options.iterations)
        print(
            f"# MB; in iterations {storm.start} to {storm.stop - 1} MB, Err_S/(mk), gradient error;"
        )
        print("# loss at the end, iterations with each m")
        for code, runs in found.items():
            assignment, encoding = CODES[code]
            k = len(ASSIGNMENTS.build(assignment))
            for name, rule in RULES.items():
                run = simulate(
                    assignment=assignment,
                    encoding=encoding,
                    problem="softmax",
                    stragglers=f"trace:{trace}",
                    wait="all",
                    iterations=options.iterations,
                    audit_every=4,
                    optimizer="momentum:rate=0.1",
                    **rule,
                )
                runs[name] = with_part_lost(run, k)
                print(f"  {code:<14} {name:<14} {row(runs[name], storm)}", flush=True)
    draw(options.codes[0], found[options.codes[0]], storm, options.output)


if __name__ == "__main__":
    main()
