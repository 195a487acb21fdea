"""How close is an exchange to the bare MPI pattern? Ratios, interleaved in one run.

    mpirun -n 9 python analysis/benchmark_exchange.py [D ...]        (half a minute)

For each d, blocks of iterations alternate between `gcmpi.cluster.mpi.MpiExchange`
(deadline-capable, sleeping, headers, one persistent receive a worker) and a server that sends theta
to everyone and then receives in rank order, blocking: the least that MPI can do, and what cannot
time out. Workers answer at once. The memory-copy time of the same bytes is a floor for both.
"""

from __future__ import annotations

import math
import sys
import time

from gcmpi import environment

environment.one_blas_thread()

import numpy as np  # noqa: E402

from gcmpi.arrays import AnyArray  # noqa: E402
from gcmpi.cluster.messages import End, Parameters  # noqa: E402
from gcmpi.cluster.mpi import MpiExchange, MpiLink, World  # noqa: E402
from gcmpi.cluster.waiting import All  # noqa: E402
from gcmpi.cluster.wire import Dense  # noqa: E402
from gcmpi.training import Message, Spent  # noqa: E402

BLOCKS, ITERATIONS = 15, 10


def serve(world: World, d: int, m: int) -> tuple[list[float], list[float], float]:
    """Return seconds an iteration, block by block: ours and the bare pattern's; and the copies'."""
    raw = world.comm.Dup()
    n, length = world.size - 1, -(-d // m)
    exchange = MpiExchange(world, d, np.float32, {m: Dense(-(-d // m), "float32")})
    theta = np.zeros(d, np.float32)
    Y = np.zeros((n, length), np.float32)
    ours, bare = [], []
    for block in range(BLOCKS):
        began = time.perf_counter()
        for t in range(ITERATIONS):
            exchange.exchange(block * ITERATIONS + t, m, theta, All())
        ours.append((time.perf_counter() - began) / ITERATIONS)
        began = time.perf_counter()
        for _ in range(ITERATIONS):
            sends = [raw.Isend(theta, dest=i + 1) for i in range(n)]
            for i in range(n):
                raw.Recv(Y[i], source=i + 1)
            for send in sends:
                send.Wait()
        bare.append((time.perf_counter() - began) / ITERATIONS)
    exchange.close()
    copies = []
    for _ in range(20):
        began = time.perf_counter()
        for i in range(n):
            theta.copy()
            Y[i].copy()
        copies.append(time.perf_counter() - began)
    return ours, bare, float(np.median(copies))


def work(world: World, d: int, m: int) -> None:
    """Answer at once, in both patterns."""
    raw = world.comm.Dup()
    link = MpiLink(world, d, np.float32, {m: Dense(-(-d // m), "float32")})
    theta = np.zeros(d, np.float32)
    y = np.zeros(-(-d // m), np.float32)
    for _ in range(BLOCKS):
        for _ in range(ITERATIONS):
            answer(link, y)
        for _ in range(ITERATIONS):
            raw.Recv(theta, source=0)
            raw.Send(y, dest=0)
    assert link.wait(math.inf) == [(0, End())]
    link.close()


def answer(link: MpiLink, y: AnyArray) -> None:
    """Answer once; as a worker does, look whether the run has ended meanwhile."""
    ((_, note),) = link.wait(math.inf)
    assert isinstance(note, Parameters)
    assert not link.wait(0.0)
    link.post(0, Message(note.t, note.m, y, Spent(0.0, 0.0)))


def main() -> None:
    """Run for every d and print a table."""
    world = World()
    sizes = [int(word) for word in sys.argv[1:]] or [1000, 10_000, 100_000, 1_000_000]
    if world.rank == 0:
        workers = len(world.hosts) - 1  # asked, because a rank may not end before it is received
        print(f"# {world.library}, {workers} workers, m = 2, float32, medians of {BLOCKS}")
        print("#        d   exchange [ms]   bare MPI [ms]   ratio (quartiles)    copies [ms]")
    for d in sizes:
        if world.rank:
            work(world, d, 2)
            continue
        ours, bare, copies = serve(world, d, 2)
        low, ratio, high = np.percentile(np.array(ours) / np.array(bare), [25, 50, 75])
        print(
            f"{d:10d} {1e3 * np.median(ours):15.3f} {1e3 * np.median(bare):15.3f} "
            f"{ratio:9.2f} ({low:.2f}-{high:.2f}) {1e3 * copies:14.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
