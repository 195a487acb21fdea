"""Every theorem against what it says, and refused where it does not hold."""

import itertools

import numpy as np
import pytest

from gcmpi import Code, bounds
from gcmpi.assignments import (
    affine_plane,
    biregular,
    clebsch,
    coset,
    cyclic,
    fractional_repetition,
    lattice,
    paley,
    petersen,
    projective_plane,
    schlaefli,
    steiner_triple,
    triangular,
    uncoded,
)
from gcmpi.encodings import random_diagonal, random_hadamard, stacked
from gcmpi.registry import Spec
from tests.every import every

PLANE, COSET = projective_plane(3), coset(9, 2, (0, 1, 3, 4))
DESIGNS = {
    "plane": PLANE,
    "affine plane": affine_plane(3),
    "triples": steiner_triple(9),
    "complement": 1 - projective_plane(2),
}
GRAPHS = {
    "lambda < mu": petersen(),
    "lambda < mu, dense": paley(13),
    "lambda > mu": triangular(5),
    "lambda = mu": triangular(6),
    "lattice": lattice(4),
    "clebsch": clebsch(),
}


def masks(n, s, number=20, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([~np.isin(np.arange(n), rng.permutation(n)[:s]) for _ in range(number)])


def mean_error(A, m, survivors, epsilon, draws, seed=0):
    """Return the mean error over random diagonals and five times its standard error."""
    rng = np.random.default_rng(seed)
    values = [
        Code(A, random_diagonal(A, m, rng, epsilon), m).error(survivors) for _ in range(draws)
    ]
    return np.mean(values), 5 * np.std(values) / np.sqrt(draws) + 1e-9


# Lemma 1: the formula of the paper, and that it bounds the mean for given survivors


@every("epsilon", [0.0, 0.1, 0.7])
@every("A", [PLANE, COSET, biregular(12, 8, 2), steiner_triple(9)[:9]])
def test_lemma_1_is_its_formula(A, epsilon):
    k, n = A.shape
    m, c = 2, (1 + epsilon**2 / 3) / (1 - epsilon**2)
    for s in (0, 1, 3):
        for S in masks(n, s, 5):
            A_S = A[:, S].astype(float)
            K = A_S.T @ A_S + c * (m - 1) * np.diag(A_S.sum(axis=0))
            one = np.ones(k)
            formula = m * k - m * one @ A_S @ np.linalg.solve(K, A_S.T @ one)
            assert bounds.lemma_1(A, m, S, epsilon) == pytest.approx(formula)


def test_spread_is_the_product_of_two_means():
    x = np.linspace(0.6, 1.4, 200_001)
    assert bounds.spread(0.4) == pytest.approx(np.mean(x**2) * np.mean(1 / x**2), rel=1e-4)
    assert bounds.spread(0) == 1
    for epsilon in (1, -0.1):
        with pytest.raises(ValueError, match=r"epsilon in \[0, 1\)"):
            bounds.spread(epsilon)


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
@pytest.mark.parametrize("m", [2, 3])
def test_lemma_1_bounds_the_mean_of_every_set(m, epsilon):
    A = biregular(12, 8, 4)
    for s in (0, 3, 8):
        for S in masks(12, s, 3):
            mean, slack = mean_error(A, m, S, epsilon, 60)
            assert mean <= bounds.lemma_1(A, m, S, epsilon) + slack


@pytest.mark.parametrize("A", [PLANE, COSET, petersen()])
def test_lemma_1_is_the_error_itself_with_one_part(A):
    n = A.shape[1]
    for s in (0, 2, n):
        for S in masks(n, s, 4):
            assert bounds.lemma_1(A, 1, S) == pytest.approx(Code(A, stacked(A, 1), 1).error(S))


# Corollaries 1 to 3


@every("A", DESIGNS)
@every("m", [1, 2, 3])
def test_corollary_1_is_lemma_1_on_a_design(A, m):
    n = A.shape[1]
    for s in range(n + 1):
        for S in masks(n, s, 3):
            assert bounds.corollary_1(A, m, s) == pytest.approx(bounds.lemma_1(A, m, S))


def test_corollary_1_has_the_values_of_the_paper():
    A = projective_plane(9)
    assert bounds.corollary_1(A, 2, 1) == pytest.approx(16.9, abs=0.05)
    assert bounds.corollary_1(A, 2, 22) == pytest.approx(25.2, abs=0.05)
    assert bounds.stacked_design(A, 2, 0) == pytest.approx(91)
    assert bounds.stacked_design(A, 2, 22) < 94


@every("A", GRAPHS)
@every("m", [1, 2])
def test_corollary_2_is_above_lemma_1_and_equal_to_it_without_stragglers(A, m):
    n = len(A)
    for s in range(n + 1):
        for S in masks(n, s, 5):
            assert bounds.corollary_2(A, m, s) >= bounds.lemma_1(A, m, S) - 1e-9


def test_corollary_2_is_its_formula():
    n, m, delta, lam, mu, s = 10, 2, 3, 0, 1, 4
    theta = (lam - mu - np.sqrt((lam - mu) ** 2 + 4 * (delta - mu))) / 2
    loss = m * delta - mu + mu * (n - s) + (lam - mu) * theta
    expected = m * n - m * delta**2 * (n - s) / loss
    assert bounds.corollary_2(petersen(), m, s) == pytest.approx(expected)
    n, delta, lam, mu = 15, 8, 4, 4  # T(6): theta does not matter
    expected = m * n - m * delta**2 * (n - s) / (m * delta - mu + mu * (n - s))
    assert bounds.corollary_2(triangular(6), m, s) == pytest.approx(expected)
    n, delta, lam, mu = 27, 16, 10, 8
    loss = m * delta - mu + mu * (n - s) + (lam - mu) * delta
    expected = m * n - m * delta**2 * (n - s) / loss
    assert bounds.corollary_2(schlaefli(), m, s) == pytest.approx(expected)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.6])
