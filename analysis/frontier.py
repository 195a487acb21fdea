"""Mean error against the worst error found, for the codes of docs/designs.md: docs/frontier.png.

Run: ``python analysis/frontier.py`` (about three minutes on one core the first time; trained
codes are kept in the user's cache). The plane of order 5, m = 2, for 3, 5 and 8 stragglers of
31: the mean over 2,000 random sets and the largest error that `gcmpi.errors.worst_set` finds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gcmpi import environment
from gcmpi.errors import ErrorEngine, orders, target, worst_set
from gcmpi.registry import ASSIGNMENTS, ENCODINGS

ASSIGNMENT, M, COUNTS, SETS = "projective-plane:order=5", 2, (3, 5, 8), 2000
CODES = {
    "random-diagonal": ["random-diagonal"],
    "harmonic": [f"harmonic:t={t}" for t in (0, 2, 4)],
    "exact-trained": ["exact-trained"],
    "exact-trained, attacked": [
        f"exact-trained:attack={w},steps=3000" for w in (0.1, 0.3, 0.5, 0.7)
    ],
    "cyclic-trained": [f"cyclic-trained:attack={w}" for w in (0.3, 0.5, 0.7)],
}


def main() -> None:
    """Print the points and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("docs") / "frontier.png")
    output: Path = parser.parse_args().output
    environment.one_blas_thread()
    A = ASSIGNMENTS.build(ASSIGNMENT)
    order = orders(A.shape[1], SETS, np.random.default_rng(0))
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COUNTS))
    print(f"# {ASSIGNMENT}, m={M}: mean and worst Err_S for s = {COUNTS}")
    for family, encodings in CODES.items():
        points = []
        for encoding in encodings:
            B = ENCODINGS.build(encoding, A=A, m=M, rng=np.random.default_rng(0))
            means = ErrorEngine(B, target(B, M)).nested(order, COUNTS).mean(axis=0)
            worst = [worst_set(A, B, M, s, np.random.default_rng(s))[1] for s in COUNTS]
            points.append((means, worst))
            shown = "   ".join(f"{a:7.3f} {b:7.3f}" for a, b in zip(means, worst, strict=True))
            print(f"  {encoding:<36} {shown}", flush=True)
        for axes, x, y in zip(panels, *np.array(points).transpose(1, 2, 0), strict=True):
            axes.plot(x, y, "o-", ms=4, lw=0.8, label=family)
    for axes, s in zip(panels, COUNTS, strict=True):
        axes.set_title(f"{s} stragglers of {A.shape[1]}", fontsize="medium")
        axes.set_xlabel("mean error")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("worst error found")
    panels[0].legend(fontsize="x-small")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main()
