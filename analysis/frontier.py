"""Mean error against the worst error found, for groups, graphs and a plane: docs/frontier.png.

Run: ``python analysis/frontier.py`` (about three minutes on one core the first time; trained
codes are kept in the user's cache). 31 workers, m = 2, for 3, 5 and 8 stragglers: the mean over
2,000 random sets and the largest error that `gcmpi.errors.worst_set` finds, of m k scaled to 62.
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

WORKERS, M, SCALE, COUNTS, SETS = 31, 2, 62, (3, 5, 8), 2000
PLANE = "projective-plane:order=5"
CODES = {
    "plane, random-diagonal": [(PLANE, "random-diagonal")],
    "plane, harmonic": [(PLANE, f"harmonic:t={t}") for t in (0, 2, 4)],
    "plane, exact-trained": [(PLANE, "exact-trained")],
    "plane, exact-trained, attacked": [
        (PLANE, f"exact-trained:attack={w},steps=3000") for w in (0.1, 0.3, 0.5, 0.7)
    ],
    "plane, cyclic-trained": [(PLANE, f"cyclic-trained:attack={w}") for w in (0.3, 0.5, 0.7)],
    "groups, c = 4, 5, 6": [(f"groups:n=31,c={c}", "frame") for c in (4, 5, 6)],
    "graph, r = 2, c = 4, 5": [(f"graph:n=31,c={c},r=2", "frame") for c in (4, 5)],
}


def main() -> None:
    """Print the points and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("docs") / "frontier.png")
    output: Path = parser.parse_args().output
    environment.one_blas_thread()
    order = orders(WORKERS, SETS, np.random.default_rng(0))
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COUNTS))
    print(f"# {WORKERS} workers, m={M}: mean and worst Err_S, of {SCALE}, for s = {COUNTS}")
    for family, codes in CODES.items():
        points = []
        for assignment, encoding in codes:
            A = ASSIGNMENTS.build(assignment)
            scale = SCALE / (M * len(A))
            B = ENCODINGS.build(encoding, A=A, m=M, rng=np.random.default_rng(0))
            means = ErrorEngine(B, target(B, M)).nested(order, COUNTS).mean(axis=0) * scale
            worst = [worst_set(A, B, M, s, np.random.default_rng(s))[1] * scale for s in COUNTS]
            points.append((means, worst))
            shown = "   ".join(f"{a:7.3f} {b:7.3f}" for a, b in zip(means, worst, strict=True))
            print(f"  {assignment:<26} {encoding:<36} {shown}", flush=True)
        for axes, x, y in zip(panels, *np.array(points).transpose(1, 2, 0), strict=True):
            axes.plot(x, y, "o-", ms=4, lw=0.8, label=family)
    for axes, s in zip(panels, COUNTS, strict=True):
        axes.set_title(f"{s} stragglers of {WORKERS}", fontsize="medium")
        axes.set_xlabel("mean error")
        axes.set_xlim(left=-0.2)
        axes.set_ylim(bottom=-0.3)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("worst error found")
    panels[0].legend(fontsize="x-small")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main()