def test_corollary_3_is_its_formula_and_above_lemma_1(epsilon):
    k, m, delta = 9, 2, 4
    c = bounds.spread(epsilon)
    for s in range(19):
        loss = m * delta**2 + c * (m - 1) * delta
        expected = m * k - m * delta**2 * (m * k - s) / loss
        assert bounds.corollary_3(COSET, m, s, epsilon) == pytest.approx(expected)
        for S in masks(18, s, 5):
            assert expected >= bounds.lemma_1(COSET, m, S, epsilon) - 1e-9


REFUSED = {
    "corollary 1 on a graph": (bounds.corollary_1, petersen(), 2, "needs a BIBD.*SRG"),
    "corollary 1 on a coset graph": (bounds.corollary_1, COSET, 2, "needs a BIBD.*coset"),
    "corollary 1, points for blocks": (bounds.corollary_1, affine_plane(3).T, 2, "needs a BIBD"),
    "corollary 1 without redundancy": (bounds.corollary_1, uncoded(5), 1, "needs a BIBD"),
    "corollary 2 on a design": (bounds.corollary_2, PLANE, 2, "strongly regular.*BIBD"),
    "corollary 2 on a cycle": (
        bounds.corollary_2,
        np.roll(np.eye(6, dtype=np.uint8), 1, 0) + np.roll(np.eye(6, dtype=np.uint8), -1, 0),
        2,
        "strongly regular",
    ),
    "corollary 2, delta = mu": (
        bounds.corollary_2,
        np.kron([[0, 1], [1, 0]], np.ones((3, 3))).astype(np.uint8),
        2,
        "delta != mu",
    ),
    "corollary 3 with another m": (bounds.corollary_3, COSET, 3, "coset graph with m=3"),
    "corollary 3 on a design": (bounds.corollary_3, PLANE, 2, "coset graph with m=2"),
    "corollary 3, 3 divides delta": (
        bounds.corollary_3,
        np.hstack([cyclic(9, 3)] * 2),
        2,
        "coset graph",
    ),
    "design error on a graph": (bounds.stacked_design, petersen(), 1, "needs a BIBD"),
    "expander bound, loads differ": (bounds.stacked_expander, PLANE[:9], 1, "equal loads"),
    "expander bound, holders differ": (bounds.stacked_expander, PLANE[:, :9], 1, "equal loads"),
    "groups of a design": (bounds.blocks, PLANE, 1, "workers in groups"),
    "groups of two sizes": (bounds.blocks, fractional_repetition(6, 3)[:, :5], 1, "equal size"),
}


@every("bound, A, m, message", REFUSED)
def test_theorems_refuse_what_they_do_not_cover(bound, A, m, message):
    with pytest.raises(ValueError, match=message):
        bound(A, m, 1)


@every("bound", [bounds.corollary_1, bounds.claim_1, bounds.holder_bound, bounds.stacked_design])
@every("s", [-1, 14])
def test_theorems_refuse_impossible_numbers_of_stragglers(bound, s):
    with pytest.raises(ValueError, match=rf"in 0\.\.13, not {s}"):
        bound(PLANE, 2, s)


# Lemma 2


@pytest.mark.parametrize("variant", ["gaussian", "signs"])
def test_lemma_2_is_its_formula_and_bounds_every_set(variant):
    A, m = biregular(20, 10, 3), 2
    B = random_hadamard(A, m, np.random.default_rng(0), variant)
    code = Code(A, B, m)
    for s in (0, 2, 7, 19, 20):
        S = masks(20, s, 8)
        found = bounds.lemma_2(B, m, S)
        for survivors, value in zip(S, found, strict=True):
            B_S = B[:, survivors]
            Sigma = B_S.T @ B_S
            dominant = np.diag(np.abs(Sigma).sum(axis=1))
            explained = sum(
                A_u.sum(axis=0) @ np.linalg.solve(dominant, A_u.sum(axis=0))
                for A_u in B_S.reshape(m, 10, -1)
            )
            assert value == pytest.approx(m * 10 - explained)
            assert code.error(survivors) <= value + 1e-9
        assert bounds.lemma_2(B, m, S[0]) == pytest.approx(found[0])


