"""The paper's code, our best one and uncoded training side by side: docs/best.png.

    python analysis/best.py [--iterations T] [--seeds S] [--output FILE]   (a minute on one core)

The code of the default run (jobs/train.toml), jobs/best.toml, and uncoded training with and without
memory, all simulated on the same digits, initial parameters and stragglers: softmax with Adam on
digits sorted by label, so that subsets differ, a quarter of the workers silent. A line is the
median over the seeds. Prints loss and gradient error at the end, and what workers send.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a script: find `analysis`

from analysis.panels import BLUE, GREEN, GREY, ORANGE
from analysis.simulated import simulate
from gcmpi import environment
from gcmpi.arrays import Array

PURPLE = "#CC79A7"
COMMON = {
    "problem": "softmax",
    "dataset": "mnist-10k:test=6000,by_label=true",
    "optimizer": "adam:rate=0.003",
    "wait": "all",
}
UNCODED = {"assignment": "uncoded:n=31", "encoding": "uncoded", "m": 1}
ROOT = Path(__file__).parent.parent
BEST = tomllib.loads((ROOT / "jobs" / "best.toml").read_text(encoding="utf-8"))
COMPARED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "full gradient": ({**UNCODED, "stragglers": "none"}, GREY),
    "uncoded": (UNCODED, ORANGE),
    "the paper's (default)": ({}, BLUE),
    "uncoded with memory": ({**UNCODED, "memory": "1"}, PURPLE),
    "jobs/best.toml": (BEST, GREEN),
}


def main() -> None:
    """Run, print the table and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs") / "best.png")
    options = parser.parse_args()
    environment.one_blas_thread()
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    print("# at the end, medians over seeds:    loss  gradient error  MB up")
    for name, (settings, color) in COMPARED.items():
        loss, error, sent = [], [], []
        for seed in range(options.seeds):
            each = {"seed": seed, "iterations": options.iterations}
            run = simulate(share=True, **COMMON, **settings, **each)
            audited = np.isfinite(run["loss"])
            loss.append(run["loss"][audited])
            error.append(run["gradient_error"][audited])
            sent.append(run["bytes_up"].sum() / 1e6)
        iterations = run["iteration"][audited]
        curve, errors = _median(loss), _median(error)
        print(
            f"  {name:<30} {curve[-1]:9.4f} {errors[-1]:15.2g} {np.median(sent):6.0f}", flush=True
        )
        left.plot(iterations, curve, color=color, label=name)
        right.semilogy(iterations, np.maximum(errors, 1e-6), color=color, label=name)
    left.set(xlabel="iteration", ylabel="training loss", ylim=(0.2, 0.5))
    right.set(xlabel="iteration", ylabel="relative error of the gradient")
    right.legend(fontsize="x-small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=100)


def _median(rows: list[Array]) -> Array:
    median: Array = np.median(np.array(rows), axis=0)
    return median


if __name__ == "__main__":
    main()
