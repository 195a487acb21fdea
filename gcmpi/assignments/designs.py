"""Assignments from block designs: workers are points, subsets are blocks.

A is the transpose of the usual incidence matrix, so A'A = (delta - lambda) I + lambda J: every
worker holds delta subsets and every two workers share lambda.
"""

from __future__ import annotations

import numpy as np

from gcmpi.assignments.catalogue import nearby, one_option
from gcmpi.assignments.fields import is_prime_power, prime_power, primitive_element
from gcmpi.code import AnyArray, IntArray
from gcmpi.registry import ASSIGNMENTS


@ASSIGNMENTS.register(
    "projective-plane",
    {"order": 2},
    {"order": 3},
    {"order": 4},
    vertex_transitive=True,
    sizes=one_option("order", lambda q: (q * q + q + 1, q * q + q + 1, q + 1), is_prime_power),
)
def projective_plane(order: int) -> AnyArray:
    """Projective plane: n = k = order^2 + order + 1, every two workers share one subset.

    Labelled by Singer's cycle: with a difference set D modulo n, worker i holds subset j iff
    i - j is in D, so A is a circulant. For order q = r^2 the workers i with the same i modulo
    q - r + 1 form a Baer subplane: each of these classes covers every subset.

    Parameters
    ----------
    order
        A prime power.

    Returns
    -------
    A : (n, n) uint8, gamma = delta = order + 1, lambda = 1

    Raises
    ------
    ValueError
        If the order is not a prime power.

    References
    ----------
    J. Singer, A theorem in finite projective geometry and some applications to number theory,
    Trans. AMS 43, 1938.
    """
    if not is_prime_power(order):
        raise ValueError(
            f"projective-plane needs a prime power as its order, not order={order}; "
            f"{nearby('order', order, is_prime_power)}"
        )
    return _develop(singer_difference_set(order, 2), order**2 + order + 1)


def singer_difference_set(order: int, dimension: int) -> IntArray:
    """Return a hyperplane of PG(dimension, order) as exponents of a primitive element.

    These are the i modulo n = (q^(dimension+1) - 1) / (q - 1) at which alpha^i has trace zero
    over GF(q), q = order; every non-zero residue modulo n is a difference of them equally often.
    """
    power = prime_power(order)
    if power is None:
        raise ValueError(f"a Singer difference set needs a prime power, not order={order}")
    terms = dimension + 1
    alpha = primitive_element(order**terms)
    n = (order**terms - 1) // (order - 1)
    x, exponents = alpha**0, []
    for i in range(n):
        trace = sum((x.frobenius(power[1] * u) for u in range(1, terms)), x)
        if trace.is_zero():
            exponents.append(i)
        x *= alpha
    return np.array(exponents)


def _develop(D: IntArray, n: int) -> AnyArray:
    """Return the circulant with A[j, i] = 1 iff i - j is in D modulo n."""
    subset, worker = np.ogrid[:n, :n]
    return np.isin((worker - subset) % n, D).astype(np.uint8)
