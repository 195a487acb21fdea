"""Cyclic codes: the symmetry of the assignment in the code, and what follows from it."""

from itertools import combinations

import numpy as np
import pytest

from gcmpi import Code
from gcmpi.assignments import biregular, coset, cyclic, projective_plane, quadratic_residue
from gcmpi.codes.encodings.cyclic import Family
from gcmpi.codes.encodings.frames import dual_frame, is_cyclic
from gcmpi.codes.encodings.harmonic import waves
from gcmpi.encodings import cyclic_trained, exact_trained, harmonic, random_diagonal, stacked
from gcmpi.errors import ErrorEngine, target, unbiased, worst_set
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from tests.every import every

PLANE = projective_plane(3)
HALF = cyclic(10, 4)
CASES = [
    (PLANE, 2, (3.0,)),
    (PLANE, 3, (0.0, 2.0)),
    (HALF, 2, (1.5,)),
    (HALF, 1, (5.0,)),
    (coset(5, 2, (0, 1, 3)), 2, (2.0,)),
    (coset(5, 2, (0, 1, 3)), 2, (1.5,)),
    (np.hstack([cyclic(4, 3).T] * 2).T, 2, (1.0,)),  # twice as many subsets as workers
]


@every("A, m, frequencies", CASES)
def test_the_family_is_exact_and_cyclic_whatever_its_parameters(A, m, frequencies):
    n = A.shape[1]
    family = Family(A, m, frequencies)
    assert family.exists
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((m, len(family.holders)))
    B, backward = family.encode([Y])
    Code(A, B, m)
    assert np.allclose(B @ waves(n, frequencies), target(B, m))
    assert unbiased(Code(A, B, m)) == (m <= 2)
    zero = family.encode([np.zeros_like(Y)])[0]
    assert np.allclose(zero, dual_frame(A, waves(n, frequencies), m))
    G, step = rng.standard_normal(B.shape), rng.standard_normal(Y.shape)
    moved = family.encode([Y + step])[0]  # B is affine in Y
    assert np.sum(G * (moved - B)) == pytest.approx(np.sum(backward(G)[0] * step))


def mean_decoded(B, m, s):
    n = B.shape[1]
    sets = np.array(list(combinations(range(n), n - s)))
    B_S = B[:, sets].transpose(1, 0, 2)
    return (B_S @ (np.linalg.pinv(B_S, rcond=1e-9) @ target(B, m))).mean(axis=0)


@pytest.mark.parametrize(
    "A", [projective_plane(2), PLANE, quadratic_residue(11), HALF, coset(5, 2, (0, 1, 3))]
)
def test_trained_cyclic_codes_are_unbiased_as_they_stand(A):
    """Theorem 3, over all sets of s stragglers."""
    B = cyclic_trained(A, 2, steps=40)
    assert unbiased(Code(A, B, 2))
    assert np.allclose(np.linalg.norm(B, axis=0), 1)
    for s in (0, 1, 3):
        mean = mean_decoded(B, 2, s)
        alpha = np.sum(target(B, 2) * mean) / (2 * len(A))
        assert np.allclose(mean, alpha * target(B, 2), atol=1e-8)
    assert (alpha < 1 - 1e-9) or s == 0


def test_parts_of_two_single_waves_shrink_by_two_factors():
    """What Theorem 3 says of two parts holds for one frequency, not for {0, n/2}."""
    A = cyclic(12, 6)
    B = dual_frame(A, waves(12, (0.0, 6.0, 1.0, 2.0)), 2)
    F = target(B, 2)
    mean = mean_decoded(B, 2, 5)
    X = F.T @ mean / 12
    assert np.allclose(mean, F @ X, atol=1e-9)
    assert np.allclose(X, np.diag([0.599, 0.504]), atol=5e-4)
    assert not unbiased(Code(A, B, 2))


def test_all_shifts_of_a_set_cost_the_same():
    B = cyclic_trained(PLANE, 2, steps=40)
    sets = np.array([np.roll(np.arange(13) >= 4, r) for r in range(13)])
    errors = ErrorEngine(B, target(B, 2)).errors(sets)
    assert np.ptp(errors) < 1e-9 < errors.max()


def test_training_against_an_adversary_lowers_the_worst_case():
    A = projective_plane(5)

    def worst(B):
        return worst_set(A, B, 2, 8, np.random.default_rng(1), restarts=2)[1]

    attacked = worst(cyclic_trained(A, 2, steps=600))
    assert attacked < 0.95 * worst(harmonic(A, 2, 0))
    assert attacked < 0.7 * worst(exact_trained(A, 2))


def test_attacks_in_the_training_of_exact_codes():
    plain, attacked = (
        worst_set(
            PLANE, exact_trained(PLANE, 2, steps=800, starts=2, attack=w), 2, 4,
            np.random.default_rng(2), restarts=4,
        )[1]
        for w in (0.0, 0.8)
    )  # fmt: skip
    assert attacked < 0.95 * plain


@every(
    "A, m, B",
    [
        (PLANE, 2, lambda A, m: exact_trained(A, m, 0, steps=30, starts=1)),
        (PLANE, 2, lambda A, m: random_diagonal(A, m, np.random.default_rng(0))),
        (PLANE, 3, lambda A, m: harmonic(A, m, 0, choices=5)),
        (PLANE, 2, stacked),
        (biregular(12, 12, 4, seed=1), 2, lambda A, m: harmonic(A, m, 0, choices=5)),
    ],
)
def test_the_theorem_does_not_cover_other_codes(A, m, B):
    assert not unbiased(Code(A, B(A, m), m))


def test_the_scale_of_workers_does_not_matter():
    B = harmonic(PLANE, 2, 0, choices=5) * np.random.default_rng(3).uniform(0.5, 2, 13)
    assert unbiased(Code(PLANE, B, 2))


def test_runs_divide_by_alpha_where_the_symmetry_is_there():
    def scale(assignment, encoding):
        e = Experiment(assignment=assignment, encoding=encoding, problem="softmax")
        A = assignment_matrix(e)
        return build(e, A).alpha

    plane = scale("projective-plane:order=3", "harmonic:t=0,choices=5")
    assert plane[0] == pytest.approx(1)
    assert 0.4 < plane[6] < 0.95
    assert (scale("biregular:n=12,k=12,delta=4", "harmonic:t=0,choices=5") == 1).all()


def test_what_is_cyclic():
    assert is_cyclic(PLANE)
    assert is_cyclic(coset(5, 2, (0, 1, 3)))
    assert not is_cyclic(biregular(12, 6, 3))


@pytest.mark.parametrize(
    ("A", "options", "message"),
    [
        (biregular(12, 6, 3), {"m": 2}, "take exact-trained:attack=0.5"),
        (PLANE, {"m": 5}, "at least m=5 workers"),
        (PLANE, {"m": 2, "attack": 1.5}, r"needs attack in \[0, 1\], not attack=1.5"),
        (PLANE, {"m": 2, "steps": 0}, "not steps=0, seed=0"),
    ],
)
def test_cyclic_trained_says_why_it_does_not_exist(A, options, message):
    with pytest.raises(ValueError, match=f"cyclic-trained.*{message}"):
        cyclic_trained(A, **options)
