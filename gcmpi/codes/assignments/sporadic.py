"""Assignments from single strongly regular graphs; see `gcmpi.assignments.graphs`."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments.catalogue import no_option, with_complement
from gcmpi.codes.assignments.graphs import graph, kneser
from gcmpi.registry import ASSIGNMENTS


@ASSIGNMENTS.register("petersen", vertex_transitive=True, sizes=no_option(10, 3))
def petersen() -> AnyArray:
    """Petersen graph, the Kneser graph K(5, 2): (10, 3, 0, 1).

    Returns
    -------
    A : (10, 10) uint8
    """
    return kneser(5)


@ASSIGNMENTS.register(
    "clebsch",
    {},
    {"complement": True},
    vertex_transitive=True,
    sizes=with_complement(no_option(16, 5), graph=True),
)
def clebsch(complement: bool = False) -> AnyArray:
    """Clebsch graph, the folded 5-cube: (16, 5, 0, 2), complement (16, 10, 6, 6).

    Workers are the words of four bits, adjacent iff they differ in one bit or in all.

    Parameters
    ----------
    complement
        Take J - I - A.

    Returns
    -------
    A : (16, 16) uint8
    """
    word = np.arange(16)
    return graph(np.isin(word[:, None] ^ word, (1, 2, 4, 8, 15)), complement)


@ASSIGNMENTS.register(
    "shrikhande",
    {},
    {"complement": True},
    vertex_transitive=True,
    sizes=with_complement(no_option(16, 6), graph=True),
)
def shrikhande(complement: bool = False) -> AnyArray:
    """Shrikhande graph, with the parameters of L2(4) but not it: (16, 6, 2, 2).

    Workers are the pairs over Z_4, adjacent iff they differ by (1, 0), (0, 1), (1, 1) or the
    opposite of one.

    Parameters
    ----------
    complement
        Take J - I - A.

    Returns
    -------
    A : (16, 16) uint8

    References
    ----------
    S. S. Shrikhande, The uniqueness of the L2 association scheme, Ann. Math. Statist. 30, 1959.
    """
    x, y = np.divmod(np.arange(16), 4)
    step = (x[:, None] - x) % 4 * 4 + (y[:, None] - y) % 4
    return graph(np.isin(step, (4, 12, 1, 3, 5, 15)), complement)


@ASSIGNMENTS.register(
    "schlaefli",
    {},
    {"complement": True},
    vertex_transitive=True,
    sizes=with_complement(no_option(27, 16), graph=True),
)
def schlaefli(complement: bool = False) -> AnyArray:
    """Schlaefli graph: (27, 16, 10, 8), complement (27, 10, 1, 5).

    Workers are the zeros of the elliptic quadratic form x1 x2 + x3 x4 + x5^2 + x5 x6 + x6^2 on
    GF(2)^6, adjacent iff they are not orthogonal.

    Parameters
    ----------
    complement
        Take J - I - A.

    Returns
    -------
    A : (27, 27) uint8
    """
    x = np.arange(1, 64)[:, None] >> np.arange(6) & 1
    form = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + x[:, 4] + x[:, 4] * x[:, 5] + x[:, 5]
    zeros = x[form % 2 == 0]
    partner = zeros[:, [1, 0, 3, 2, 5, 4]]
    return graph(zeros @ partner.T % 2 == 1, complement)


@ASSIGNMENTS.register(
    "hoffman-singleton",
    {},
    {"complement": True},
    vertex_transitive=True,
    sizes=with_complement(no_option(50, 7), graph=True),
)
def hoffman_singleton(complement: bool = False) -> AnyArray:
    """Hoffman-Singleton graph: (50, 7, 0, 1).

    Robertson's pentagons P_h (j adjacent to j + 1) and pentagrams Q_i (j adjacent to j + 2), h and
    i in Z_5: j of P_h is adjacent to h i + j of Q_i.

    Parameters
    ----------
    complement
        Take J - I - A.

    Returns
    -------
    A : (50, 50) uint8

    References
    ----------
    A. J. Hoffman and R. R. Singleton, On Moore graphs with diameters 2 and 3, IBM J. Res. Dev. 4,
    1960.
    """
    h, j = np.divmod(np.arange(25), 5)
    step, same = (j[:, None] - j) % 5, h[:, None] == h
    across = step == -h[:, None] * h % 5
    pentagons, pentagrams = same & np.isin(step, (1, 4)), same & np.isin(step, (2, 3))
    return graph(np.block([[pentagons, across], [across.T, pentagrams]]), complement)


@ASSIGNMENTS.register(
    "higman-sims",
    {},
    {"complement": True},
    vertex_transitive=True,
    sizes=with_complement(no_option(100, 22), graph=True),
)
def higman_sims(complement: bool = False) -> AnyArray:
    """Higman-Sims graph: (100, 22, 0, 6).

    Workers are one more point, the 22 points and the 77 blocks of the Steiner system S(3, 6, 22).
    The first is adjacent to the points, a point to its blocks, a block to the disjoint blocks.
    The blocks are the words of weight 8 of the binary Golay code with ones at the last two of its
    24 places.

    Parameters
    ----------
    complement
        Take J - I - A.

    Returns
    -------
    A : (100, 100) uint8

    References
    ----------
    D. G. Higman and C. C. Sims, A simple group of order 44,352,000, Math. Z. 105, 1968.
    """
    rows = np.zeros((12, 24), dtype=np.intp)
    for shift in range(12):
        # the generator polynomial of the cyclic Golay code of length 23, and a parity bit
        rows[shift, [shift + power for power in (0, 1, 5, 6, 7, 9, 11)]] = 1
        rows[shift, 23] = 1
    words = (np.arange(4096)[:, None] >> np.arange(12) & 1) @ rows % 2
    blocks = words[(words.sum(axis=1) == 8) & words[:, 22:].all(axis=1), :22]
    A = np.zeros((100, 100), dtype=bool)
    A[0, 1:23] = A[1:23, 0] = True
    A[23:, 1:23], A[1:23, 23:] = blocks, blocks.T
    A[23:, 23:] = blocks @ blocks.T == 0
    return graph(A, complement)
