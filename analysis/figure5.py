"""Figure 5 of the paper: random Hadamard encodings on a bi-regular graph, 40 workers, m = 2.

Run: ``python analysis/figure5.py`` (about a minute, most of it in the search for vectors of signs;
100 encoding matrices of each kind x 1,000 straggler sets for each s from 0 to 10). Results are
stored in figures/figure5.h5 and drawn from there. Lemma 2 holds for each matrix: its largest value
over the sets is drawn, averaged over the matrices.
"""

from __future__ import annotations

from typing import Literal

import curves
import numpy as np

from gcmpi import bounds, errors, seeds
from gcmpi.arrays import Array
from gcmpi.assignments import biregular
from gcmpi.encodings import random_hadamard, stacked

M = 2
COUNTS = tuple(range(11))
VARIANTS: tuple[Literal["signs", "gaussian"], ...] = ("signs", "gaussian")


def main() -> None:
    """Compute what is not stored, print it and draw it."""
    options = curves.options(__doc__, "figure5")
    A = biregular(40, 20, 3, seed=0)
    n, total = A.shape[1], M * A.shape[0]

    def compute() -> curves.Columns:
        columns: dict[str, Array] = {
            "s": np.array(COUNTS),
            "claim_1": np.array([bounds.claim_1(A, M, s) for s in COUNTS]),
        }
        for variant in VARIANTS:
            codes_rng, sets_rng = seeds.generator(options.seed, seeds.MONTE_CARLO).spawn(2)
            report = curves.progress(variant)
            means, largest, lemma = [], [], []
            for done in range(options.draws):
                B = random_hadamard(A, M, codes_rng, variant)
                order = errors.orders(n, options.sets, sets_rng)
                found = errors.ErrorEngine(B, errors.target(B, M)).nested(order, COUNTS)
                means.append(found.mean(axis=0))
                largest.append(found.max(axis=0))
                lemma.append(
                    errors.EachSetBound(bounds.lemma_2, B, M).nested(order, COUNTS).max(axis=0)
                )
                report(done + 1, options.draws)
            columns[f"mean_{variant}"] = np.mean(means, axis=0)
            columns[f"stderr_{variant}"] = np.std(means, axis=0, ddof=1) / np.sqrt(options.draws)
            columns[f"max_{variant}"] = np.max(largest, axis=0)
            columns[f"lemma_2_{variant}"] = np.mean(lemma, axis=0)
        baseline = errors.sample(
            lambda _: stacked(A, M),
            M,
            COUNTS,
            seeds.generator(options.seed, seeds.MONTE_CARLO),
            draws=options.draws,
            sets=options.sets,
        )
        return {**columns, "baseline": np.array([x.mean for x in baseline])}

    setting = {
        "code": "biregular:n=40,k=20,delta=3,seed=0 + random-hadamard, m=2",
        "draws": options.draws,
        "sets": options.sets,
        "seed": options.seed,
        "counts": COUNTS,
    }
    x = curves.cached(options.results, setting, compute)
    curves.table(x)
    figure, ax = curves.axes(
        f"bi-regular graph, $n = 40$, $k = 20$, $\\delta = 3$, $m = 2$, Hadamard ($mk = {total}$)"
    )
    share = x["s"] / n
    ax.plot(share, x["baseline"], "s-", ms=4, color="C3", label="baseline (stacked), mean")
    for variant, color, name in (("signs", "C0", r"$\pm 1$"), ("gaussian", "C1", "Gaussian")):
        ax.plot(share, x[f"lemma_2_{variant}"], "--", color=color, label=f"{name}: Lemma 2")
        ax.errorbar(
            share,
            x[f"mean_{variant}"],
            3 * x[f"stderr_{variant}"],
            fmt="o-",
            ms=4,
            color=color,
            label=f"{name}: mean",
        )
    ax.plot(share, x["claim_1"], ":", color="k", label="Claim 1 (worst case)")
    curves.save(figure, ax, options.output)


if __name__ == "__main__":
    main()
