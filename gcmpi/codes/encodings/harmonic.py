"""Encodings from waves over the workers: closed form, exact, and well conditioned."""

from __future__ import annotations

from math import gcd

import numpy as np

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.encodings.frames import dual_frame, largest_t
from gcmpi.codes.encodings.search import store
from gcmpi.codes.encodings.search.objective import Stragglers
from gcmpi.codes.encodings.search.straggler_sets import Independent, Law, Uniform, expected
from gcmpi.registry import ENCODINGS

VERSION = "harmonic 1"
SETS = 96
"""Straggler sets that a choice of frequencies is judged by."""
FIRST_SETS, LAST_SETS = 256, 4096
"""Where the odds of the run are known: sets for all choices, and for the few that are left."""
RIDGE = 1e-6
"""Relative noise power that codes are judged at; that of float16 messages is smaller."""

Frequencies = tuple[float, ...]
"""Frequencies in 0..n/2, ascending: 0 and n/2 stand for one wave, the others for two."""
Choice = tuple[Frequencies, Frequencies, int]
"""The frequencies of R and of Z, and the number of the order of the workers."""


@ENCODINGS.register("harmonic", {"choices": 4}, {"t": 0, "choices": 4}, exact=True)
def harmonic(
    A: AnyArray,
    m: int,
    t: int | None = None,
    stragglers: int | None = None,
    choices: int = 300,
    odds: Array | None = None,
) -> Array:
    """Harmonic: exact up to t stragglers, a small error beyond, closed form.

    The dual frame (see `gcmpi.encodings.frames`) of K = [R Z] whose columns are waves
    cos(2 pi f i / n) and sin(2 pi f i / n) over the workers i. Every t rows of Z are independent
    because its frequencies, with signs, are an arithmetic progression whose step is coprime to n:
    t rows are then a Vandermonde matrix of distinct nodes, times a diagonal. For n prime every
    choice will do (Chebotarev). The frequencies are the best of some choices by the mean error
    over random straggler sets, always the same ones.

    If A is circulant, so is the code up to a rotation of the m parts, and it is unbiased as it
    stands: E[B_S R] = F X with X diagonal, for stragglers whose law is invariant under shifts
    (as long as R and Z both have half-integer frequencies or both have not, and B_S has full
    rank).

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    t
        Stragglers that are made good exactly, at most gamma - m. t = gamma - m is best for few
        stragglers, t = 0 for many and in the worst case. Unless given it is chosen as well.
    stragglers
        Numbers of stragglers up to this are to be good on average; n/4 unless given.
    choices
        How many choices of frequencies to try.
    odds : (n,)
        Each worker's probability to straggle, where the run knows it: unless `stragglers` is
        given, frequencies and t are those with the least mean error over these stragglers.

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If a subset is on fewer than m + t workers, or m, t and n are all odd: a constant wave
        is the only single one for odd n.

    References
    ----------
    t = 0 with orthogonal columns is the RHN encoding of Munim and Ramamoorthy, arXiv 2603.22514;
    t = gamma - m with Vandermonde matrices that of Ye and Abbe, arXiv 1802.03475.
    """
    largest = largest_t(A, m, "harmonic", t)
    n = A.shape[1]
    law: Law = expected(n, "harmonic", stragglers, odds)
    if odds is not None and stragglers is None:
        law = Independent(odds)
    if choices < 1:
        raise ValueError(f"harmonic needs at least one choice of frequencies, not {choices}")
    ts = [t] if t is not None else list(range(min(largest, law.most) + 1))
    name = store.key(VERSION, A, m, ts=str(ts), choices=choices, **law.key)
    return store.find_or_make(name, A, m, lambda: _best(A, m, ts, law, choices))


def waves(n: int, frequencies: Frequencies) -> Array:
    """Return the waves of these frequencies over n workers, columns of norm sqrt(n)."""
    i = np.arange(n)
    columns = []
    for f in frequencies:
        # whole multiples of pi / n, reduced, so that large angles lose no digits
        angle = np.pi / n * ((round(2 * f) * i) % (2 * n))
        single = f in (0, n / 2)
        columns += [np.cos(angle)] if single else [np.cos(angle), np.sin(angle)]
        if not single:
            columns[-2:] = [np.sqrt(2) * column for column in columns[-2:]]
    return np.stack(columns, axis=1) if columns else np.zeros((n, 0))


