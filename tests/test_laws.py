"""Laws that hold for every registered assignment with every registered encoding that fits it.

Adding a construction is one function: its examples are tested here without another edit. The laws
are those of `gcmpi.testing`, which users call for codes of their own; what is tested beside them
is this package's mathematics of errors, on the same codes.
"""

from functools import cache

import numpy as np
import pytest

from gcmpi import Code, bounds, testing
from gcmpi.codes.ensemble import Ensemble
from gcmpi.errors import ErrorEngine, curve, orders, target, worst_set
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Spec

SMALL = 9
"""Workers up to which every m is tried; with more only m = 2."""


def examples(registry):
    return [Spec(part.name, options) for part in registry for options in part.examples]


every_encoding = pytest.mark.parametrize("encoding", examples(ENCODINGS), ids=str)


@cache
def matrices():
    """Return every example of an assignment with its matrix."""
    return [(spec, ASSIGNMENTS.build(spec)) for spec in examples(ASSIGNMENTS)]


@cache
def codes(text):
    """Return the assignments that an encoding fits, with m and its code."""
    found = []
    for assignment, A in matrices():
        for m in (1, 2, 3) if A.shape[1] <= SMALL else (2,):
            try:
                B = ENCODINGS.build(text, A=A, m=m, rng=np.random.default_rng(0))
            except ValueError:  # the encoding does not fit
                continue
            found.append((assignment, m, Code(A, B, m)))
    return found


def counts(n):
    return sorted({0, 1, n // 8, n // 4, n // 2, n})


def test_every_part_is_in_some_case():
    cases = {str(spec): codes(str(spec)) for spec in examples(ENCODINGS)}
    assert all(cases.values())
    found = [case for some in cases.values() for case in some]
    assert {assignment.name for assignment, _, _ in found} == {part.name for part in ASSIGNMENTS}
    assert {m for _, m, _ in found} == {1, 2, 3}
    assert len(found) > 1500


@every_encoding
def test_encodings_keep_the_laws_that_users_encodings_are_held_to(encoding):
    for assignment, m, code in codes(str(encoding)):
        draws = 600 if code.n <= SMALL else 100
        testing.check_encoding(encoding, str(assignment), m=m, draws=draws)


@every_encoding
def test_encodings_use_whatever_a_worker_holds(encoding):
    for assignment, m, code in codes(str(encoding)):
        used = (code.B.reshape(m, code.k, code.n) != 0).any(axis=0)
        assert used.sum() == code.A.sum(dtype=int), assignment


@every_encoding
def test_the_engine_of_errors_finds_what_a_code_loses_whatever_the_size_of_its_columns(encoding):
    for assignment, m, code in codes(str(encoding)):
        rng = np.random.default_rng(2)
        order = orders(code.n, 3, rng)
        nested = ErrorEngine(code.B, target(code.B, m)).nested(order, range(code.n + 1))
        scales = rng.uniform(0.3, 3, code.n) * rng.choice([-1, 1], code.n)
        scaled = Code(code.A, code.B * scales, m)
        for s in counts(code.n):
            survivors = np.isin(np.arange(code.n), order[0, s:])
            found = pytest.approx(nested[0, s], abs=1e-9)
            assert code.error(survivors) == found, (assignment, m, s)
            assert scaled.error(survivors) == found, (assignment, m, s)


@every_encoding
def test_mean_errors_are_between_their_bounds(encoding):
    for assignment, m, code in codes(str(encoding)):
        s = counts(code.n)
        result = curve(Ensemble(code.A, m, encoding), s, draws=16, sets=16, seed=3)
        assert [p.s for p in result.points] == s
        for p in result.points:
            where = (assignment, m, p)
            slack = 5 * p.error.stderr + 1e-9
            assert p.lower_bound <= p.error.mean + slack, where
            assert p.error.mean <= p.error.maximum + 1e-12, where
            assert (p.bound is None) == (result.theorem is None), where
            if p.bound is not None:
                assert p.error.mean <= p.bound.mean + slack, where
                if not ENCODINGS[encoding.name].promises.redrawn:  # no expectation over B
                    # an ill-conditioned exact code is only nearly exact
                    assert p.error.maximum <= p.bound.maximum + 1e-8 * m * code.k, where


@every_encoding
def test_the_worst_set_found_loses_what_claim_1_says(encoding):
    for assignment, m, code in codes(str(encoding)):
        for s in counts(code.n)[:-2]:
            rng = np.random.default_rng(s)
            stragglers, error = worst_set(code.A, code.B, m, s, rng, restarts=0)
            survivors = ~np.isin(np.arange(code.n), stragglers)
            where = (assignment, m, s)
            assert len(set(stragglers.tolist())) == s, where
            # the engine solves normal equations: exact codes are off zero by some 1e-9
            assert error == pytest.approx(code.error(survivors), abs=1e-9 * m * code.k), where
            assert error >= bounds.claim_1(code.A, m, s) - 1e-9 * m * code.k, where
