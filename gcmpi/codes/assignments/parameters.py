"""What a matrix is, read from the matrix itself: which design or graph, with which parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments.bipartite import is_invertible_load
from gcmpi.codes.code import check_assignment


@dataclass(frozen=True)
class Parameters:
    """Parameters of an assignment matrix.

    Attributes
    ----------
    n, k
        Workers and subsets.
    delta
        Subsets per worker, or None if workers differ.
    gamma
        Workers per subset, or None if subsets differ.
    lam
        Subsets that two workers share, where they all (or, in a strongly regular graph, all
        adjacent ones) share equally many; else None.
    mu
        Subsets that two non-adjacent workers of a strongly regular graph share; else None.
    bibd
        A is the transpose of the incidence matrix of a balanced incomplete block design.
    srg
        A is the adjacency matrix of a strongly regular graph.
    coset
        Copies m of the circulant in a coset graph (k a power of a prime that does not divide
        delta), or None.
    """

    n: int
    k: int
    delta: int | None
    gamma: int | None
    lam: int | None
    mu: int | None
    bibd: bool
    srg: bool
    coset: int | None

    def __str__(self) -> str:
        """Return the kinds with the parameters in their customary order."""
        kinds = []
        if self.bibd:
            kinds.append(
                f"BIBD (n, k, gamma, delta, lambda) = "
                f"({self.n}, {self.k}, {self.gamma}, {self.delta}, {self.lam})"
            )
        if self.srg:
            kinds.append(
                f"SRG (n, delta, lambda, mu) = ({self.n}, {self.delta}, {self.lam}, {self.mu})"
            )
        if self.coset:
            kinds.append(f"coset (k, m, delta) = ({self.k}, {self.coset}, {self.delta})")
        if not kinds:
            regular = self.delta is not None and self.gamma is not None
            values = (self.n, self.k, self.delta, self.gamma)
            kinds.append(
                f"{'bi-regular' if regular else 'irregular'} (n, k, delta, gamma) = "
                f"({', '.join('-' if value is None else str(value) for value in values)})"
            )
        return "; ".join(kinds)


def parameters(A: AnyArray) -> Parameters:
    """Read the parameters of an assignment matrix from it.

    A design is recognised by A'A = (delta - lambda) I + lambda J with equal blocks and
    0 < lambda < delta, a strongly regular graph by A^2 = delta I + lambda A + mu (J - I - A) with
    A symmetric, zero on the diagonal and neither complete nor empty. A matrix may be both, with
    lambda = mu.

    Parameters
    ----------
    A : (k, n), zeros and ones

    Raises
    ------
    ValueError
        If A is not a matrix of zeros and ones or leaves a subset out.
    """
    A = np.asarray(A)
    check_assignment(A)
    k, n = A.shape
    delta, gamma = _common(A.sum(axis=0, dtype=np.intp)), _common(A.sum(axis=1, dtype=np.intp))
    lam = mu = coset = None
    bibd = srg = False
    if delta and gamma:
        # whole numbers below 2^53: a product of doubles is exact, and fast
        shared = (A.T.astype(np.float64) @ A).astype(np.intp)
        off_diagonal = ~np.eye(n, dtype=bool)
        lam = _common(shared[off_diagonal])
        bibd = lam is not None and 0 < lam < delta
        if k == n and not A.diagonal().any() and (A == A.T).all() and delta < n - 1:
            adjacent, apart = _common(shared[A == 1]), _common(shared[off_diagonal & (A == 0)])
            srg = adjacent is not None and apart is not None
            lam, mu = (adjacent, apart) if srg else (lam, None)
        coset = _copies(A, delta)
    return Parameters(n, k, delta, gamma, lam, mu, bibd, srg, coset)


def _common(values: AnyArray) -> int | None:
    """Return the value that all of `values` have, or None."""
    return int(values[0]) if values.size and (values == values[0]).all() else None


def _copies(A: AnyArray, delta: int) -> int | None:
    """Return m if A is m copies of a k x k circulant that a coset graph allows."""
    k, n = A.shape
    if n % k or not is_invertible_load(k, delta):
        return None
    subset, worker = np.ogrid[:k, :n]
    return n // k if (A == A[0][(worker - subset) % k]).all() else None