def test_lemma_2_holds_for_other_matrices_too():
    rng = np.random.default_rng(1)
    for _ in range(20):
        B = rng.standard_normal((6, 5)) * (rng.random((6, 5)) < 0.6)
        code = Code(np.ones((3, 5)), B, 2)
        for S in masks(5, 2, 3):
            assert code.error(S) <= bounds.lemma_2(B, 2, S) + 1e-9


# one part


@every("A", DESIGNS)
@every("m", [1, 2])
def test_stacked_design_is_the_error_of_every_set(A, m):
    n = A.shape[1]
    code = Code(A, stacked(A, m), m)
    for s in range(n + 1):
        for S in masks(n, s, 3):
            assert code.error(S) == pytest.approx(bounds.stacked_design(A, m, s))


@every("A", [*GRAPHS.values(), schlaefli()])
@every("m", [1, 2])
def test_stacked_expander_bounds_every_set(A, m):
    n = len(A)
    code = Code(A, stacked(A, m), m)
    for s in range(n + 1):
        for S in masks(n, s, 4):
            assert code.error(S) <= bounds.stacked_expander(A, m, s) + 1e-9
    assert bounds.stacked_expander(A, 1, 1) < 1.5  # and says something


# what no code avoids


def test_claim_1_is_its_formula():
    assert [bounds.claim_1(projective_plane(5), 2, s) for s in (0, 4, 5, 6, 11, 12)] == [
        0, 0, 1, 2, 2, 4,
    ]  # fmt: skip
    n, k, delta, m = 54, 27, 5, 3
    for s in range(n + 1):
        expected = max(u * ((k * (s + m - u)) // (n * delta)) for u in (1, 2, 3))
        found = bounds.claim_1(coset(27, 2, (0, 1, 3, 9, 20)), m, s)
        assert found == min(expected, m * k)


@pytest.mark.parametrize("m", [1, 2])
def test_claim_1_is_below_the_worst_set_of_every_encoding(m):
    rng = np.random.default_rng(2)
    for A in (cyclic(6, 2), steiner_triple(7)[:4], biregular(6, 9, 3), uncoded(4)):
        k, n = A.shape
        for B in (rng.standard_normal((m * k, n)) * np.tile(A, (m, 1)), stacked(A, m)):
            code = Code(A, B, m)
            for s in range(n + 1):
                worst = max(
                    code.error(~np.isin(np.arange(n), T))
                    for T in itertools.combinations(range(n), s)
                )
                assert worst >= bounds.claim_1(A, m, s) - 1e-9


def test_claim_1_is_no_bound_on_the_mean():
    A = fractional_repetition(12, 3)
    code = Code(A, stacked(A, 1), 1)
    assert bounds.claim_1(A, 1, 3) == 1
    assert np.mean([code.error(S) for S in masks(12, 3)]) < 0.5


@every("m", [1, 2, 3])
@every("A", [cyclic(6, 2), steiner_triple(7)[:4], uncoded(5)])
def test_holder_bound_is_the_mean_of_what_each_set_loses_for_sure(A, m):
    n = A.shape[1]
    for s in range(n + 1):
        lost = [
            np.maximum(m - np.delete(A, T, axis=1).sum(axis=1, dtype=int), 0).sum()
            for T in itertools.combinations(range(n), s)
        ]
        assert bounds.holder_bound(A, m, s) == pytest.approx(np.mean(lost))


def test_holder_bound_is_met_without_a_code():
    for s in range(6):
        assert bounds.holder_bound(uncoded(5), 1, s) == pytest.approx(s)


def test_holder_bound_has_the_values_measured_elsewhere():
    found = [bounds.holder_bound(projective_plane(5), 2, s) for s in (3, 5, 6, 8)]
    assert found == pytest.approx([0, 0.0011, 0.0064, 0.057], abs=6e-4)


# which theorem covers which code


@every(
    "A, m, encoding, options, name",
    [
        (PLANE, 2, "random-diagonal", {}, "Corollary 1"),
        (PLANE, 2, "random-diagonal", {"epsilon": 0.0}, "Corollary 1"),
        (PLANE, 2, "random-diagonal", {"epsilon": 0.1}, None),
        (PLANE, 1, "random-diagonal", {"epsilon": 0.1}, "exact for a BIBD"),
        (petersen(), 2, "random-diagonal", {}, "Corollary 2"),
        (COSET, 2, "random-diagonal", {"epsilon": 0.1}, "Corollary 3"),
        (COSET, 2, "stacked", {}, "expander bound"),
        (PLANE[:9], 2, "stacked", {}, None),
        (petersen(), 2, "stacked", {}, "expander bound"),
        (PLANE, 2, "stacked", {}, "exact for a BIBD"),
        (COSET, 2, "random-hadamard", {}, None),
        (uncoded(4), 1, "uncoded", {}, "worst case of groups"),
    ],
)
def test_the_theorem_with_a_closed_form(A, m, encoding, options, name):
    theorem = bounds.closed_form(A, m, Spec(encoding, options))
    assert (theorem.name if theorem else None) == name
    if theorem:
        assert 0 <= theorem.bound(0) <= theorem.bound(3) <= m * len(A)
