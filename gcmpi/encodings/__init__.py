"""Encoding matrices B (m * k, n) from an assignment matrix A (k, n).

One function is one construction: ``(A, m, rng, options...) -> B``, block u of k rows having the
support of A. A function without randomness leaves `rng` out.
"""

from gcmpi.encodings.diagonal import diagonals, random_diagonal, stacked, uncoded
from gcmpi.encodings.hadamard import random_hadamard

__all__ = ["diagonals", "random_diagonal", "random_hadamard", "stacked", "uncoded"]
