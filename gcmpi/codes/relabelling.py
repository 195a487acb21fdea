"""Relabelling: any code on a circulant assignment made unbiased by new names in every iteration.

Worker i plays worker i + r, subset j subset j + r, and the m parts are mixed by a signed
permutation P. Data stays where it is, because the assignment is the same after the shift. If r and
P are uniform and all sets of stragglers of one size equally likely, E[B_S R] = alpha F with
alpha_s = 1 - E Err_S / (m k): the mean over P of P X P' is a multiple of I, and that over r is the
same one for all subsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.made import Decode


def check_circulant(A: AnyArray) -> None:
    """Refuse an assignment that is not one circulant, or several side by side, as it is numbered.

    Raises
    ------
    ValueError
        If A changes when subsets, and workers in groups of k, are shifted by one.
    """
    k, n = A.shape
    blocks = A.reshape(k, -1, k) if n % k == 0 else None
    if blocks is None or (np.roll(blocks, (1, 1), axis=(0, 2)) != blocks).any():
        raise ValueError(
            "--relabel needs an assignment that is the same when all subsets and workers move on "
            "by one, as projective-plane, coset, cyclic and paley (of a prime) are"
        )


@dataclass(frozen=True)
class Relabelling:
    """One choice of new names.

    Attributes
    ----------
    shift
        Worker i's part is played by worker i + shift (modulo k within each group of k workers),
        subset j's by subset j + shift.
    P : (m, m)
        What mixes the parts.
    """

    shift: int
    P: Array

    @classmethod
    def draw(cls, k: int, m: int, rng: np.random.Generator) -> Relabelling:
        """Draw the shift and the signed permutation, all equally likely."""
        signs = rng.choice((-1.0, 1.0), m)
        return cls(int(rng.integers(k)), np.diag(signs)[rng.permutation(m)])

    def matrix(self, B: Array, k: int) -> Array:
        """Return an encoding matrix B (m * k, n) under the new names."""
        blocks = B.reshape(len(self.P), k, -1, k)
        moved = np.roll(blocks, (self.shift, self.shift), axis=(1, 3))
        renamed: Array = (self.P @ moved.reshape(len(self.P), -1)).reshape(B.shape)
        return renamed

    def of(self, code: Code) -> Relabelled:
        """Return the code under its new names."""
        B = self.matrix(code.B, code.k)
        workers = np.arange(code.n).reshape(-1, code.k)
        played = np.roll(workers, self.shift, axis=1).ravel()
        return Relabelled(code.A, B, code.m, code, played, self.P)


@dataclass(frozen=True, eq=False)
class Relabelled(Code):
    """A code that is another one under new names.

    Attributes
    ----------
    original
        The other one.
    played : (n,)
        Which worker of the original each worker plays.
    P : (m, m)
        What mixes the parts of the original.
    """

    original: Code
    played: IntArray
    P: Array


class ByOriginal:
    """Decodes relabelled codes by a decoder for their original.

    B = T B_0 U' with U and T the orthogonal matrices of the new names of workers, and of subsets
    and parts, so that R = U R_0 P' has the error that R_0 has: what the decoder keeps of the
    original, such as an inverse, serves all iterations.

    Parameters
    ----------
    decode
        Decodes the original.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def __call__(self, code: Code, survivors: BoolArray) -> Array:
        """Return R (n, m) of a relabelled code."""
        assert isinstance(code, Relabelled)
        originally = np.empty_like(code.check_survivors(survivors))
        originally[code.played] = survivors
        R: Array = self._decode(originally)[code.played] @ code.P.T
        return R
