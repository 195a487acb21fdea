"""How many times faster the error engine is than one least-squares solve for every straggler set.

Run: ``python analysis/benchmark_errors.py`` (about a minute). The code is that of figure 3: the
projective plane of order 9 (91 workers), m = 2, random signs. Both get the same sets in turns and
must agree; each line is one encoding matrix. "curve" are the 15 straggler counts of the figure,
"s = 15" that count alone.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from threadpoolctl import threadpool_limits

from gcmpi import errors, seeds
from gcmpi.arrays import Array, IntArray
from gcmpi.assignments import projective_plane
from gcmpi.encodings import random_diagonal

CURVE = (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22)


def plain(B: Array, F: Array, order: IntArray, counts: tuple[int, ...]) -> Array:
    """Return Err_S for the first s workers of each order straggling, one solve a set."""
    found = np.empty((len(order), len(counts)))
    for i, workers in enumerate(order):
        for j, s in enumerate(counts):
            B_S = B[:, workers[s:]]
            R = np.linalg.lstsq(B_S, F, rcond=None)[0]
            found[i, j] = np.sum((B_S @ R - F) ** 2)
    return found


def main() -> None:
    """Print seconds and ratios for each encoding, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=7, help="encodings (default %(default)s)")
    parser.add_argument("--sets", type=int, default=1000, help="orders (default %(default)s)")
    options = parser.parse_args()
    A, m = projective_plane(9), 2
    n = A.shape[1]
    rng = seeds.generator(0, seeds.MONTE_CARLO)
    ratios: dict[str, list[float]] = {"curve": [], "s = 15": []}
    print("# CPU seconds on one thread for one encoding matrix, the engine's with its preparation")
    print("# sets          plain [s]  engine [s]    ratio  largest difference")
    for _ in range(options.draws):
        B = random_diagonal(A, m, rng)
        F = errors.target(B, m)
        for name, counts in (("curve", CURVE), ("s = 15", (15,))):
            order = errors.orders(n, options.sets, rng)
            begun = time.process_time()
            slow = plain(B, F, order, counts)
            middle = time.process_time()
            fast = errors.ErrorEngine(B, F).nested(order, counts)
            ended = time.process_time()
            ratio = (middle - begun) / (ended - middle)
            ratios[name].append(ratio)
            print(
                f"{name:6} {slow.size:6d} {middle - begun:12.3f} {ended - middle:11.5f} "
                f"{ratio:8.0f} {np.abs(slow - fast).max():19.1e}",
                flush=True,
            )
    for name, values in ratios.items():
        print(f"median ratio, {name}: {np.median(values):.0f}")


if __name__ == "__main__":
    with threadpool_limits(1):  # the matrices are small: more BLAS threads slow down both
        main()
