"""Encoding matrices B (m * k, n) from an assignment matrix A (k, n).

One function is one construction: ``(A, m, rng, options...) -> B``, block u of k rows having the
support of A. A function without randomness leaves `rng` out.
"""

from gcmpi.codes.encodings.approximate import (
    bernoulli_code,
    design_code,
    erasurehead,
    expander_code,
    graph_code,
    stochastic_block_code,
    stochastic_code,
)
from gcmpi.codes.encodings.communication_efficient import block_mds, gaussian_exact, ye_abbe
from gcmpi.codes.encodings.cyclic import cyclic_trained
from gcmpi.codes.encodings.diagonal import diagonals, random_diagonal, stacked, uncoded
from gcmpi.codes.encodings.exact import (
    condition_number,
    cyclic_mds,
    cyclic_repetition,
    fractional_repetition,
)
from gcmpi.codes.encodings.hadamard import random_hadamard
from gcmpi.codes.encodings.harmonic import harmonic
from gcmpi.codes.encodings.one_vector import frame
from gcmpi.codes.encodings.partial import partial_stragglers
from gcmpi.codes.encodings.rank_one import weighted_rank_one
from gcmpi.codes.encodings.trained import exact_trained

__all__ = [
    "bernoulli_code",
    "block_mds",
    "condition_number",
    "cyclic_mds",
    "cyclic_repetition",
    "cyclic_trained",
    "design_code",
    "diagonals",
    "erasurehead",
    "exact_trained",
    "expander_code",
    "fractional_repetition",
    "frame",
    "gaussian_exact",
    "graph_code",
    "harmonic",
    "partial_stragglers",
    "random_diagonal",
    "random_hadamard",
    "stacked",
    "stochastic_block_code",
    "stochastic_code",
    "uncoded",
    "weighted_rank_one",
    "ye_abbe",
]
