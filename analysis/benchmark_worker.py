"""What a coded message costs a worker, relative to one plain gradient over the same rows.

Run: ``python analysis/benchmark_worker.py`` (half a minute). Three ways are measured in turns on
worker 0: the gradient without any code; the message as gcmpi's workers make it, in one pass with
m weighted parts; and the same message from one gradient a subset.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.code import encode
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run
from gcmpi.learning import Network, in_memory, partition, prepare
from gcmpi.training import Worker

CODES = (
    ("projective-plane:order=5", "random-diagonal", 2),
    ("projective-plane:order=5", "exact-trained", 2),
    ("projective-plane:order=5", "exact-trained", 3),
    ("projective-plane:order=9", "random-diagonal", 2),
    ("projective-plane:order=9", "exact-trained", 2),
)


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(run: Run, repeats: int) -> Array:
    """Return the seconds of the three ways, shape (repeats, 3)."""
    problem, theta, data = run.shared.problem, run.theta, run.dataset
    if not isinstance(problem, Network):
        raise TypeError("this benchmark is of gcmpi's own networks: see benchmark_models.py")
    shard = next(run.shards())
    worker = Worker(0, problem, shard, run.shared.schemes)
    X, Y = prepare(shard.X, problem.dtype), problem.targets(in_memory(shard.y))
    slices = partition(len(data.X), run.A.shape[0])
    held = [slices[j] for j in np.flatnonzero(run.A[:, 0])]
    subsets = [
        (prepare(data.X[rows], problem.dtype), problem.targets(in_memory(data.y[rows])))
        for rows in held
    ]
    coefficients = run.shared.codes.coefficients(0, 0)

    def plain() -> AnyArray:
        return problem.gradient(theta, X, Y, shard.scale)

    def one_pass() -> AnyArray:
        return worker.answer(0, run.experiment.m, theta).y

    def one_each() -> AnyArray:
        G = np.empty((len(subsets), problem.d), problem.dtype)
        for row, (x, y) in zip(G, subsets, strict=True):
            row[...] = problem.gradient(theta, x, y, shard.scale)
        return encode(coefficients, G)

    off = np.abs(one_pass() - one_each()).max() / np.abs(one_each()).max()
    if off > 1e-4:
        raise AssertionError(f"the two ways to the message differ by {off:.1e}")
    ways = (plain, one_pass, one_each)
    return np.array([[seconds(way) for way in ways] for _ in range(repeats)])


def main() -> None:
    """Print the median of the ratios for each code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="rounds (default %(default)s)")
    parser.add_argument("--problem", default="mlp", help="(default %(default)s)")
    options = parser.parse_args()
    print("# ratios to the plain gradient: median (5% to 95% of the rounds)")
    print(f"# {'code':48}  plain [ms]           one pass  a gradient a subset")
    for assignment, encoding, m in CODES:
        e = Experiment(assignment=assignment, encoding=encoding, m=m, problem=options.problem)
        times = measure(build(e, assignment_matrix(e)), options.repeats)
        ratios = np.quantile(times[:, 1:] / times[:, :1], (0.5, 0.05, 0.95), axis=0).T
        shown = "".join(f"   {a:.2f} ({b:.2f}-{c:.2f})" for a, b, c in ratios)
        name = f"{assignment} + {encoding}, m={m}"
        print(f"  {name:48} {1e3 * np.median(times[:, 0]):11.2f}{shown}", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):  # as in a run
        main()