def _best(A: AnyArray, m: int, ts: list[int], law: Law, choices: int) -> Array:
    """Return the encoding with the least mean error of the choices for these t."""
    n = A.shape[1]
    rng = np.random.default_rng(0)
    if isinstance(law, Uniform):
        counts = (
            np.arange(SETS) * law.most // (SETS - 1) if law.most else np.zeros(1, dtype=np.intp)
        )
        sets = Stragglers.draw(n, counts, rng)
    else:
        sets = law.judge(FIRST_SETS, rng)
    orders = _orders(A)
    scored: list[tuple[float, Array]] = []
    for t in ts:
        for R, Z, order in draw_choices(n, m, t, len(orders), max(1, choices // len(ts)), rng):
            B = dual_frame(A, np.hstack([waves(n, R), waves(n, Z)])[orders[order]], m)
            if B is not None:
                scored.append((law.loss(B, m, sets, RIDGE), B))
    scored.sort(key=lambda one: one[0])
    if scored and not isinstance(law, Uniform):
        # few sets cost anything when all sizes are as likely as in a run: more sets for fewer
        # choices, at last against the one that is best for the usual law
        number = FIRST_SETS
        while number < LAST_SETS:
            number *= 4
            sets = law.judge(number, rng)
            left = [B for _, B in scored[: -(-len(scored) // 4)]]
            if number >= LAST_SETS:
                left += [_best(A, m, ts, expected(n, "harmonic", None, None), choices)]
            scored = [(law.loss(B, m, sets, RIDGE), B) for B in left]
            scored.sort(key=lambda one: one[0])
    if not scored:
        raise ValueError(
            f"harmonic found no frequencies for n={n}, m={m}, t={ts[-1]}"
            + (": they cannot all be odd; use t one less" if n % 2 and m % 2 and ts[-1] % 2 else "")
        )
    return scored[0][1]


def _orders(A: AnyArray) -> list[IntArray]:
    """Return orders in which the workers may take their places on the waves, (n,) each.

    Exactness does not depend on it. A circulant A keeps its own order and so its symmetry; others
    may do better when every d-th worker comes next, as when A is d copies of a smaller matrix.
    """
    k, n = A.shape
    i = np.arange(n)
    if k == n and (A == A[0][(i - i[:, None]) % n]).all():
        return [i]
    return [i.reshape(d, n // d).T.ravel().argsort() for d in range(1, n) if n % d == 0]


def draw_choices(
    n: int, m: int, t: int, orders: int, number: int, rng: np.random.Generator
) -> list[Choice]:
    """Return up to `number` distinct choices, at random."""
    found: dict[Choice, None] = {}
    for _ in range(4 * number):  # the same one may come again
        Z = _exact(n, m, t, rng)
        R = disjoint(n, m, Z, rng) if Z is not None else None
        if Z is not None and R is not None:
            found[R, Z, int(rng.integers(orders))] = None
        if len(found) == number:
            break
    return list(found)


def _exact(n: int, m: int, t: int, rng: np.random.Generator) -> Frequencies | None:
    """Return frequencies of t waves any t rows of which are independent, None if there are none."""
    if t == 0:
        return ()
    if n % 2 and t % 2 and m % 2:
        return None
    if _is_prime(n) and n > 2:
        return disjoint(n, t, (), rng)
    steps = [c for c in range(1, n + 1) if gcd(c, n) == 1]
    step = int(rng.choice(steps))
    # a progression of t terms that is symmetric about 0 or n / 2: f and -f, or n - f, are the same
    # pair of waves. For even t and n the terms are half-integers
    centres = (0.0, n / 2) if n % 2 == 0 else ((n / 2,) if t % 2 == 0 else (0.0,))
    centre = float(rng.choice(centres))
    terms = [centre + step * (i - (t - 1) / 2) for i in range(t)]
    return tuple(sorted({_fold(f, n) for f in terms}))


def disjoint(n: int, m: int, others: Frequencies, rng: np.random.Generator) -> Frequencies | None:
    """Return frequencies of m waves, none among `others`, of their kind if that can be."""
    if n % 2 or m % 2:  # single waves are whole; for odd n, f + n / 2 is f with other signs
        half = False
    else:
        half = any(f % 1 for f in others) if others else bool(rng.integers(2))
    pairs = [f for f in np.arange(0.5 if half else 1.0, n / 2) if f not in others]
    singles = [f for f in ((0.0, n / 2) if n % 2 == 0 else (0.0,)) if f not in others]
    # as many single waves as m is odd or even, both or none of them at random
    both = not half and m % 2 == 0 and m >= len(singles) == 2
    single = 2 * int(rng.integers(2)) if both else m % 2
    if len(singles) < single or len(pairs) < (m - single) // 2:
        return None
    chosen = [*rng.choice(singles, single, replace=False)] if single else []
    chosen += [*rng.choice(pairs, (m - single) // 2, replace=False)]
    return tuple(sorted(map(float, chosen)))


def _fold(f: float, n: int) -> float:
    """Return the frequency in 0..n/2 with the same waves as f."""
    f %= n
    return float(min(f, n - f))


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % p for p in range(2, int(n**0.5) + 1))
