"""Least squares where workers fall into components that share no subset, as groups do.

B is block diagonal up to the order of its rows and columns, so that the least-squares R splits
into one small problem a component; those of one shape are solved together. Nothing of size n x n is
formed: for n = 10,000 workers in a thousand groups R takes milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gcmpi.arrays import Array, BoolArray, IntArray
from gcmpi.codes.assignments.structure import components
from gcmpi.codes.code import Code

MAX_CONDITION = 1e8
"""Condition of T_S T_S' + eps I up to which it is inverted."""


class ByComponent:
    """Least squares, or a ridge, for one code, component by component.

    With the columns of B scaled to norm 1, component a has B_a = Q T for Q with orthonormal columns
    and T (r, g), r its rank. The R_a of least norm is ``T_S' (T_S T_S' + eps I)^-1 Q'F_a``, an
    r x r system: r = m for a group.

    Parameters
    ----------
    code
        Any code; a help where it has several components.
    eps
        That of a ridge; 0 for none.
    """

    def __init__(self, code: Code, eps: float = 0.0) -> None:
        self._shape, self._eps = (code.n, code.m), eps
        norms = np.linalg.norm(code.B, axis=0)
        self._norms = np.where(norms > 0, norms, 1.0)
        component = components(code.A)
        of_subset = component[code.A.argmax(axis=1)]
        sizes = np.stack([np.bincount(component), np.bincount(of_subset)], axis=1)
        workers, subsets = _members(component, sizes[:, 0]), _members(of_subset, sizes[:, 1])
        shapes, kind = np.unique(sizes, axis=0, return_inverse=True)
        self._stacks = [
            _Stack.of(
                code,
                self._norms,
                np.stack([workers[a] for a in np.flatnonzero(kind == number)]),
                np.stack([subsets[a] for a in np.flatnonzero(kind == number)]),
            )
            for number in range(len(shapes))
        ]

    def __call__(self, survivors: BoolArray) -> Array:
        """Return R (n, m), with zero rows for stragglers."""
        R = np.zeros(self._shape)
        for stack in self._stacks:
            R[stack.workers] = stack.solve(survivors, self._eps)
        return R / self._norms[:, None]


class _Stack(NamedTuple):
    """The components with g workers and h subsets, c of them.

    Attributes
    ----------
    workers : (c, g)
        The workers of each.
    T : (c, r, g)
        Their columns of B at norm 1, in the basis Q.
    QF : (c, r, m)
        Q'F_a.
    """

    workers: IntArray
    T: Array
    QF: Array

    @classmethod
    def of(cls, code: Code, norms: Array, workers: IntArray, subsets: IntArray) -> _Stack:
        """Read them from the code, for the workers (c, g) and subsets (c, h) of each."""
        (c, g), h = workers.shape, subsets.shape[1]
        blocks = code.B.reshape(code.m, code.k, code.n)
        B = (
            blocks[:, subsets[:, :, None], workers[:, None, :]].swapaxes(0, 1)
            / norms[workers[:, None, None, :]]
        )
        U, sigma, Vt = np.linalg.svd(B.reshape(c, -1, g), full_matrices=False)
        small = max(code.m * h, g) * np.finfo(np.float64).eps * sigma[:, :1]
        r = int((sigma > small).sum(axis=1).max())
        QF = U.reshape(c, code.m, h, -1).sum(axis=2).swapaxes(1, 2)[:, :r]
        return cls(workers, sigma[:, :r, None] * Vt[:, :r], np.ascontiguousarray(QF))

    def solve(self, survivors: BoolArray, eps: float) -> Array:
        """Return the rows of R for columns of norm 1, (c, g, m)."""
        answered = survivors[self.workers]
        T = self.T * answered[:, None, :]
        r = T.shape[1]
        G = T @ T.swapaxes(1, 2) + eps * np.eye(r)
        good = (answered.sum(axis=1) >= r) | (eps > 0)
        G[~good] = np.eye(r)
        X = np.empty((*self.workers.shape, self.QF.shape[2]))
        try:
            H = np.linalg.inv(G)
            condition = np.linalg.norm(G, 1, axis=(1, 2)) * np.linalg.norm(H, 1, axis=(1, 2))
            good &= condition <= MAX_CONDITION
            X = T.swapaxes(1, 2) @ (H @ self.QF)
        except np.linalg.LinAlgError:  # of one component is enough
            good[:] = False
        if not good.all():
            X[~good] = self._by_factorisation(T[~good], self.QF[~good], eps)
        return X * answered[:, :, None]

    @staticmethod
    def _by_factorisation(T: Array, QF: Array, eps: float) -> Array:
        U, sigma, Vt = np.linalg.svd(T, full_matrices=False)
        small = max(T.shape[1:]) * np.finfo(np.float64).eps * sigma[:, :1]
        weight = np.where(sigma > small, sigma / np.where(sigma > 0, sigma**2 + eps, 1.0), 0.0)
        X: Array = Vt.swapaxes(1, 2) @ (weight[:, :, None] * (U.swapaxes(1, 2) @ QF))
        return X


def _members(component: IntArray, sizes: IntArray) -> list[IntArray]:
    """Return the members of each component, ascending."""
    return np.split(np.argsort(component, kind="stable"), np.cumsum(sizes)[:-1])
