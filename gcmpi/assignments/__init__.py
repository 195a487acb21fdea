"""Assignment matrices A (k, n): which worker holds which data subset.

One function is one construction; it returns A as uint8, subsets in rows and workers in columns.
"""

from gcmpi.assignments.bipartite import coset
from gcmpi.assignments.designs import projective_plane, singer_difference_set
from gcmpi.assignments.repetition import cyclic, fractional_repetition, uncoded

__all__ = [
    "coset",
    "cyclic",
    "fractional_repetition",
    "projective_plane",
    "singer_difference_set",
    "uncoded",
]
