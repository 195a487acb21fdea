"""Finite fields GF(q), by FLINT; an element is named by its index.

The index of an element reads its coefficients over GF(p) as digits of base p, so 0 and 1 are
what they say and, for a prime q, the index is the residue.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gcmpi.arrays import IntArray

if TYPE_CHECKING:
    from flint import fq_default


@cache
def prime_power(q: int) -> tuple[int, int] | None:
    """Return (p, e) with q = p^e and p prime, or None if there is none."""
    import flint

    if q < 2:
        return None
    factors = flint.fmpz(q).factor()
    return (int(factors[0][0]), int(factors[0][1])) if len(factors) == 1 else None


def is_prime_power(q: int) -> bool:
    """Say whether q = p^e with p prime and e >= 1."""
    return prime_power(q) is not None


def is_prime(q: int) -> bool:
    """Say whether q is prime."""
    return prime_power(q) == (q, 1)


def primitive_element(q: int) -> fq_default:
    """Return the first generator of the multiplicative group of GF(q), in the order of index."""
    import flint

    primes = [int(r) for r, _ in flint.fmpz(q - 1).factor()]
    return next(
        x
        for x in _elements(q)
        if not x.is_zero() and not any((x ** ((q - 1) // r)).is_one() for r in primes)
    )


def logarithms(q: int) -> IntArray:
    """Return the exponent to which `primitive_element` gives each element; -1 for zero."""
    index = {x: i for i, x in enumerate(_elements(q))}
    alpha = primitive_element(q)
    x, table = alpha**0, np.full(q, -1)
    for exponent in range(q - 1):
        table[index[x]] = exponent
        x *= alpha
    return table


def products(q: int) -> IntArray:
    """Return the (q, q) table whose entry [j, i] is the index of x_j x_i."""
    log = logarithms(q)
    power = np.argsort(log)[1:]
    table = np.zeros((q, q), dtype=np.intp)
    table[1:, 1:] = power[(log[1:, None] + log[None, 1:]) % (q - 1)]
    return table


def differences(q: int) -> IntArray:
    """Return the (q, q) table whose entry [j, i] is the index of x_i - x_j."""
    p, e = _power(q)
    place = p ** np.arange(e)
    digits = np.arange(q)[:, None] // place % p
    table: IntArray = ((digits[None, :, :] - digits[:, None, :]) % p) @ place
    return table


def _elements(q: int) -> Iterator[fq_default]:
    import flint

    p, e = _power(q)
    field = flint.fq_default_ctx(p, e)
    for i in range(q):
        yield field(flint.fmpz_poly([i // p**c % p for c in range(e)]))


def _power(q: int) -> tuple[int, int]:
    power = prime_power(q)
    if power is None:
        raise ValueError(f"a finite field needs q a prime power, not q={q}")
    return power
