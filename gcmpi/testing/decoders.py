"""The laws of a decoder R (n, m) of a code and its survivors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray
from gcmpi.codes import decoders
from gcmpi.codes.code import Code
from gcmpi.registry import DECODERS, ENCODINGS
from gcmpi.testing.assignments import SMALL, chosen
from gcmpi.testing.cases import straggler_sets
from gcmpi.testing.parts import Own, Place, part

ENCODED_BY = (
    "stacked",
    "random-diagonal",
    "cyclic-repetition",
    "fractional-repetition",
    "gaussian-exact",
    "ye-abbe",
    "block-mds",
    "bibd",
    "expander",
    "graph-assignment",
    "sgc",
)
"""Encodings whose codes a decoder is tried on."""
ODDS = (0.1, 0.3, 0.6, 0.9)
"""Probabilities to straggle for random sets."""
SAME = 1e-9
"""Largest difference between two answers that counts as none."""
UNBIASED_SETS = 600
"""Straggler sets of a size up to which a promise to be unbiased is tested."""
Labelled = tuple[str, Code]
Decode = Callable[..., Any]


def check_decoder(
    decoder: object,
    codes: Any = None,
    *,
    seed: int = 0,
    tolerance: float = 1e-9,
    optimal: bool = False,
    exact: bool = False,
) -> None:
    """Check the laws of a decoder on several codes.

    ============== ============================================================================
    shape          R is (n, m) numbers, all finite
    stragglers     the rows of stragglers are zero: their messages did not come
    error          ||B R - F||^2 is at least Err_S, the least of all R
    nobody         R is zero when nobody answers
    same           the same survivors give the same R, whatever was asked before
    inputs         survivors stay as they are
    unbiased       promised: the mean of B R over all sets of a size is alpha F, on codes whose
                   subsets are on equally many workers
    optimal        on request: ||B R - F||^2 is Err_S for every set
    exact          on request: ||B R - F||^2 = 0 for every set of up to gamma - m stragglers
                   for which Err_S = 0
    ============== ============================================================================

    Parameters
    ----------
    decoder
        A function ``(code, survivors, options...) -> R`` or its name with options.
    codes
        Codes to try, each a `Code` or a pair of a name and a `Code`; unless given, small ones of
        eleven encodings. A decoder may refuse one by ValueError.
    seed
        Seed of the straggler sets and of the codes.
    tolerance
        What counts as an error of zero.
    optimal, exact
        Whether to hold the decoder to these two laws.

    Raises
    ------
    AssertionError
        If a law is broken: which, where and by how much.
    ValueError, TypeError
        If there is no such decoder, it is nothing that can be called, or it refuses every code.
    """
    own = part(DECODERS, decoder)
    labelled = list(small_codes(seed)) if codes is None else _labelled(codes)
    refusals = []
    for name, code in labelled:
        place = Place(own.what, f"{name}, m={code.m}, seed={seed}")
        decode = _decode(own, code)
        try:
            decode(code, np.ones(code.n, dtype=np.bool_))
        except ValueError as error:
            refusals.append(f"{name}, m={code.m}: {error}")
            continue
        trial = _Trial(place, code, decode, tolerance)
        trial.check(np.random.default_rng(seed), optimal)
        if exact:
            trial.check_exact()
        if own.promises.unbiased and len({*code.A.sum(axis=1, dtype=int).tolist()}) == 1:
            trial.check_unbiased()
    if len(refusals) == len(labelled):
        last = f" (the last one: {refusals[-1]})" if refusals else ""
        raise ValueError(
            f"{own.what} refuses every code that was tried{last}: pass the check one that it "
            "serves, as in codes=[gcmpi.Code(A, B, m)]"
        )


@functools.lru_cache(maxsize=4)
def small_codes(seed: int = 0) -> tuple[Labelled, ...]:
    """Return names and codes: small assignments with the encodings that fit, m = 1 and 2."""
    found = []
    for (name, A), encoding, m in itertools.product(chosen(SMALL), ENCODED_BY, (1, 2)):
        try:
            B = ENCODINGS.build(encoding, A=A, m=m, rng=np.random.default_rng(seed))
        except ValueError:  # the encoding does not fit
            continue
        found.append((f"{name} + {encoding}", Code(A, B, m)))
    return tuple(found)


def _labelled(codes: Any) -> list[Labelled]:
    if isinstance(codes, Code):
        codes = [codes]
    if not isinstance(codes, Iterable):
        raise TypeError(f"codes must be Code objects, not {codes!r:.60}")
    pairs = [
        (f"a code of n={item.n}, k={item.k}", item) if isinstance(item, Code) else item
        for item in codes
    ]
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Code)):
            raise TypeError(f"codes must be Code objects or pairs (name, Code), not {pair!r:.60}")
    return pairs


def _decode(own: Own, code: Code) -> Decode:
    """Return the decoder as the library calls it: with a code and survivors."""
    if own.spec is not None:
        return decoders.decoder(own.spec, code.n)
    if {"code", "survivors"} & own.takes:
        return lambda code, survivors: own(code=code, survivors=survivors, wire="float64")
    made = own(wire="float64")
    if not callable(made):
        raise TypeError(f"{own.what} must be a function of code and survivors, not {made!r:.60}")
    function: Decode = made
    return function


class _Trial:
    """One decoder on one code."""

    def __init__(self, place: Place, code: Code, decode: Decode, tolerance: float) -> None:
        self._place, self._code, self._decode = place, code, decode
        self._tolerance = tolerance

    def _ask(self, survivors: BoolArray) -> Array:
        """Return R for survivors, held to the laws that concern a single answer."""
        code, given = self._code, survivors.copy()
        late = np.flatnonzero(~survivors).tolist()
        place = self._place.at(f"stragglers {late}")
        R: AnyArray = np.asarray(self._decode(code, given))
        if (given != survivors).any():
            raise place.broken("inputs", "the decoder changes the survivors that it is given")
        if R.shape != (code.n, code.m) or R.dtype.kind not in "biuf":
            raise place.broken(
                "shape",
                f"R must be (n, m) = ({code.n}, {code.m}) numbers, not {R.dtype} of {R.shape}",
            )
        if not np.isfinite(R).all():
            i, u = np.argwhere(~np.isfinite(R))[0]
            raise place.broken("shape", f"R[{i}, {u}] = {R[i, u]}, and must be finite")
        used = np.flatnonzero(~survivors & (R != 0).any(axis=1))
        if used.size:
            raise place.broken(
                "stragglers",
                f"row {used[0]} of R is {R[used[0]].round(4).tolist()}, but worker {used[0]} "
                "straggles: its message did not come",
            )
        if not survivors.any() and R.any():
            raise place.broken("nobody", "R is not zero although nobody answered")
        return np.array(R, dtype=np.float64)  # the decoder may use its own array again

    def check(self, rng: np.random.Generator, optimal: bool) -> None:
        """Check the laws of every decoder, on sets of many sizes."""
        code = self._code
        sets = [np.ones(code.n, dtype=np.bool_), np.zeros(code.n, dtype=np.bool_)]
        sets += [rng.random(code.n) >= q for q in ODDS]
        answers = [self._ask(survivors) for survivors in sets]
        for survivors, R in zip(sets, answers, strict=True):
            place = self._place.at(f"stragglers {np.flatnonzero(~survivors).tolist()}")
            error, least = code.residual(R), code.error(survivors)
            if error < least - self._tolerance:
                raise place.broken(
                    "error", f"||B R - F||^2 = {error:.9g} is less than Err_S = {least:.9g}"
                )
            if optimal and error > least + self._tolerance:
                raise place.broken(
                    "optimal", f"||B R - F||^2 = {error:.9g} is more than Err_S = {least:.9g}"
                )
        for survivors, R in zip(reversed(sets), reversed(answers), strict=True):
            away = float(np.abs(self._ask(survivors) - R).max(initial=0))
            if away > SAME * max(1.0, float(np.abs(R).max(initial=0))):
                raise self._place.at(f"stragglers {np.flatnonzero(~survivors).tolist()}").broken(
                    "same", f"R differs by {away:.3g} when the same survivors are asked for again"
                )

    def check_exact(self) -> None:
        """Hold the decoder to the sets of up to gamma - m stragglers that lose nothing."""
        code = self._code
        if code.gamma < code.m:
            return
        for survivors in straggler_sets(code.n, code.gamma - code.m, np.random.default_rng(0)):
            error = code.residual(self._ask(survivors))
            if error >= self._tolerance and code.error(survivors) < self._tolerance:
                raise self._place.at(f"stragglers {np.flatnonzero(~survivors).tolist()}").broken(
                    "exact", f"||B R - F||^2 = {error:.3g}, although Err_S = 0"
                )

    def check_unbiased(self) -> None:
        """Compare the mean of B R over all sets of a size with alpha F."""
        code, rng = self._code, np.random.default_rng(0)
        for s in range(code.n):
            if math.comb(code.n, s) > UNBIASED_SETS:
                continue
            sets = straggler_sets(code.n, s, rng)
            mean = np.mean([code.B @ self._ask(S) for S in sets], axis=0)
            alpha = float(np.sum(code.target * mean)) / (code.m * code.k)
            away = np.abs(mean - alpha * code.target)
            if away.max() > SAME + 1e-5 * abs(alpha):
                row, v = np.unravel_index(int(away.argmax()), away.shape)
                u, j = divmod(int(row), code.k)
                raise self._place.broken(
                    "unbiased",
                    f"with s = {s} stragglers part {u} of subset {j} counts {mean[row, v]:.4g} in "
                    f"part {v} of the decoded gradient, not {alpha * code.target[row, v]:.4g} "
                    f"(mean over all {len(sets)} sets)",
                )
