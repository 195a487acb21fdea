"""Random assignments: who holds what is drawn, so that loads or replications differ."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.assignments.catalogue import nearby
from gcmpi.codes.assignments.fields import differences, is_prime_power, products
from gcmpi.registry import ASSIGNMENTS
from gcmpi.seeds import CODE, generator


def _draw(probability: Array, rng: np.random.Generator) -> AnyArray:
    """Draw every entry with its probability, and empty rows and columns again until none is."""
    A = (rng.random(probability.shape) < probability).astype(np.uint8)
    while not (A.any(axis=1).all() and A.any(axis=0).all()):
        empty = np.logical_or.outer(~A.any(axis=1), ~A.any(axis=0))
        A[empty] = rng.random(np.count_nonzero(empty)) < probability[empty]
    return A


def _check(name: str, n: int, k: int, delta: int, seed: int) -> None:
    if n < 1 or k < 1 or seed < 0:
        raise ValueError(
            f"{name} needs n and k at least 1 and seed at least 0, not {n}, {k} and {seed}"
        )
    if not 1 <= delta <= k:
        raise ValueError(
            f"{name} needs a mean load delta in 1..{k}, not delta={delta}; "
            f"{nearby('delta', delta, lambda v: 1 <= v <= k)}"
        )


@ASSIGNMENTS.register("bernoulli", {"n": 8, "k": 8, "delta": 3}, irregular=True)
def bernoulli(n: int, k: int, delta: int, seed: int = 0) -> AnyArray:
    """Bernoulli: every worker holds every subset with probability delta / k, independently.

    Who holds a subset that nobody would hold, or what a worker that would hold none, is drawn
    again.

    Parameters
    ----------
    n, k
        Workers and subsets.
    delta
        The mean load.
    seed
        Chooses the matrix.

    Returns
    -------
    A : (k, n) uint8

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Charles, Papailiopoulos and Ellenberg, Approximate gradient coding via sparse random graphs,
    arXiv 1711.06771 (BGC).
    """
    _check("bernoulli", n, k, delta, seed)
    return _draw(np.full((k, n), delta / k), generator(seed, CODE))


@ASSIGNMENTS.register("regularised-bernoulli", {"n": 8, "k": 12, "delta": 2}, irregular=True)
def regularised_bernoulli(n: int, k: int, delta: int, seed: int = 0) -> AnyArray:
    """Regularised Bernoulli: `bernoulli`, where workers above 2 delta drop random subsets.

    They keep 2 delta. A subset that nobody is left with goes to the worker with the least load.

    Parameters
    ----------
    n, k, delta, seed
        As in `bernoulli`, delta at least k / n so that the load suffices.

    Returns
    -------
    A : (k, n) uint8

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Charles, Papailiopoulos and Ellenberg, Approximate gradient coding via sparse random graphs,
    arXiv 1711.06771 (rBGC).
    """
    _check("regularised-bernoulli", n, k, delta, seed)
    if n * delta < k:
        raise ValueError(
            f"regularised-bernoulli needs n * delta at least k, not n={n}, delta={delta}, k={k}; "
            f"{nearby('delta', delta, lambda v: k <= n * v and v <= k)}"
        )
    rng = generator(seed, CODE)
    A = _draw(np.full((k, n), delta / k), rng)
    for i in range(n):
        held = rng.permutation(np.flatnonzero(A[:, i]))
        A[held[2 * delta :], i] = 0
    for j in np.flatnonzero(~A.any(axis=1)):
        A[j, A.sum(axis=0, dtype=np.intp).argmin()] = 1
    return A


@ASSIGNMENTS.register(
    "stochastic-block", {"n": 8, "size": 4, "inside": 0.7, "outside": 0.1}, irregular=True
)
def stochastic_block(n: int, size: int, inside: float, outside: float, seed: int = 0) -> AnyArray:
    """Stochastic block model: fractional repetition with holes, and noise outside the blocks.

    Workers and subsets are in blocks of `size`, one after the other. A worker holds a subset of
    its own block with probability `inside`, another with probability `outside`. Who holds a
    subset that nobody would hold, or what a worker that would hold none, is drawn again.

    Parameters
    ----------
    n
        Workers, and as many subsets.
    size
        Of a block; a divisor of n.
    inside, outside
        Probabilities, inside above 0. The mean load is size * inside + (n - size) * outside.
    seed
        Chooses the matrix.

    Returns
    -------
    A : (n, n) uint8

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Charles and Papailiopoulos, Gradient coding via the stochastic block model, arXiv 1805.10378.
    """
    if n < 1 or seed < 0:
        raise ValueError(
            f"stochastic-block needs n at least 1 and seed at least 0, not {n}, {seed}"
        )
    if size < 1 or n % size:
        raise ValueError(
            f"stochastic-block needs size a divisor of n, not n={n}, size={size}; "
            f"{nearby('size', size, lambda v: v >= 1 and n % v == 0)}"
        )
    if not (0 < inside <= 1 and 0 <= outside <= 1):
        raise ValueError(
            "stochastic-block needs 0 < inside <= 1 and 0 <= outside <= 1, not "
            f"inside={inside:g}, outside={outside:g}"
        )
    block = np.arange(n) // size
    probability = np.where(block[:, None] == block, inside, outside)
    return _draw(probability, generator(seed, CODE))


@ASSIGNMENTS.register("random-replication", {"n": 8, "k": 6, "gamma": 3}, irregular=True)
def random_replication(n: int, k: int, gamma: int, seed: int = 0) -> AnyArray:
    """Random replication: every subset on gamma random workers, pairwise balanced on average.

    Two subsets share gamma^2 / n workers in the mean, but that a worker that would hold none
    takes one from the worker with the highest load.

    Parameters
    ----------
    n, k
        Workers and subsets.
    gamma
        Workers per subset, 1 to n.
    seed
        Chooses the matrix.

    Returns
    -------
    A : (k, n) uint8; loads differ

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Bitar, Wootters and El Rouayheb, Stochastic gradient coding for straggler mitigation in
    distributed learning, IEEE J. Selected Areas in Information Theory 1, 2020.
    """
    if n < 1 or k < 1 or seed < 0:
        raise ValueError(
            f"random-replication needs n and k at least 1 and seed at least 0, not "
            f"{n}, {k} and {seed}"
        )
    if not n <= k * gamma <= k * n:
        raise ValueError(
            f"random-replication needs gamma in 1..n and k * gamma at least n, not n={n}, k={k}, "
            f"gamma={gamma}; {nearby('gamma', gamma, lambda v: n <= k * v <= k * n)}"
        )
    rng = generator(seed, CODE)
    order = np.argsort(rng.random((k, n)), axis=1)
    A = np.zeros((k, n), dtype=np.uint8)
    np.put_along_axis(A, order[:, :gamma], 1, axis=1)
    for i in np.flatnonzero(~A.any(axis=0)):
        most = A.sum(axis=0, dtype=np.intp).argmax()
        j = rng.choice(np.flatnonzero(A[:, most]))
        A[j, most], A[j, i] = 0, 1
    return A


@ASSIGNMENTS.register(
    "pairwise-balanced",
    {"dimension": 3, "order": 2},
    irregular=True,
)
def pairwise_balanced(dimension: int, order: int, seed: int = 0) -> AnyArray:
    """Pairwise balanced: every two subsets share exactly gamma^2 / n workers.

    Workers are the points of the affine space AG(dimension, order), subsets are hyperplanes
    a x = c, one of each direction a: two of different directions meet in q^(dimension - 2)
    points. The constants c are random, but leave no worker idle.

    Parameters
    ----------
    dimension
        3 or more: in a plane all lines would have to meet in one worker.
    order
        A prime power q.
    seed
        Chooses the constants.

    Returns
    -------
    A : ((q^dimension - 1) / (q - 1), q^dimension) uint8
        gamma = q^(dimension - 1); loads differ.

    Raises
    ------
    ValueError
        If the dimension is below 3, the order no prime power or the seed negative.

    References
    ----------
    Bitar, Wootters and El Rouayheb, Stochastic gradient coding for straggler mitigation in
    distributed learning, IEEE J. Selected Areas in Information Theory 1, 2020 (the property).
    """
    if dimension < 3 or seed < 0:
        raise ValueError(
            "pairwise-balanced needs dimension at least 3 and seed at least 0, not "
            f"dimension={dimension}, seed={seed}"
        )
    if not is_prime_power(order):
        raise ValueError(
            f"pairwise-balanced needs a prime power as its order, not order={order}; "
            f"{nearby('order', order, is_prime_power)}"
        )
    minus, times = differences(order), products(order)
    plus = minus[minus[:, 0]]  # a + b = b - (0 - a)
    vectors = np.indices((order,) * dimension).reshape(dimension, -1)  # (dimension, points)
    leading = vectors[(vectors != 0).argmax(axis=0), np.arange(vectors.shape[1])]
    directions = vectors[:, leading == 1]
    value = np.zeros((directions.shape[1], vectors.shape[1]), dtype=np.intp)
    for a, x in zip(directions, vectors, strict=True):
        value = plus[value, times[a[:, None], x]]
    rng = generator(seed, CODE)
    A: AnyArray = np.zeros_like(value)
    while not A.any(axis=0).all():
        A = value == rng.integers(order, size=(len(value), 1))
    return A.astype(np.uint8)
