"""Assignments from difference sets: symmetric designs with n = k.

In a group of order n, a set D of delta elements is a difference set if every element but zero is
a difference of two of them lambda times. Its development, worker i holding subset j iff
i - j is in D, is a design in which every two workers share lambda subsets. The translations of
the group make it vertex-transitive; J - A is a design too.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from gcmpi.arrays import AnyArray, BoolArray, IntArray
from gcmpi.codes.assignments.catalogue import nearby, one_option, with_complement
from gcmpi.codes.assignments.fields import (
    differences,
    is_prime,
    is_prime_power,
    logarithms,
    prime_power,
    primitive_element,
)
from gcmpi.registry import ASSIGNMENTS


def develop(D: BoolArray, complement: bool = False, minus: IntArray | None = None) -> AnyArray:
    """Return A with A[j, i] = 1 iff i - j is in D, or iff it is not.

    Parameters
    ----------
    D : (n,) bool
        The members of the difference set.
    complement
        Take J - A.
    minus : (n, n)
        The number of the group element i - j, at [j, i]; i - j modulo n if left out.
    """
    if minus is None:
        subset, worker = np.ogrid[: len(D), : len(D)]
        minus = (worker - subset) % len(D)
    A: AnyArray = (D[minus] ^ complement).astype(np.uint8)
    return A


def singer_difference_set(order: int, dimension: int) -> BoolArray:
    """Return a hyperplane of PG(dimension, order) as a difference set, shape (n,) bool.

    Its members are the i modulo n = (q^(dimension+1) - 1) / (q - 1) at which alpha^i has trace
    zero over GF(q), where q is the order and alpha a primitive element of GF(q^(dimension+1)).

    Raises
    ------
    ValueError
        If the order is not a prime power.
    """
    power = prime_power(order)
    if power is None:
        raise ValueError(f"a Singer difference set needs a prime power, not order={order}")
    alpha = primitive_element(order ** (dimension + 1))
    D = np.zeros((order ** (dimension + 1) - 1) // (order - 1), dtype=bool)
    x = alpha**0
    for i in range(len(D)):
        trace = sum((x.frobenius(power[1] * u) for u in range(1, dimension + 1)), x)
        D[i] = trace.is_zero()
        x *= alpha
    return D


def _is_quadratic(q: int) -> bool:
    return q >= 7 and q % 4 == 3 and is_prime_power(q)


@ASSIGNMENTS.register(
    "quadratic-residue",
    {"q": 7},
    {"q": 11},
    {"q": 11, "complement": True},
    {"q": 27},
    vertex_transitive=True,
    sizes=with_complement(one_option("q", lambda q: (q, q, (q - 1) // 2), _is_quadratic)),
)
def quadratic_residue(q: int, complement: bool = False) -> AnyArray:
    """Paley difference set: the squares of GF(q) without zero, q = 4t - 1.

    Parameters
    ----------
    q
        Workers; a prime power that is 3 modulo 4, at least 7.
    complement
        Take J - A.

    Returns
    -------
    A : (q, q) uint8, gamma = delta = (q - 1) / 2, lambda = (q - 3) / 4

    Raises
    ------
    ValueError
        If q is not of that form.

    References
    ----------
    R. E. A. C. Paley, On orthogonal matrices, J. Math. and Phys. 12, 1933.
    """
    if not _is_quadratic(q):
        raise ValueError(
            "quadratic-residue needs q a prime power that is 3 modulo 4 and at least 7, "
            f"not q={q}; {nearby('q', q, _is_quadratic)}"
        )
    return develop(logarithms(q) % 2 == 0, complement, differences(q))


def _odd_square(x: int, factor: int) -> bool:
    """Say whether x = factor b^2 with b odd."""
    b = isqrt(max(x, 0) // factor)
    return b % 2 == 1 and factor * b * b == x


def _is_biquadratic(q: int) -> bool:
    return q > 5 and (_odd_square(q - 1, 4) or _odd_square(q - 9, 4)) and is_prime(q)


def _biquadratic_load(q: int) -> int:
    return (q - 1) // 4 + _odd_square(q - 9, 4)


@ASSIGNMENTS.register(
    "biquadratic-residue",
    {"q": 13},
    {"q": 13, "complement": True},
    {"q": 37},
    vertex_transitive=True,
    sizes=with_complement(one_option("q", lambda q: (q, q, _biquadratic_load(q)), _is_biquadratic)),
)
def biquadratic_residue(q: int, complement: bool = False) -> AnyArray:
    """Fourth powers modulo a prime q = 4 b^2 + 1, or with zero for q = 4 b^2 + 9, b odd.

    Parameters
    ----------
    q
        Workers: 13, 37, 101, 109, 197, ...
    complement
        Take J - A.

    Returns
    -------
    A : (q, q) uint8
        gamma = delta = (q - 1) / 4 and lambda = (q - 5) / 16, or (q + 3) / 4 and (q + 3) / 16.

    Raises
    ------
    ValueError
        If q is not of that form.

    References
    ----------
    S. Chowla, A property of biquadratic residues, Proc. Nat. Acad. Sci. India A 14, 1944;
    E. Lehmer, On residue difference sets, Canadian J. Math. 5, 1953.
    """
    if not _is_biquadratic(q):
        raise ValueError(
            "biquadratic-residue needs a prime q = 4 b^2 + 1 > 5 or 4 b^2 + 9 with b odd, "
            f"not q={q}; {nearby('q', q, _is_biquadratic)}"
        )
    D = logarithms(q) % 4 == 0
    D[0] = _odd_square(q - 9, 4)
    return develop(D, complement)


def _is_sextic(q: int) -> bool:
    x = isqrt(max(q - 27, 0) // 4)
    return x > 0 and q == 4 * x * x + 27 and is_prime(q)


@ASSIGNMENTS.register(
    "sextic-residue",
    {"q": 31},
    {"q": 31, "complement": True},
    {"q": 43},
    vertex_transitive=True,
    sizes=with_complement(one_option("q", lambda q: (q, q, (q - 1) // 2), _is_sextic)),
)
def sextic_residue(q: int, complement: bool = False) -> AnyArray:
    """Hall's difference set: the classes 0, 1 and 3 of sixth powers modulo a prime 4 x^2 + 27.

    The parameters are those of `quadratic_residue`, the design is another. Class c holds
    the g^(6t + c), for a primitive root g with 3 in class 1.

    Parameters
    ----------
    q
        Workers: 31, 43, 127, 223, 283, ...
    complement
        Take J - A.

    Returns
    -------
    A : (q, q) uint8, gamma = delta = (q - 1) / 2, lambda = (q - 3) / 4

    Raises
    ------
    ValueError
        If q is not of that form.

    References
    ----------
    M. Hall, A survey of difference sets, Proc. AMS 7, 1956.
    """
    if not _is_sextic(q):
        raise ValueError(
            f"sextic-residue needs a prime q = 4 x^2 + 27, not q={q}; {nearby('q', q, _is_sextic)}"
        )
    log = logarithms(q)
    # log 3 is 1 or 5 modulo 6; multiplying by it changes to a root g with 3 in class 1
    D = np.isin(log * log[3] % 6, (0, 1, 3))
    D[0] = False
    return develop(D, complement)


def _is_twin(q: int) -> bool:
    return q >= 3 and is_prime_power(q) and is_prime_power(q + 2)


@ASSIGNMENTS.register(
    "twin-prime-power",
    {"q": 3},
    {"q": 3, "complement": True},
    {"q": 5},
    {"q": 7},
    vertex_transitive=True,
    sizes=with_complement(
        one_option("q", lambda q: (q * (q + 2), q * (q + 2), (q * (q + 2) - 1) // 2), _is_twin)
    ),
)
def twin_prime_power(q: int, complement: bool = False) -> AnyArray:
    """Twin prime powers: the pairs (x, y) in GF(q) x GF(q + 2), both squares or neither, or y = 0.

    Parameters
    ----------
    q
        A prime power with q + 2 a prime power: 3, 5, 7, 9, 11, 17, ...
    complement
        Take J - A.

    Returns
    -------
    A : (n, n) uint8, n = q (q + 2), gamma = delta = (n - 1) / 2, lambda = (n - 3) / 4

    Raises
    ------
    ValueError
        If q is not of that form.

    References
    ----------
    R. G. Stanton and D. A. Sprott, A family of difference sets, Canadian J. Math. 10, 1958.
    """
    if not _is_twin(q):
        raise ValueError(
            f"twin-prime-power needs q and q + 2 prime powers, not q={q}; "
            f"{nearby('q', q, _is_twin)}"
        )
    n = q * (q + 2)
    log_x, log_y = logarithms(q)[:, None], logarithms(q + 2)[None, :]
    D = (log_x >= 0) & (log_y >= 0) & ((log_x + log_y) % 2 == 0)
    D[:, 0] = True
    first, second = differences(q), differences(q + 2)
    minus = first[:, None, :, None] * (q + 2) + second[None, :, None, :]
    return develop(D.ravel(), complement, minus.reshape(n, n))
