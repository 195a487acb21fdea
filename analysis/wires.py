"""Gradient errors and decoding times of short messages: the table "Decoding" of docs/codes.md.

    python analysis/wires.py [--iterations T]      (two minutes on one core)

An exact code is decoded at its limit, where some straggler sets are nearly singular: n - t of the
workers answer, all iterations are audited. Runs are simulated; only the decoding is timed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a script: find `analysis`

from analysis.simulated import simulate
from gcmpi import Code, environment
from gcmpi.codes.decoders.least_squares import noise_gain
from gcmpi.registry import ASSIGNMENTS, ENCODINGS

ASSIGNMENT, ENCODING, M, T = "projective-plane:order=5", "exact-trained", 2, 4
ROWS = [
    (wire, decoder)
    for wire, ridge in (("float16", "ridge:eps=1e-6"), ("bfloat16", "ridge:eps=6e-5"))
    for decoder in ("least-squares", ridge, "auto")
]
SEEDS = (0, 1)


def gains(sets: int) -> str:
    """Return the noise gain of least squares for random sets of T stragglers."""
    A = ASSIGNMENTS.build(ASSIGNMENT)
    code = Code(A, ENCODINGS.build(ENCODING, A=A, m=M), M)
    rng, n = np.random.default_rng(0), A.shape[1]
    found = [noise_gain(code, code.decode(rng.permutation(n) >= T)) for _ in range(sets)]
    shown = np.quantile(found, (0.5, 0.99, 1))
    return "# noise gain: median {:.3g}, 99% {:.3g}, largest {:.3g} of {}".format(*shown, sets)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--iterations", type=int, default=150, help="for each of two seeds")
    iterations: int = parser.parse_args().iterations
    environment.one_blas_thread()
    print(gains(20 * iterations), flush=True)
    print("# wire      decoder            median      99%  largest      rms  decode [ms]")
    for wire, decoder in ROWS:
        runs = [
            simulate(
                assignment=ASSIGNMENT,
                encoding=ENCODING,
                m=M,
                problem="softmax",
                stragglers="none",
                wait=f"fastest:{31 - T}",
                iterations=iterations,
                audit_every=1,
                optimizer="momentum:rate=0.1",
                wire=wire,
                decoder=decoder,
                seed=seed,
            )
            for seed in SEEDS
        ]
        error = np.concatenate([run["gradient_error"] for run in runs])
        shown = *np.quantile(error, (0.5, 0.99, 1)), np.sqrt(np.mean(error**2))
        seconds = np.median(np.concatenate([run["decode_seconds"] for run in runs]))
        columns = " ".join(f"{value:8.2g}" for value in shown)
        print(f"  {wire:<9} {decoder:<16} {columns} {1e3 * seconds:12.2f}", flush=True)


if __name__ == "__main__":
    main()
