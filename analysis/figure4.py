"""Figure 4 of the paper: random diagonals (epsilon = 0.1) on the coset graph (27, 2, 5), m = 2.

Run: ``python analysis/figure4.py`` (some 20 s; 100 encoding matrices x 1,000 straggler sets for
each s from 0 to 13 of 54 workers). Results are stored in figures/figure4.h5 and drawn from there.
"""

from __future__ import annotations

import curves
import numpy as np

from gcmpi import bounds, errors, seeds
from gcmpi.assignments import coset
from gcmpi.codes.ensemble import Ensemble

M, EPSILON = 2, 0.1
GENERATORS = (0, 1, 3, 9, 20)
COUNTS = tuple(range(14))


def main() -> None:
    """Compute what is not stored, print it and draw it."""
    options = curves.options(__doc__, "figure4")
    A = coset(27, M, GENERATORS)
    n, total = A.shape[1], M * A.shape[0]

    def compute() -> curves.Columns:
        points = errors.curve(
            Ensemble(A, M, f"random-diagonal:epsilon={EPSILON}"),
            COUNTS,
            draws=options.draws,
            sets=options.sets,
            seed=options.seed,
            progress=curves.progress("random diagonals"),
        ).points
        lemma = errors.LeastSquaresBound(*bounds.lemma_1_problem(A, M, EPSILON), M)
        over_sets = errors.sample_from(
            lambda _: lemma,
            COUNTS,
            seeds.generator(options.seed, seeds.MONTE_CARLO),
            draws=options.draws,
            sets=options.sets,
            progress=curves.progress("Lemma 1"),
        )
        return {
            "s": np.array(COUNTS),
            "mean": np.array([p.error.mean for p in points]),
            "stderr": np.array([p.error.stderr for p in points]),
            "max": np.array([p.error.maximum for p in points]),
            "lemma_1_mean": np.array([x.mean for x in over_sets]),
            "lemma_1_max": np.array([x.maximum for x in over_sets]),
            "corollary_3": np.array([bounds.corollary_3(A, M, s, EPSILON) for s in COUNTS]),
            "claim_1": np.array([bounds.claim_1(A, M, s) for s in COUNTS]),
        }

    setting = {
        "code": f"coset:k=27,m=2,generators={GENERATORS} + random-diagonal:epsilon={EPSILON}, m=2",
        "draws": options.draws,
        "sets": options.sets,
        "seed": options.seed,
        "counts": COUNTS,
    }
    x = curves.cached(options.results, setting, compute)
    curves.table(x)
    figure, ax = curves.axes(
        rf"coset graph (27, 2, 5), $m = 2$, random diagonal, $\epsilon = 0.1$ ($mk = {total}$)"
    )
    share = x["s"] / n
    ax.plot(share, x["corollary_3"], "-.", color="C2", label="Corollary 3")
    ax.plot(share, x["lemma_1_max"], "--", color="C1", label="Lemma 1, largest over $S$")
    ax.plot(share, x["lemma_1_mean"], "--", color="C0", label="Lemma 1, mean over $S$")
    ax.errorbar(
        share, x["mean"], 3 * x["stderr"], fmt="o-", ms=4, color="C0", label="random diagonal, mean"
    )
    ax.plot(share, x["claim_1"], ":", color="k", label="Claim 1 (worst case)")
    curves.save(figure, ax, options.output)


if __name__ == "__main__":
    main()
