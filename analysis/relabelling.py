"""Fixed codes with and without relabelling: the table of docs/designs.md.

    python analysis/relabelling.py [--iterations T]       (three minutes on one core)

The relative bias ||E[B_S R] / alpha - F|| / ||F|| of each code with a quarter of the workers
straggling, and training with it: the loss above the optimum, times 10^5, mean of the last third of
the iterations and of three seeds. The optimum is that of momentum with full gradients.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a script: find `analysis`

from analysis.simulated import simulate
from gcmpi import environment
from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.decoders.least_squares import Downdate
from gcmpi.codes.ensemble import Ensemble
from gcmpi.encodings import random_diagonal
from gcmpi.registry import ASSIGNMENTS, ENCODINGS

PLANE, COSET = "projective-plane:order=5", "coset:k=27,m=2,generators=0+1+3+9+20"
CODES = (
    ("exact-trained", PLANE),
    ("weighted-rank-one:trained=true", PLANE),
    ("random-hadamard", COSET),
    ("one-random-diagonal", PLANE),
)
M, SHARE, SEEDS, EVERY = 2, 0.25, (0, 1, 2), 25
SETTINGS: dict[str, Any] = {
    "problem": "softmax",
    "dataset": "mixture:rows=3100,features=20",
    "dtype": "float64",
    "wire": "float64",
    "wait": "all",
}


@ENCODINGS.register("one-random-diagonal")
def one_random_diagonal(A: AnyArray, m: int, rng: np.random.Generator) -> Array:
    """Return a random diagonal code (m * k, n) that is not drawn anew in every iteration."""
    return random_diagonal(A, m, rng)


def bias(encoding: str, assignment: str, sets: int) -> float:
    """Return the relative bias of a fixed code."""
    A = ASSIGNMENTS.build(assignment)
    code = Ensemble(A, M, ENCODINGS.parse(encoding)).at(0)
    decode, rng = Downdate(code), np.random.default_rng(0)
    late = rng.random((sets, code.n)) < SHARE
    mean = code.B @ (sum(decode(~row) for row in late) / sets)
    alpha = np.sum(code.target * mean) / np.sum(code.target**2)
    return float(np.linalg.norm(mean / alpha - code.target) / np.linalg.norm(code.target))


def optimum(seed: int, iterations: int) -> float:
    """Return the least loss of the data of a seed."""
    run = simulate(
        assignment="uncoded:n=31",
        encoding="uncoded",
        m=1,
        stragglers="none",
        optimizer="momentum:rate=0.5",
        iterations=iterations,
        audit_every=iterations,
        seed=seed,
        **SETTINGS,
    )
    return float(run["loss"][-1])


def losses(encoding: str, assignment: str, seed: int, iterations: int, *, relabel: bool) -> Array:
    """Return the audited losses of the last third of a run."""
    run = simulate(
        assignment=assignment,
        encoding=encoding,
        m=M,
        relabel=relabel,
        stragglers=f"bernoulli:q={SHARE}",
        optimizer="sgd:rate=0.5",
        iterations=iterations,
        audit_every=EVERY,
        seed=seed,
        **SETTINGS,
    )
    last: Array = run["loss"][2 * iterations // 3 :]
    return last[np.isfinite(last)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--sets", type=int, default=40000, help="straggler sets for the bias")
    options = parser.parse_args()
    environment.one_blas_thread()
    least = {seed: optimum(seed, 2 * options.iterations) for seed in SEEDS}
    print("# code, assignment: bias, loss when fixed, loss when relabelled")
    for encoding, assignment in CODES:
        shown = [f"{bias(encoding, assignment, options.sets):.3f}"]
        for relabel in (False, True):
            above = [
                losses(encoding, assignment, seed, options.iterations, relabel=relabel).mean()
                - best
                for seed, best in least.items()
            ]
            shown.append(
                f"{1e5 * np.mean(above):.2g} ({1e5 * min(above):.2g} to {1e5 * max(above):.2g})"
            )
        print(f"  {encoding:<31} {assignment:<38} {'   '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
