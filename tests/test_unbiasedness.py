"""E[B_S R] = alpha F for random diagonals on designs, vertex-transitive graphs and coset graphs.

B_S R projects F on the columns of B_S, so it does not change when a column is scaled: with random
signs D_1 = I without loss of generality, and at m = 2 all of D_2 can be enumerated for few
workers. Every number s of stragglers is tested by itself, all sets of s equally likely; Bernoulli
stragglers are a mixture of these.
"""

from itertools import combinations, product

import numpy as np
import pytest

from gcmpi import Code, assignments, encodings
from gcmpi.registry import ASSIGNMENTS
from gcmpi.testing.symmetry import is_transitive_on_workers

M = 2


def all_sign_codes(A):
    """Return B for every D_2, shape (2^n, 2 k, n)."""
    signs = np.array(list(product((1, -1), repeat=A.shape[1])))
    return np.concatenate(
        [np.broadcast_to(A, (len(signs), *A.shape)), A * signs[:, None, :]], axis=1
    ).astype(float)


def expectation(B, A, s):
    """Return the means of B_S R and of 1 - Err_S / (m k) over the given B and all S."""
    k, n = A.shape
    F = Code(A, B[0], M).target
    decoded = []
    for S in combinations(range(n), n - s):
        B_S = B[:, :, list(S)]
        decoded.append((B_S @ np.linalg.pinv(B_S, rtol=1e-10) @ F).mean(axis=0))
    mean = np.mean(decoded, axis=0)
    # Err_S = ||F||^2 - <F, B_S R>, a projection
    return mean, float(np.sum(F * mean)) / (M * k)


def two_planes():
    """A design that is not vertex-transitive: a Fano plane and a relabelled copy, lambda = 2."""
    A = assignments.projective_plane(2)
    return np.concatenate([A, A[:, [2, 4, 3, 6, 5, 0, 1]]])


UNBIASED = {
    "design, plane of order 2": lambda: assignments.projective_plane(2),
    "design, affine plane of order 2": lambda: assignments.affine_plane(2),
    "design, without transitivity": two_planes,
    "graph, pentagon": lambda: assignments.paley(5),
    "graph, triangular": lambda: assignments.triangular(4),
    "coset, k = 3": lambda: assignments.coset(3, 2, (0, 1)),
    "coset, k = 4": lambda: assignments.coset(4, 2, (0, 1, 2)),
}


@pytest.mark.parametrize("build", UNBIASED.values(), ids=UNBIASED)
def test_decoded_gradient_is_unbiased_up_to_alpha(build):
    A = build()
    B = all_sign_codes(A)
    F = Code(A, B[0], M).target
    for s in range(A.shape[1]):
        mean, alpha = expectation(B, A, s)
        assert np.allclose(mean, alpha * F, atol=1e-12)
        assert 0 < alpha <= 1 + 1e-12


def test_the_conditions_are_those_of_the_cases():
    assert not is_transitive_on_workers(two_planes())
    kinds = [assignments.parameters(build()) for build in UNBIASED.values()]
    assert [p.bibd for p in kinds] == [True] * 3 + [False] * 4
    assert [p.srg for p in kinds] == [False] * 3 + [True] * 2 + [False] * 2
    assert [p.coset for p in kinds[-2:]] == [2, 2]


def test_without_symmetry_there_is_a_bias():
    """A ring of four workers beside one of three: both degrees are 2, yet one ring loses more."""
    A = np.zeros((7, 7), dtype=np.uint8)
    A[:4, :4], A[4:, 4:] = assignments.cyclic(4, 2), assignments.cyclic(3, 2)
    assert not is_transitive_on_workers(A)
    B = all_sign_codes(A)
    F = Code(A, B[0], M).target
    assert np.allclose(expectation(B, A, s=0)[0][:7, 0], [35 / 48] * 4 + [34 / 48] * 3)
    mean, alpha = expectation(B, A, s=1)
    assert np.abs(mean - alpha * F).max() > 0.005


def test_one_diagonal_for_all_iterations_is_biased():
    """The expectation needs fresh diagonals: no fixed B of these is unbiased, even on a plane."""
    A = assignments.projective_plane(2)
    B = all_sign_codes(A)
    F = Code(A, B[0], M).target
    for fixed in B[:, None]:
        mean, alpha = expectation(fixed, A, s=1)
        assert np.abs(mean - alpha * F).max() > 0.1


@pytest.mark.parametrize(
    ("text", "epsilon"), [("coset:k=5,m=2,generators=0+1+3", 0.1), ("kneser:v=5", 0.3)]
)
def test_unbiased_for_bernoulli_stragglers_and_any_epsilon(text, epsilon):
    """By Monte Carlo, through the public functions; alpha also from the mean error."""
    A = ASSIGNMENTS.build(text)
    k, n = A.shape
    rng = np.random.default_rng(4)
    decoded, errors = [], []
    for _ in range(2000):
        code = Code(A, encodings.random_diagonal(A, M, rng, epsilon=epsilon), M)
        survivors = rng.random(n) >= 0.25
        decoded.append(code.B @ code.decode(survivors))
        errors.append(code.error(survivors))
    alpha = 1 - np.mean(errors) / (M * k)
    mean = np.mean(decoded, axis=0)
    deviation = np.std(decoded, axis=0) / np.sqrt(len(decoded))
    # 4 k entries, normal: five standard errors
    assert (np.abs(mean - alpha * code.target) < 5 * deviation + 1e-9).all()
