"""Figure 3 of the paper: random signs on the projective plane of order 9 (91 workers), m = 2.

Run: ``python analysis/figure3.py`` (seconds; 100 encoding matrices x 1,000 straggler sets for each
of 15 straggler counts). Results are stored in figures/figure3.h5 and drawn from there.
"""

from __future__ import annotations

import curves
import numpy as np

from gcmpi import bounds, errors
from gcmpi.assignments import projective_plane
from gcmpi.codes.ensemble import Ensemble

M = 2
COUNTS = (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22)


def main() -> None:
    """Compute what is not stored, print it and draw it."""
    options = curves.options(__doc__, "figure3")
    A = projective_plane(9)
    n, total = A.shape[1], M * A.shape[0]

    def compute() -> curves.Columns:
        random, stacked = (
            errors.curve(
                Ensemble(A, M, encoding),
                COUNTS,
                draws=options.draws,
                sets=options.sets,
                seed=options.seed,
                progress=curves.progress(encoding),
            ).points
            for encoding in ("random-diagonal", "stacked")
        )
        return {
            "s": np.array(COUNTS),
            "mean": np.array([p.error.mean for p in random]),
            "stderr": np.array([p.error.stderr for p in random]),
            "max": np.array([p.error.maximum for p in random]),
            "corollary_1": np.array([bounds.corollary_1(A, M, s) for s in COUNTS]),
            "baseline": np.array([p.error.mean for p in stacked]),
            "claim_1": np.array([bounds.claim_1(A, M, s) for s in COUNTS]),
        }

    setting = {
        "code": "projective-plane:order=9 + random-diagonal, m=2",
        "draws": options.draws,
        "sets": options.sets,
        "seed": options.seed,
        "counts": COUNTS,
    }
    x = curves.cached(options.results, setting, compute)
    curves.table(x)
    figure, ax = curves.axes(f"BIBD (91, 91, 10, 10, 1), $m = 2$, random signs ($mk = {total}$)")
    share = x["s"] / n
    ax.plot(share, x["baseline"], "s-", ms=4, color="C3", label="baseline (stacked), mean")
    ax.plot(share, x["corollary_1"], "--", color="C0", label="Corollary 1")
    ax.errorbar(
        share, x["mean"], 3 * x["stderr"], fmt="o-", ms=4, color="C0", label="random signs, mean"
    )
    ax.plot(share, x["claim_1"], ":", color="k", label="Claim 1 (worst case)")
    curves.save(figure, ax, options.output)


if __name__ == "__main__":
    main()
