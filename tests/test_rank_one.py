"""Weighted rank one: one weighted gradient a worker; exact by classes or without stragglers."""

from itertools import combinations

import numpy as np
import pytest

from gcmpi import Code
from gcmpi.assignments import coset, cyclic, fractional_repetition, projective_plane
from gcmpi.codes.encodings.rank_one import closed_forms, factors, points, product
from gcmpi.encodings import random_diagonal, weighted_rank_one
from gcmpi.errors import ErrorEngine, exhaustive, orders, target
from tests.every import every


@every("p, m", [(2, 2), (7, 2), (7, 3), (8, 4), (5, 5), (3, 1), (6, 6)])
def test_any_m_points_are_independent(p, m):
    D = points(p, m)
    assert D.shape == (m, p)
    for some in combinations(range(p), m):
        assert abs(np.linalg.det(D[:, some])) > 1e-9


@every("m", [1, 2, 3])
@every("trained", [False, True])
def test_a_worker_weighs_its_subsets_alike_in_all_parts(m, trained):
    A = projective_plane(3)
    B = weighted_rank_one(A, m, trained=trained, steps=30)
    C, D = factors(A, B, m)
    assert np.allclose(product(C, D), B)
    assert np.allclose(np.linalg.norm(D, axis=0), 1)
    assert ((C != 0) <= (A != 0)).all()


def test_factors_are_found_where_they_are():
    A = projective_plane(3)
    B = random_diagonal(A, 2, np.random.default_rng(0), epsilon=0.5)
    assert np.allclose(product(*factors(A, B, 2)), B)
    assert factors(A, B * np.arange(1, 27)[:, None], 2) is None


@pytest.mark.parametrize("order", [5, 7])
def test_exact_without_stragglers_where_the_products_span(order):
    """Holds for gamma >= m (m + 1) / 2 generically: a plane of order 5 has 6, and m = 3 needs 6."""
    A = projective_plane(order)
    for m in (2, 3) if order > 5 else (2,):
        B = product(*closed_forms(A, m)[-1])
        assert Code(A, B, m).error(np.ones(len(A), dtype=bool)) < 1e-9


def test_classes_that_cover_are_exact_until_too_few_are_whole():
    """The plane of order 9 is split into 7 Baer subplanes of 13 points, the classes modulo 7."""
    A = projective_plane(9)
    met = A.astype(int) @ (np.arange(91)[:, None] % 7 == np.arange(7))
    assert set(np.unique(met)) == {1, 4}
    engine = ErrorEngine(weighted_rank_one(A, 2), target(np.zeros((182, 91)), 2))
    order = orders(91, 300, np.random.default_rng(0))
    assert engine.nested(order, range(6)).max() < 1e-9
    # one straggler in each of six classes, so that a single class is whole
    spread = np.array([[0, 1, 2, 3, 4, 5, *(i for i in range(91) if i > 5)]])
    assert engine.nested(spread, [5, 6])[0, 0] < 1e-9 < engine.nested(spread, [5, 6])[0, 1]


def test_classes_on_small_assignments_for_all_sets():
    for A, m, p in ((coset(5, 3, (0, 1)), 2, 3), (cyclic(8, 4), 2, 4)):
        forms = [form for form in closed_forms(A, m) if len(np.unique(form[1], axis=1).T) == p]
        engine = ErrorEngine(product(*forms[0]), target(np.zeros((m * len(A), A.shape[1])), m))
        for s in range(p - m + 1):
            assert exhaustive(engine, s).max() < 1e-9


def test_training_lowers_the_mean_error():
    A = projective_plane(4)
    F = target(np.zeros((42, 21)), 2)
    order = orders(21, 500, np.random.default_rng(1))
    closed, trained = (
        ErrorEngine(weighted_rank_one(A, 2, trained=trained, steps=1500), F)
        .nested(order, range(7))
        .mean()
        for trained in (False, True)
    )
    assert trained < 0.9 * closed


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least m=3 workers; subset 0 is on 2"):
        weighted_rank_one(fractional_repetition(6, 2), 3)
    with pytest.raises(ValueError, match="needs steps >= 1 and seed >= 0, not steps=0, seed=0"):
        weighted_rank_one(projective_plane(2), 2, steps=0)
