"""What a coded message costs a worker whose model is of torch or jax, and what imports cost.

Run: ``python analysis/benchmark_models.py`` (about five minutes; --rounds and --models choose).
A message is measured against plain gradients of the framework's own, without gcmpi: one over all
rows of the worker, and one for each of its subsets. What is compared is measured in the same
round, in random order, and a ratio is the median over the rounds. Worker 0 of a plane of order 2
holds 3 of 7 subsets of the shipped digits. Equal coefficients are those of ``stacked``, general
ones those of ``exact-trained``. One thread, as in a run. The clock is the CPU time of this
process, for which other processes on the machine hardly matter; on a GPU, ``--clock wall``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

os.environ.pop("OPENBLAS_CORETYPE", None)  # kernels of this machine, not of another one

import numpy as np
from threadpoolctl import threadpool_limits

from gcmpi import learning
from gcmpi.arrays import AnyArray, Array
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run
from gcmpi.learning.gradients import Gradients
from gcmpi.training import Worker

ENCODINGS = {"equal": "stacked", "general": "exact-trained"}
REDUCTIONS = (2, 3)
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"cpu": time.process_time, "wall": time.perf_counter}
IMPORT = (
    "import os, sys, time\n"
    "begun = time.perf_counter()\n"
    "import {name}\n"
    "print(time.perf_counter() - begun, time.process_time(), flush=True)\n"
    "sys.stdin.readline()\n"
    "lines = open('/proc/self/smaps_rollup').read().splitlines()\n"
    "print(next(line.split()[1] for line in lines if line.startswith('Pss:')), flush=True)\n"
    "sys.stdin.readline()\n"
)


@dataclass(frozen=True)
class Rival:
    """A model for gcmpi, and its gradient without gcmpi.

    Attributes
    ----------
    problem
        What gcmpi trains.
    plain
        Makes of parameters (d,) and a list of rows and labels a function that computes one
        gradient for each of them and adds them up.
    """

    problem: Any
    plain: Callable[[AnyArray, list[tuple[AnyArray, AnyArray]]], Callable[[], object]]


def torch_mlp() -> Any:
    """784-128-10, d = 101,770."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def torch_cnn() -> Any:
    """Two layers of 5 x 5 filters and a linear one, d = 18,378."""
    from torch import nn

    return nn.Sequential(
        nn.Flatten(), nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def torch_loss(outputs: Any, Y: Any) -> Any:
    """Return the sum of the cross-entropies."""
    from torch.nn import functional

    return functional.cross_entropy(outputs, Y, reduction="sum")


def of_torch(network: Callable[[], Any]) -> Rival:
    """Return a torch network and its own gradients."""
    import torch

    problem = learning.torch.problem(network, torch_loss)  # type: ignore[attr-defined]

    def plain(theta: AnyArray, pieces: list[tuple[AnyArray, AnyArray]]) -> Callable[[], object]:
        module = problem.module(theta).train()
        rows = [(torch.from_numpy(X), torch.from_numpy(y.astype(np.int64))) for X, y in pieces]

        def gradients() -> None:
            module.zero_grad()
            for X, Y in rows:
                torch_loss(module(X), Y).backward()

        return gradients

    return Rival(problem, plain)


def jax_mlp(rng: np.random.Generator) -> dict[str, AnyArray]:
    """784-128-10, d = 101,770."""
    return {
        "W": rng.normal(0, 0.05, (784, 128)),
        "b": np.zeros(128),
        "V": rng.normal(0, 0.1, (128, 10)),
        "c": np.zeros(10),
    }


def jax_mlp_loss(parameters: dict[str, Any], X: Any, Y: Any) -> Any:
    """Return the sum of the cross-entropies."""
    import jax

    hidden = jax.nn.relu(X.reshape(len(X), -1) @ parameters["W"] + parameters["b"])
    return _cross_entropy(hidden @ parameters["V"] + parameters["c"], Y)


def jax_cnn(rng: np.random.Generator) -> dict[str, AnyArray]:
    """Return the filters and weights of `torch_cnn`, d = 18,378."""
    return {
        "F": rng.normal(0, 0.2, (5, 5, 1, 16)),
        "f": np.zeros(16),
        "G": rng.normal(0, 0.05, (5, 5, 16, 32)),
        "g": np.zeros(32),
        "W": rng.normal(0, 0.05, (512, 10)),
        "b": np.zeros(10),
    }


def jax_cnn_loss(parameters: dict[str, Any], X: Any, Y: Any) -> Any:
    """Return the sum of the cross-entropies."""
    from jax import lax, nn

    def layer(images: Any, filters: Any, bias: Any) -> Any:
        form = ("NHWC", "HWIO", "NHWC")
        z = lax.conv_general_dilated(images, filters, (1, 1), "VALID", dimension_numbers=form)
        window = (1, 2, 2, 1)
        return lax.reduce_window(nn.relu(z + bias), -np.inf, lax.max, window, window, "VALID")

    first = layer(X.reshape(-1, 28, 28, 1), parameters["F"], parameters["f"])
    second = layer(first, parameters["G"], parameters["g"])
    return _cross_entropy(second.reshape(len(X), -1) @ parameters["W"] + parameters["b"], Y)


def _cross_entropy(scores: Any, Y: Any) -> Any:
    import jax

    return -jax.numpy.sum(jax.nn.log_softmax(scores)[jax.numpy.arange(len(Y)), Y])


def of_jax(initial: Callable[[np.random.Generator], Any], loss: Callable[..., Any]) -> Rival:
    """Return a JAX model and its own gradients."""
    problem = learning.jax.problem(initial, loss)  # type: ignore[attr-defined]
    _ = problem.d  # jax starts with one thread
    import jax

    def plain(theta: AnyArray, pieces: list[tuple[AnyArray, AnyArray]]) -> Callable[[], object]:
        parameters, gradient = problem.parameters(theta), jax.jit(jax.grad(loss))
        rows = [(jax.device_put(X), jax.device_put(y.astype(np.int32))) for X, y in pieces]

        def gradients() -> object:
            total = None
            for X, Y in rows:
                g = gradient(parameters, X, Y)
                total = g if total is None else jax.tree.map(jax.numpy.add, total, g)
            return jax.block_until_ready(total)

        return gradients

    return Rival(problem, plain)


MODELS: dict[str, Callable[[], Rival]] = {
    "torch mlp": lambda: of_torch(torch_mlp),
    "torch cnn": lambda: of_torch(torch_cnn),
    "jax mlp": lambda: of_jax(jax_mlp, jax_mlp_loss),
    "jax cnn": lambda: of_jax(jax_cnn, jax_cnn_loss),
}


def run_of(rival: Rival, encoding: str, m: int) -> Run:
    """Build the run whose worker 0 is measured."""
    plane = "projective-plane:order=2"
    e = Experiment(assignment=plane, encoding=encoding, m=m, problem=rival.problem)
    return build(e, assignment_matrix(e))


def seconds(work: Callable[[], object], clock: Clock) -> float:
    """Return how long it takes."""
    begun = clock()
    work()
    return clock() - begun


def measure(rival: Rival, rounds: int, clock: Clock) -> tuple[int, Array]:
    """Return d, and the seconds of (one gradient, one a subset, *messages), (rounds, 2 + 4)."""
    ways: list[Callable[[], object]] = []
    d, first = 0, None  # all workers share rows, of which a cache then holds as much for each
    for m in REDUCTIONS:
        for encoding in ENCODINGS.values():
            run = run_of(rival, encoding, m)
            theta, shard = run.theta, next(run.shards())
            worker = Worker(0, run.shared.problem, shard, run.shared.schemes)
            if first is None:
                d, first = theta.size, cast(Gradients, worker.gradients)
                X, y = np.asarray(first.rows.X), np.asarray(shard.y)
                ends = np.cumsum((0, *shard.sizes))
                subsets = [(X[a:b], y[a:b]) for a, b in itertools.pairwise(ends)]
                ways = [rival.plain(theta, [(X, y)]), rival.plain(theta, subsets)]
            worker.gradients = first
            ways.append(partial(worker.answer, 0, m, theta))
    for way in ways:
        way()  # compiles
    times = np.empty((rounds, len(ways)))
    rng = np.random.default_rng(0)
    for row in times:
        for index in rng.permutation(len(ways)):
            row[index] = seconds(ways[index], clock)
    return d, times


def show_costs(names: list[str], rounds: int, clock: Clock) -> None:
    """Print the ratios of each model."""
    print(
        f"# a coded message against plain gradients: medians of {rounds} paired ratios "
        "(5% to 95% of them)"
    )
    print("# model          d   plain [ms]  m  coefficients   against one       one a subset")
    for name in names:
        try:
            rival = MODELS[name]()
        except (ImportError, ValueError) as error:
            print(f"  {name}: not measured: {error}")
            continue
        d, times = measure(rival, rounds, clock)
        column = 2
        for m in REDUCTIONS:
            for kind in ENCODINGS:
                shown = "".join(f"   {_spread(times[:, column] / times[:, i])}" for i in (0, 1))
                milliseconds = 1e3 * np.median(times[:, 0])
                print(f"  {name:9} {d:7d} {milliseconds:12.1f}  {m}  {kind:10}{shown}", flush=True)
                column += 1


def _spread(ratios: Array) -> str:
    middle, low, high = np.quantile(ratios, (0.5, 0.05, 0.95))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def show_imports(names: list[str], ranks: int) -> None:
    """Print what it costs that so many ranks import a framework at once."""
    print(f"# {ranks} ranks import at once: the slowest [s], CPU [s] each, memory (PSS) [MB] each")
    for name in names:
        children = [
            subprocess.Popen(
                [sys.executable, "-c", IMPORT.format(name=name)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for _ in range(ranks)
        ]
        answers = [_ask(child) for child in children]  # memory counts when all have imported
        memory = [_ask(child, "go on\n") for child in children]
        for child in children:
            child.communicate("over\n")
        if any(len(answer) != 2 for answer in answers):
            print(f"  {name}: cannot be imported")
            continue
        wall, cpu = np.array(answers, dtype=float).T
        megabytes = np.array(memory, dtype=float).mean() / 1024
        print(f"  {name:9} {wall.max():8.2f} {cpu.mean():8.2f} {megabytes:8.0f}", flush=True)


def _ask(child: subprocess.Popen[str], words: str = "") -> list[str]:
    """Return the next line of a process, after these words to it."""
    if child.stdin is None or child.stdout is None or child.poll() is not None:
        return []
    child.stdin.write(words)
    child.stdin.flush()
    return child.stdout.readline().split()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="(default %(default)s)")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="(default %(default)s)")
    parser.add_argument("--ranks", type=int, default=8, help="(default %(default)s)")
    parser.add_argument(
        "--models", nargs="*", default=list(MODELS), choices=MODELS, metavar="MODEL",
        help=f"some of: {', '.join(MODELS)}",
    )  # fmt: skip
    options = parser.parse_args()
    show_imports(["numpy", *dict.fromkeys(m.split()[0] for m in options.models)], options.ranks)
    show_costs(options.models, options.rounds, CLOCKS[options.clock])


if __name__ == "__main__":
    with threadpool_limits(1):  # as in a run
        main()
