"""Theorems about Err_S: what an encoding promises, and what none can avoid.

Every function decides from the matrices it is given whether its theorem covers them, and refuses
what it does not. The bounds on the random diagonal (Lemma 1 and the corollaries) are on the mean
over B for any set S of n - s survivors, with ``c = E[X^2] E[1/X^2]`` for an entry X of D_u.

References
----------
Munim and Ramamoorthy, *Communication-Efficient Approximate Gradient Coding*, arXiv 2603.22514,
where nothing else is named.
"""

from __future__ import annotations

import math

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray
from gcmpi.codes.assignments import Parameters, parameters
from gcmpi.codes.assignments.structure import groups, one_part


def spread(epsilon: float) -> float:
    """Return c = E[X^2] E[1/X^2] = (1 + epsilon^2 / 3) / (1 - epsilon^2), at least 1.

    X is uniform on [1 - epsilon, 1 + epsilon] and its negative.
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f"a random diagonal needs epsilon in [0, 1), not epsilon={epsilon}")
    return (1 + epsilon**2 / 3) / (1 - epsilon**2)


def lemma_1(A: AnyArray, m: int, survivors: BoolArray, epsilon: float = 0.0) -> float:
    """Return the bound of Lemma 1 on E Err_S of a random diagonal, for any A and S.

    It is ``m k - m 1'A_S K^-1 A_S'1``, K = A_S'A_S + c (m - 1) diag(A_S'A_S), the mean error of
    the best fixed x in R = [D_1^-1 x, .., D_m^-1 x]; so it needs no B_S of full rank.
    """
    C, f = lemma_1_problem(A, m, epsilon)
    C_S = C[:, survivors]
    x = np.linalg.lstsq(C_S, f, rcond=None)[0]
    return float(m * np.sum((C_S @ x - f) ** 2))


def lemma_1_problem(A: AnyArray, m: int, epsilon: float = 0.0) -> tuple[Array, Array]:
    """Return C (k + n, n) and f (k + n, 1): Lemma 1 is m min_x ||C_S x - f||^2 for every S."""
    A = A.astype(np.float64)
    C = np.vstack([A, np.diag(np.sqrt(spread(epsilon) * (m - 1) * A.sum(axis=0)))])
    return C, np.repeat([[1.0], [0.0]], A.shape, axis=0)


def corollary_1(A: AnyArray, m: int, s: int, epsilon: float = 0.0) -> float:
    """Return the bound on E Err_S of random signs (epsilon = 0) on a BIBD.

    Raises
    ------
    ValueError
        If A is not the transposed incidence matrix of a BIBD, or epsilon is not 0.
    """
    _signs(epsilon)
    p = _design(A)
    N = _survivors(p.n, s)
    assert p.delta is not None
    assert p.lam is not None
    if not N:
        return float(m * p.k)
    return m * p.k - m * p.delta * p.delta * N / (m * p.delta + (N - 1) * p.lam)


def corollary_2(A: AnyArray, m: int, s: int, epsilon: float = 0.0) -> float:
    """Return the bound on E Err_S of random signs (epsilon = 0) on a strongly regular graph.

    Raises
    ------
    ValueError
        If A is not the adjacency matrix of one with 0 < delta != mu, or epsilon is not 0.
    """
    _signs(epsilon)
    p = parameters(A)
    n, delta, lam, mu = p.n, p.delta, p.lam, p.mu
    if not p.srg or delta is None or lam is None or mu is None or delta == mu:
        raise ValueError(f"needs a strongly regular graph with delta != mu, not {p}")
    N = _survivors(n, s)
    smallest = (lam - mu - math.sqrt((lam - mu) ** 2 + 4 * (delta - mu))) / 2
    theta = delta if lam >= mu else smallest
    return float(m * n - m * delta * delta * N / (m * delta - mu + mu * N + (lam - mu) * theta))


def corollary_3(A: AnyArray, m: int, s: int, epsilon: float = 0.0) -> float:
    """Return the bound on E Err_S of a random diagonal on a coset graph with this m.

    Raises
    ------
    ValueError
        If A is not [C .. C], m copies of a circulant C of size k = p^a with p not dividing delta.
    """
    p = _coset(A, m)
    assert p.delta is not None
    loss = m * p.delta * p.delta + spread(epsilon) * (m - 1) * p.delta
    return float(m * p.k - m * p.delta * p.delta * _survivors(p.n, s) / loss)


def lemma_2(B: Array, m: int, survivors: BoolArray) -> Array:
    """Return the bound of Lemma 2 on Err_S, for this B and each set.

    The paper states it for the random Hadamard encoding; its proof, that Sigma~ - Sigma is
    diagonally dominant for Sigma = B_S'B_S, holds for every B.

    Parameters
    ----------
    B : (m * k, n)
        Encoding matrix.
    m
        Communication reduction factor.
    survivors : (..., n) bool
        The workers that answered.

    Returns
    -------
    bounds : (...)
    """
    rows, n = B.shape
    S = np.asarray(survivors, dtype=np.float64)
    dominant = S @ np.abs(B.T @ B)  # Sigma~[i, i] of a survivor i
    P = B.reshape(m, rows // m, n).sum(axis=1)
    dominant[dominant == 0] = 1.0  # a worker without weights, where P is zero too
    explained = (P**2).sum(axis=0) * S / dominant
    bounds: Array = rows - explained.sum(axis=-1)
    return bounds


def stacked_design(A: AnyArray, m: int, s: int) -> float:
    """Return Err_S of the stacked encoding on a BIBD: the same for every S.

    At m = 1 it is the error of any equal weights, so that of the random diagonal too.

    Raises
    ------
    ValueError
        If A is not the transposed incidence matrix of a BIBD.

    References
    ----------
    Kadhe, Koyluoglu and Ramchandran, *Gradient coding based on block designs for
    mitigating adversarial stragglers*, arXiv 1904.13373.
    """
    return float((m - 1) * A.shape[0] + corollary_1(A, 1, s))


def one_part_design(A: AnyArray, m: int, s: int) -> float:
    """Return Err_S of any weights of the workers on a BIBD with m = 1: `stacked_design`.

    Raises
    ------
    ValueError
        If m is not 1 or A is not the transposed incidence matrix of a BIBD.
    """
    one_part("this theorem", m)
    return stacked_design(A, m, s)


def stacked_expander(A: AnyArray, m: int, s: int) -> float:
    """Return a bound on Err_S of the stacked encoding on a bi-regular graph: good if it expands.

    With m = 1 it is (sigma_2 / gamma)^2 n s / (n - s), sigma_2 the second largest singular value
    of A: equal weights n / (gamma (n - s)) do as well, because A maps what a set's indicator
    vector has beside its mean to at most sigma_2 times as much. For a regular graph sigma_2 is
    the second largest absolute eigenvalue lambda_2; for the edges of one, sigma_2^2 is
    gamma + lambda_2, lambda_2 the second largest. Every further part loses k.

    Raises
    ------
    ValueError
        If loads or replications differ.

    References
    ----------
    Raviv, Tandon, Dimakis and Tamo, *Gradient coding from cyclic MDS codes and expander graphs*,
    arXiv 1707.03858 (regular graphs); Glasgow and Wootters, *Approximate gradient coding with
    optimal decoding*, arXiv 2006.09638 (their edges).
    """
    k, n = A.shape
    N = _survivors(n, s)
    loads, holders = A.sum(axis=0, dtype=np.intp), A.sum(axis=1, dtype=np.intp)
    if (loads != loads[0]).any() or (holders != holders[0]).any():
        raise ValueError(f"needs equal loads and equal replications, not {parameters(A)}")
    sigma = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    second = float(sigma[1]) if len(sigma) > 1 else 0.0
    return float((m - 1) * k + (min(k, (second / holders[0]) ** 2 * n * s / N) if N else k))


def blocks(A: AnyArray, m: int, s: int) -> float:
    """Return the worst Err_S of a code that decodes a group of workers from any m of them.

    These are ``fractional-repetition`` and ``erasurehead`` (m = 1) and ``block-mds``. A group
    with h < m survivors loses m - h parts of its subsets, so the worst set takes whole groups.

    Raises
    ------
    ValueError
        If A has no groups with the same subsets, of equal sizes and loads.

    References
    ----------
    Tandon, Lei, Dimakis and Karampatziakis, *Gradient Coding*, ICML 2017.
    """
    _survivors(A.shape[1], s)
    size = np.bincount(groups("this bound", A))
    delta = A.sum(axis=0, dtype=np.intp)
    if (size != size[0]).any() or (delta != delta[0]).any():
        raise ValueError(f"needs groups of equal size and load, not {parameters(A)}")
    whole, rest = divmod(s, int(size[0]))
    return float(delta[0] * (m * whole + max(0, rest - (int(size[0]) - m))))


def tolerant(A: AnyArray, m: int, s: int) -> float:
    """Return 0 for s <= gamma - m, else m k: Err_S of a code that is exact up to there."""
    _survivors(A.shape[1], s)
    exact = s <= int(A.sum(axis=1, dtype=np.intp).min()) - m
    return 0.0 if exact else float(m * A.shape[0])


def bernoulli_one_step(n: int, k: int, delta: float, s: int) -> float:
    """Return a bound on the mean over Bernoulli assignments of Err_S, for any S.

    It is k (k - delta) / (delta (n - s)), the mean error of weights k / (delta (n - s)): what a
    subset counts is binomial.

    References
    ----------
    Charles, Papailiopoulos and Ellenberg, *Approximate gradient coding via sparse random
    graphs*, arXiv 1711.06771.
    """
    N = _survivors(n, s)
    return min(float(k), k * (k - delta) / (delta * N)) if N else float(k)


def claim_1(A: AnyArray, m: int, s: int) -> int:
    """Return what the worst S of n - s survivors loses at least, whatever the encoding.

    It is max over u of u floor(k (s + m - u) / (n delta)): that many subsets have at most
    s + m - u workers between them, and m - u of these can't send more than m - u parts. It holds
    for every A with the number of its ones in place of n delta.
    """
    k, n = A.shape
    _survivors(n, s)
    ones = int(A.sum(dtype=np.intp))
    return max(int(u * min(k, k * (s + m - u) // ones)) for u in range(1, m + 1))


def holder_bound(A: AnyArray, m: int, s: int) -> float:
    """Return a lower bound on the mean of Err_S over all S of n - s survivors, for any encoding.

    A subset with h < m surviving workers loses at least m - h of its parts; h is hypergeometric.
    """
    n = A.shape[1]
    _survivors(n, s)
    gammas, subsets = np.unique(A.sum(axis=1, dtype=np.intp), return_counts=True)
    lost = (_lost(n, int(gamma), m, s) for gamma in gammas)
    return sum(int(count) * each for count, each in zip(subsets, lost, strict=True))


def load_bound(n: int, load: float, m: int, s: int) -> float:
    """Return a lower bound on the mean of Err_S / k over all S, for any assignment of a load.

    phi(g) = E(m - h)^+ is what a subset with g holders loses at least in the mean, h of them
    surviving. phi(g) - phi(g + 1) is the probability that one further worker survives and fewer
    than m of the g do, which shrinks with g: phi is convex. By Jensen's inequality the mean over
    the subsets is at least phi at the mean number of holders, n times the load, with phi linear
    between whole numbers. Balanced groups (`gcmpi.assignments.groups`) attain the bound, by
    `groups_error`: they have the least mean error of all codes of their load, for every n, c and m.

    Parameters
    ----------
    n
        Workers.
    load
        The share of the data that a worker holds, in the mean over workers: 1/c for groups.
    m
        Communication reduction factor.
    s
        Stragglers, all sets of this size being equally likely.

    Raises
    ------
    ValueError
        If s is not in 0..n or load is not in 0..1.
    """
    _survivors(n, s)
    if not 0 <= load <= 1:
        raise ValueError(f"the load must be a share of the data, in 0..1, not {load}")
    g = min(int(n * load), n - 1)
    low, high = _lost(n, g, m, s), _lost(n, g + 1, m, s)
    return low + (n * load - g) * (high - low)


def _lost(n: int, g: int, m: int, s: int) -> float:
    """Return phi(g) = E(m - h)^+, h of g holders surviving: h is hypergeometric."""
    N = n - s
    total = math.comb(n, N)
    return sum(
        (m - h) * (math.comb(g, h) * math.comb(n - g, N - h) / total) for h in range(min(m, N + 1))
    )


def groups_error(B: Array, m: int, survivors: BoolArray) -> Array:
    """Return Err_S of a code in groups, for each set: the sum over groups of k_a (m - h_a)^+.

    Theorem A: a group a of any size holds k_a subsets that nobody else holds, its worker i weighs
    all of them by one vector d_i in R^m, and any m of the d_i (all of them in a smaller group) are
    independent. Groups share no worker, so that least squares splits; all blocks of a group are
    the same matrix D R, whose rank is at most h_a, the survivors of the group, and
    min ||D R - I||^2 = m - rank D. A subset with h survivors loses (m - h)^+ with any code, so
    that no code on these groups loses less for any S.

    Parameters
    ----------
    B : (m * k, n)
        Encoding matrix; the independence of its vectors is not tested.
    m
        Communication reduction factor.
    survivors : (..., n) bool
        The workers that answered.

    Returns
    -------
    errors : (...)

    Raises
    ------
    ValueError
        If the workers are not in groups, or a worker weighs its subsets differently.
    """
    blocks = B.reshape(m, -1, B.shape[1])
    A = (blocks != 0).any(axis=0)
    group = groups("Theorem A", A)
    first = A.argmax(axis=0)
    if (blocks != A * blocks[:, first, np.arange(A.shape[1])][:, None]).any():
        raise ValueError("Theorem A needs the same weights for all subsets of a worker")
    start = np.unique(group, return_index=True)[1]
    held = A[:, start].sum(axis=0, dtype=np.intp)
    h = np.asarray(survivors, dtype=np.intp) @ (group[:, None] == np.arange(len(start)))
    errors: Array = np.maximum(m - h, 0) @ held.astype(np.float64)
    return errors


def independent_holder_bound(A: AnyArray, m: int, odds: Array) -> float:
    """Return a lower bound on E Err_S for any encoding when workers straggle by themselves.

    A subset with h < m surviving workers loses at least m - h of its parts. The number h of its
    holders that survive is a sum of independent indicators with different probabilities
    (Poisson-binomial): its law up to m - 1 is built worker by worker.

    Parameters
    ----------
    odds : (n,)
        Each worker's probability to straggle.

    Raises
    ------
    ValueError
        If these are not n probabilities.
    """
    k, n = A.shape
    odds = check_odds(odds, n)
    law = np.zeros((k, m))  # P(h = 0), .., P(h = m - 1) of each subset
    law[:, 0] = 1.0
    for i, q in enumerate(odds):
        held = A[:, i] != 0
        one_more = np.pad(law[held, :-1], ((0, 0), (1, 0)))
        law[held] = q * law[held] + (1 - q) * one_more
    return float(law.sum(axis=0) @ (m - np.arange(m)))


def check_odds(odds: Array, n: int) -> Array:
    """Return each worker's probability to straggle, (n,).

    Raises
    ------
    ValueError
        If these are not n probabilities.
    """
    odds = np.asarray(odds, dtype=np.float64)
    if odds.shape != (n,) or not ((odds >= 0) & (odds <= 1)).all():
        raise ValueError(f"odds must be n={n} probabilities, one a worker, not {odds!r:.60}")
    return odds


def diagonal_floor(A: AnyArray, m: int, s: int) -> float:
    """Return a lower bound on Err_S for any S, if every block is A times a diagonal.

    No choice of the diagonals, random or optimised, has a smaller error. With X_i = d_i r_i' for
    the weights d_i of worker i and its row r_i of R, tau = sum_i tr X_i and c the least
    eigenvalue of A'A,

        ||B R - F||^2 = m k - 2 delta tau + sum_il (A'A)_il <X_i, X_l>,

    and A'A >= c I + (gamma delta - c)/n J. Each X_i has rank one, so sum ||X_i||^2 >= tau^2 / N
    over the N survivors, and ||sum X_i||^2 >= tau^2 / m. The least value over tau is
    m k - delta^2 / ((gamma delta - c) / (n m) + c / N): 0 where A'A is singular.

    Raises
    ------
    ValueError
        If workers or subsets differ in their numbers.
    """
    p = parameters(A)
    N = _survivors(p.n, s)
    if p.delta is None or p.gamma is None:
        raise ValueError(f"needs a regular assignment, not {p}")
    if not N:
        return float(m * p.k)
    gram = A.T.astype(np.float64) @ A
    least = max(0.0, float(np.linalg.eigvalsh(gram)[0]))
    most = p.gamma * p.delta  # the greatest
    return m * p.k - p.delta**2 / ((most - least) / (p.n * m) + least / N)


def _signs(epsilon: float) -> None:
    if epsilon:
        raise ValueError(f"needs random signs, epsilon=0, not epsilon={epsilon}")


def _design(A: AnyArray) -> Parameters:
    p = parameters(A)
    if not p.bibd:
        raise ValueError(f"needs a BIBD (the transpose of its incidence matrix), not {p}")
    return p


def _coset(A: AnyArray, m: int) -> Parameters:
    p = parameters(A)
    if p.coset != m:
        raise ValueError(f"needs a coset graph with m={m} copies of a circulant, not {p}")
    return p


def _survivors(n: int, s: int) -> int:
    if not 0 <= s <= n:
        raise ValueError(f"the number of stragglers must be in 0..{n}, not {s}")
    return n - s
