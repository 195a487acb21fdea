"""Laws that hold for every registered assignment with every registered encoding that fits it.

Adding a construction is one function: its examples are tested here without another edit.
"""

import numpy as np
import pytest

from gcmpi import Code, bounds
from gcmpi.ensemble import Ensemble
from gcmpi.errors import ErrorEngine, curve, orders, target, worst_set
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Spec

SMALL = 9
"""Workers up to which every m is tried; with more only m = 2."""


def build(assignment, encoding, m, seed=0):
    A = ASSIGNMENTS.build(assignment)
    B = ENCODINGS.build(encoding, A=A, m=m, rng=np.random.default_rng(seed))
    return Code(A, B, m)


def fits(assignment, encoding, m):
    try:
        build(assignment, encoding, m)
    except ValueError:
        return False
    return True


def examples(registry):
    return [Spec(part.name, options) for part in registry for options in part.examples]


CASES = [
    pytest.param(assignment, encoding, m, id=f"{assignment} + {encoding}, m={m}")
    for assignment in examples(ASSIGNMENTS)
    for encoding in examples(ENCODINGS)
    for m in ((1, 2, 3) if ASSIGNMENTS.build(assignment).shape[1] <= SMALL else (2,))
    if fits(assignment, encoding, m)
]
every_code = pytest.mark.parametrize(("assignment", "encoding", "m"), CASES)


def counts(n):
    return sorted({0, 1, n // 8, n // 4, n // 2, n})


def test_every_part_is_in_some_case():
    assert {case.values[0].name for case in CASES} == {part.name for part in ASSIGNMENTS}
    assert {str(case.values[1]) for case in CASES} == {str(spec) for spec in examples(ENCODINGS)}
    assert {case.values[2] for case in CASES} == {1, 2, 3}


@every_code
def test_encodings_have_the_shape_the_support_and_the_seed_they_are_asked_for(
    assignment, encoding, m
):
    code = build(assignment, encoding, m, seed=1)  # Code refuses a wrong shape or support
    assert (code.B.reshape(m, code.k, code.n) != 0).any(axis=0).sum() == code.A.sum(dtype=int)
    assert np.array_equal(code.B, build(assignment, encoding, m, seed=1).B)
    traits = ENCODINGS[encoding.name].traits
    if traits.redrawn:
        assert not np.array_equal(code.B, build(assignment, encoding, m, seed=2).B)
    if traits.exact:
        assert code.error(np.ones(code.n, dtype=bool)) < 1e-9 * m * code.k


@every_code
def test_errors_are_between_exact_and_everything_and_grow_with_every_straggler(
    assignment, encoding, m
):
    code = build(assignment, encoding, m)
    rng = np.random.default_rng(2)
    order = orders(code.n, 3, rng)
    nested = ErrorEngine(code.B, target(code.B, m)).nested(order, range(code.n + 1))
    assert (nested >= 0).all()
    assert np.allclose(nested[:, code.n], m * code.k)
    assert (np.diff(nested, axis=1) > -1e-9).all()
    scaled = Code(code.A, code.B * rng.uniform(0.3, 3, code.n) * rng.choice([-1, 1], code.n), m)
    for s in counts(code.n):
        survivors = np.isin(np.arange(code.n), order[0, s:])
        assert code.error(survivors) == pytest.approx(nested[0, s], abs=1e-9)
        assert scaled.error(survivors) == pytest.approx(nested[0, s], abs=1e-9)
        holders = code.A[:, survivors].sum(axis=1, dtype=int)
        assert nested[0, s] >= np.maximum(m - holders, 0).sum() - 1e-9


@every_code
def test_mean_errors_are_between_their_bounds(assignment, encoding, m):
    A = ASSIGNMENTS.build(assignment)
    s = counts(A.shape[1])
    result = curve(Ensemble(A, m, encoding), s, draws=16, sets=16, seed=3)
    assert [p.s for p in result.points] == s
    for p in result.points:
        slack = 5 * p.error.stderr + 1e-9
        assert p.lower_bound <= p.error.mean + slack
        assert p.error.mean <= p.error.maximum + 1e-12
        assert (p.bound is None) == (result.theorem is None)
        if p.bound is not None:
            assert p.error.mean <= p.bound.mean + slack
            if not ENCODINGS[encoding.name].traits.redrawn:  # no expectation over B
                # an ill-conditioned exact code is only nearly exact
                assert p.error.maximum <= p.bound.maximum + 1e-8 * m * A.shape[0]


@every_code
def test_the_worst_set_found_loses_what_claim_1_says(assignment, encoding, m):
    code = build(assignment, encoding, m)
    for s in counts(code.n)[:-2]:
        rng = np.random.default_rng(s)
        stragglers, error = worst_set(code.A, code.B, m, s, rng, restarts=0)
        survivors = ~np.isin(np.arange(code.n), stragglers)
        assert len(set(stragglers.tolist())) == s
        # the engine solves normal equations: exact codes are off zero by some 1e-9
        assert error == pytest.approx(code.error(survivors), abs=1e-9 * m * code.k)
        assert error >= bounds.claim_1(code.A, m, s) - 1e-9 * m * code.k
