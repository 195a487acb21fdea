"""Approximate codes that send whole gradients (m = 1): the code is in the assignment.

A worker sends the sum of its subset gradients, times a constant. The decoders of the sources are
in `gcmpi.decoders`; least squares never does worse.
"""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.assignments.structure import adjacency, design, edges, groups, one_part
from gcmpi.codes.theorems import GROUPS, PLAIN_SUMS
from gcmpi.registry import ENCODINGS


@ENCODINGS.register("bgc", decoder="one-step", theorem=PLAIN_SUMS)
def bernoulli_code(A: AnyArray, m: int) -> Array:
    """Bernoulli gradient code, for ``--assignment bernoulli`` or ``regularised-bernoulli`` (rBGC).

    Which subsets a worker holds is random; it sends their sum.

    Parameters
    ----------
    A : (k, n)
        Any assignment: one can't see from a matrix how it was drawn.
    m
        1.

    Returns
    -------
    B : (k, n), A

    Raises
    ------
    ValueError
        If m is not 1.

    References
    ----------
    Charles, Papailiopoulos and Ellenberg, Approximate gradient coding via sparse random graphs,
    arXiv 1711.06771.
    """
    one_part("encoding bgc", m)
    return A.astype(np.float64)


@ENCODINGS.register("sbm", decoder="one-step", theorem=PLAIN_SUMS)
def stochastic_block_code(A: AnyArray, m: int) -> Array:
    """Stochastic block code, for ``--assignment stochastic-block``: plain sums.

    Between fractional repetition (good for random stragglers, bad for chosen ones) and a
    Bernoulli code, in which an adversary finds no weak spot fast.

    Parameters
    ----------
    A : (k, n)
        Any assignment: one can't see from a matrix how it was drawn.
    m
        1.

    Returns
    -------
    B : (k, n), A

    Raises
    ------
    ValueError
        If m is not 1.

    References
    ----------
    Charles and Papailiopoulos, Gradient coding via the stochastic block model, arXiv 1805.10378.
    """
    one_part("encoding sbm", m)
    return A.astype(np.float64)


@ENCODINGS.register("bibd", exact=True, unbiased=True, decoder="bibd", theorem=PLAIN_SUMS)
def design_code(A: AnyArray, m: int) -> Array:
    """Block design code: for every S the same error, and equal weights are optimal.

    Err_S = k - delta^2 (n - s) / (delta + lambda (n - s - 1)), because
    B_S'B_S = (delta - lambda) I + lambda J and B_S'1 = delta 1.

    Parameters
    ----------
    A : (k, n)
        The transposed incidence matrix of a BIBD.
    m
        1.

    Returns
    -------
    B : (k, n), A

    Raises
    ------
    ValueError
        If m is not 1 or A is not of a design.

    References
    ----------
    Kadhe, Koyluoglu and Ramchandran, Gradient coding based on block designs for mitigating
    adversarial stragglers, ISIT 2019, arXiv 1904.13373.
    """
    one_part("encoding bibd", m)
    design("encoding bibd", A)
    return A.astype(np.float64)


@ENCODINGS.register("expander", exact=True, decoder="expander", theorem=PLAIN_SUMS)
def expander_code(A: AnyArray, m: int) -> Array:
    """Graph expander code: a worker sends the mean over a graph's neighbours; good if it expands.

    With weights n / (n - s), hence with least squares,
    Err_S <= (lambda_2 / delta)^2 n s / (n - s), lambda_2 the second largest absolute eigenvalue.

    Parameters
    ----------
    A : (n, n)
        The adjacency matrix of a regular graph, loops allowed: ``--assignment expander``, or any
        strongly regular graph.
    m
        1.

    Returns
    -------
    B : (n, n), A / delta

    Raises
    ------
    ValueError
        If m is not 1 or A is not symmetric and regular.

    References
    ----------
    Raviv, Tandon, Dimakis and Tamo, Gradient coding from cyclic MDS codes and expander graphs,
    IEEE Trans. Information Theory 66, 2020.
    """
    one_part("encoding expander", m)
    return A / float(adjacency("encoding expander", A))


@ENCODINGS.register("graph-assignment", decoder="graph", theorem=PLAIN_SUMS)
def graph_code(A: AnyArray, m: int) -> Array:
    """Graph assignment: subsets are vertices, a worker is an edge and sends the sum of its two.

    Optimal decoding takes linear time: `gcmpi.decoders.graph`. Unbiased up to a constant where
    the graph is vertex-transitive.

    Parameters
    ----------
    A : (k, n)
        Two subsets on every worker: ``--assignment graph-edges`` or ``circulant-edges``.
    m
        1.

    Returns
    -------
    B : (k, n), A

    Raises
    ------
    ValueError
        If m is not 1 or a worker does not hold two subsets.

    References
    ----------
    Glasgow and Wootters, Approximate gradient coding with optimal decoding, IEEE J. Selected
    Areas in Information Theory 2, 2021, arXiv 2006.09638.
    """
    one_part("encoding graph-assignment", m)
    edges("encoding graph-assignment", A)
    return A.astype(np.float64)


@ENCODINGS.register("sgc", {}, {"q": 0.25}, exact=True, decoder="sum")
def stochastic_code(A: AnyArray, m: int, q: float = 0.0) -> Array:
    """Stochastic gradient code: the sum of what arrives is unbiased, there is no decoding.

    Subset j counts 1 / (gamma_j (1 - q)) on each of its gamma_j workers. If workers straggle
    independently with probability q, the sum has mean g, and where every two subsets j, j' share
    gamma_j gamma_j' / n workers (``pairwise-balanced``) its mean squared error is
    q / (1 - q) (||g||^2 / n + sum_j (1 / gamma_j - 1 / n) ||g_j||^2).

    Parameters
    ----------
    A : (k, n)
        Any assignment; ``pairwise-balanced``, or ``random-replication``, which is so on average.
    m
        1.
    q
        Probability that a worker straggles. With 0 the sum falls short by the factor 1 - q.

    Returns
    -------
    B : (k, n)

    Raises
    ------
    ValueError
        If m is not 1 or q not in [0, 1).

    References
    ----------
    Bitar, Wootters and El Rouayheb, Stochastic gradient coding for straggler mitigation in
    distributed learning, IEEE J. Selected Areas in Information Theory 1, 2020.
    """
    one_part("encoding sgc", m)
    if not 0 <= q < 1:
        raise ValueError(f"encoding sgc needs q in [0, 1), not q={q:g}")
    weighted: Array = A / (A.sum(axis=1, keepdims=True, dtype=np.float64) * (1 - q))
    return weighted


@ENCODINGS.register(
    "erasurehead",
    exact=True,
    tolerant=True,
    unbiased=True,
    decoder="first-of-group",
    theorem=GROUPS,
)
def erasurehead(A: AnyArray, m: int) -> Array:
    """ErasureHead: the fractional repetition code, with a server that does not wait for it all.

    The server stops at a count of replies or when every group has answered (``--wait
    covered:COUNT``), and adds the first reply of each group (``--decoder first-of-group``).

    Parameters
    ----------
    A : (k, n)
        The assignment ``fractional-repetition``.
    m
        1.

    Returns
    -------
    B : (k, n), A

    Raises
    ------
    ValueError
        If m is not 1 or A has no such groups.

    References
    ----------
    Wang, Charles and Papailiopoulos, ErasureHead: distributed gradient descent without delays
    using approximate gradient coding, arXiv 1901.09671.
    """
    one_part("encoding erasurehead", m)
    groups("encoding erasurehead", A)
    return A.astype(np.float64)
