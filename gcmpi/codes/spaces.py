"""What a server can ever learn of the subset gradients: the space that a code's messages span.

With Z (d/m, m k) the parts of the subset gradients, messages are Z B and the gradient is Z F. What
matters of Z is its product with the space V of the columns of F and the range of every B that may
be used. Workers that share no subset with others see a part of V of their own, so that V splits by
component.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import Array, IntArray
from gcmpi.codes.assignments.structure import components
from gcmpi.codes.code import Code
from gcmpi.codes.ensemble import Ensemble


@dataclass(frozen=True)
class Space:
    """The part of V of one component, or of several.

    Rows are ordered by subset, then by part.

    Attributes
    ----------
    workers, subsets : (g,), (h,)
        The members of the component.
    m
        The communication reduction.
    basis : (h m, r) or None
        Orthonormal columns that span the part of V; None for all of it, r = h m.
    """

    workers: IntArray
    subsets: IntArray
    m: int
    basis: Array | None = None

    @property
    def dimension(self) -> int:
        """The dimension r."""
        return self.m * self.subsets.size if self.basis is None else self.basis.shape[1]

    @property
    def target(self) -> Array:
        """The rows of F in the basis, (r, m)."""
        return self._in_basis(np.tile(np.eye(self.m), (self.subsets.size, 1)))

    def columns(self, code: Code) -> Array:
        """Return the rows and columns of B in the basis, (r, g)."""
        blocks = code.B.reshape(code.m, code.k, code.n)
        B = blocks[:, self.subsets[:, None], self.workers].swapaxes(0, 1)
        return self._in_basis(B.reshape(-1, self.workers.size))

    def _in_basis(self, rows: Array) -> Array:
        return rows if self.basis is None else self.basis.T @ rows


def spaces(codes: Ensemble, *, whole: bool = False, together: int = 1) -> list[Space]:
    """Return V, component by component; all of R^(m k) unless B stays the same.

    Parameters
    ----------
    whole
        Return all of R^(m k) for any B.
    together
        Take small components together, until each has about so many workers.
    """
    component = components(codes.A)
    component //= max(1, together * (int(component.max()) + 1) // codes.n)
    of_subset = component[codes.A.argmax(axis=1)]
    everything = [
        Space(np.flatnonzero(component == a), np.flatnonzero(of_subset == a), codes.m)
        for a in range(int(component.max()) + 1)
    ]
    if whole or codes.changes or codes.relabel:
        return everything
    return [_spanned(space, codes.at(0)) for space in everything]


def _spanned(space: Space, code: Code) -> Space:
    """Return the space with a basis of what B and F span in it, if that is not everything."""
    both = np.hstack([space.columns(code), space.target])
    norms = np.linalg.norm(both, axis=0)
    U, sigma, _ = np.linalg.svd(both / np.where(norms > 0, norms, 1.0), full_matrices=False)
    r = int((sigma > max(both.shape) * np.finfo(np.float64).eps * sigma[0]).sum())
    if r == len(both):
        return space
    return Space(space.workers, space.subsets, space.m, U[:, :r])
