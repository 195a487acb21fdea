"""Assignment matrices A (k, n): which worker holds which data subset.

One function is one construction; it returns A as uint8, subsets in rows and workers in columns.
`find` lists what exists for a number of workers, `parameters` reads from a matrix what it is.
"""

from gcmpi.codes.assignments.bipartite import biregular, coset
from gcmpi.codes.assignments.catalogue import Entry, Found, find
from gcmpi.codes.assignments.designs import (
    affine_plane,
    projective_plane,
    projective_space,
    steiner_triple,
)
from gcmpi.codes.assignments.difference_sets import (
    biquadratic_residue,
    quadratic_residue,
    sextic_residue,
    singer_difference_set,
    twin_prime_power,
)
from gcmpi.codes.assignments.expanders import (
    circulant_edges,
    expander,
    graph_edges,
    is_ramanujan,
    second_eigenvalue,
)
from gcmpi.codes.assignments.graphs import kneser, latin_square, lattice, paley, triangular
from gcmpi.codes.assignments.hypergraphs import graph, largest_r
from gcmpi.codes.assignments.parameters import Parameters, parameters
from gcmpi.codes.assignments.random_sets import (
    bernoulli,
    pairwise_balanced,
    random_replication,
    regularised_bernoulli,
    stochastic_block,
)
from gcmpi.codes.assignments.repetition import (
    cyclic,
    fractional_repetition,
    groups,
    uncoded,
)
from gcmpi.codes.assignments.sporadic import (
    clebsch,
    higman_sims,
    hoffman_singleton,
    petersen,
    schlaefli,
    shrikhande,
)

__all__ = [
    "Entry",
    "Found",
    "Parameters",
    "affine_plane",
    "bernoulli",
    "biquadratic_residue",
    "biregular",
    "circulant_edges",
    "clebsch",
    "coset",
    "cyclic",
    "expander",
    "find",
    "fractional_repetition",
    "graph",
    "graph_edges",
    "groups",
    "higman_sims",
    "hoffman_singleton",
    "is_ramanujan",
    "kneser",
    "largest_r",
    "latin_square",
    "lattice",
    "pairwise_balanced",
    "paley",
    "parameters",
    "petersen",
    "projective_plane",
    "projective_space",
    "quadratic_residue",
    "random_replication",
    "regularised_bernoulli",
    "schlaefli",
    "second_eigenvalue",
    "sextic_residue",
    "shrikhande",
    "singer_difference_set",
    "steiner_triple",
    "stochastic_block",
    "triangular",
    "twin_prime_power",
    "uncoded",
]
