"""Theorems on codes: what no diagonal code can do, and what symmetry gives for nothing."""

from itertools import combinations

import numpy as np
import pytest

from gcmpi import Code, bounds
from gcmpi.assignments import (
    affine_plane,
    biregular,
    coset,
    cyclic,
    paley,
    projective_plane,
    quadratic_residue,
)
from gcmpi.codes.decoders.least_squares import noise_gain, ridge
from gcmpi.codes.encodings.frames import dual_frame
from gcmpi.codes.encodings.harmonic import waves
from gcmpi.codes.encodings.search.descent import Schedule, descend
from gcmpi.codes.encodings.search.straggler_sets import Uniform
from gcmpi.codes.relabelling import Relabelling
from gcmpi.encodings import exact_trained, harmonic, random_diagonal, weighted_rank_one
from gcmpi.errors import ErrorEngine, exhaustive, orders, target
from gcmpi.formats import NOISE_POWER, SHORT, decode_numbers, encode_numbers, storage
from tests.every import every

REGULAR = {
    "plane of order 3": projective_plane(3),
    "Paley graph": paley(13),
    "biplane": quadratic_residue(11),
    "cyclic": cyclic(9, 4),
    "random": biregular(12, 12, 4, seed=1),
    "more workers": biregular(15, 10, 4, seed=1),
    "more subsets": affine_plane(3),
}


def diagonal(A, D):
    """Return B with blocks A D_u, D (m, n)."""
    return (A[None] * D[:, None]).reshape(-1, A.shape[1])


@every("A", REGULAR)
@every("m", [1, 2, 3])
def test_no_diagonal_is_below_the_floor(A, m):
    rng = np.random.default_rng(0)
    n = A.shape[1]
    order = orders(n, 200, rng)
    counts = range(n + 1)
    floor = np.array([bounds.diagonal_floor(A, m, s) for s in counts])
    for _ in range(20):
        B = diagonal(A, rng.standard_normal((m, n)))
        assert (ErrorEngine(B, target(B, m)).nested(order, counts) >= floor - 1e-9).all()
        B = random_diagonal(A, m, rng)
        assert (ErrorEngine(B, target(B, m)).nested(order, counts) >= floor - 1e-9).all()


@pytest.mark.parametrize("m", [2, 3])
def test_no_optimised_diagonal_is_below_the_floor_and_it_is_nearly_reached(m):
    A = projective_plane(3)
    n, k = 13, 13

    def encode(parameters):
        return diagonal(A, parameters[0]), lambda g: [
            np.einsum("ujn,jn->un", g.reshape(m, k, n), A)
        ]

    rng = np.random.default_rng(1)
    start = [rng.standard_normal((m, n))]
    schedule = Schedule(400, 0.1, (1e-2, 1e-6))
    (D,) = descend(start, encode, m, Uniform(n, 0).step, schedule, rng, lambda *_: None)
    error = Code(A, diagonal(A, D), m).error(np.ones(n, dtype=bool))
    floor = bounds.diagonal_floor(A, m, 0)
    assert floor - 1e-9 <= error <= 1.03 * floor


def test_the_floor_of_a_design_in_closed_form():
    """m k - m delta^2 N / (m delta + lambda (N - m)), as A'A = (delta - lambda) I + lambda J."""
    for order, m in ((3, 2), (5, 2), (9, 3)):
        A = projective_plane(order)
        k, delta = len(A), order + 1
        for s in (0, 1, k // 4):
            N = k - s
            closed = m * k - m * delta**2 * N / (m * delta + N - m)
            assert bounds.diagonal_floor(A, m, s) == pytest.approx(closed)
    assert bounds.diagonal_floor(projective_plane(9), 2, 0) == pytest.approx(15.03, abs=0.005)
    assert bounds.diagonal_floor(projective_plane(2), 2, 7) == 14


def test_the_floor_lies_below_the_mean_of_the_random_diagonal_and_above_ours():
    A = projective_plane(5)
    rng = np.random.default_rng(2)
    order = orders(31, 100, rng)
    ours, random = harmonic(A, 2), random_diagonal(A, 2, rng)
    for s in (0, 3, 8):
        floor = bounds.diagonal_floor(A, 2, s)
        assert floor <= bounds.corollary_1(A, 2, s)
        assert ErrorEngine(ours, target(ours, 2)).nested(order, [s]).max() < floor
        assert ErrorEngine(random, target(ours, 2)).nested(order, [s]).min() > floor


def test_the_floor_is_for_regular_assignments():
    with pytest.raises(ValueError, match="needs a regular assignment, not"):
        bounds.diagonal_floor(np.tri(3, dtype=int), 2, 0)


def test_equal_coefficients_are_enough_where_the_gram_matrix_is_singular():
    """Where k < n, and on a ring whose load divides n, the floor is 0."""
    for A in (biregular(15, 10, 4, seed=1), cyclic(30, 6)):
        for s in (0, 5):
            assert bounds.diagonal_floor(A, 2, s) == pytest.approx(0, abs=1e-9)


CODES = {
    "harmonic": lambda A, m: harmonic(A, m, choices=20),
    "weighted rank one": weighted_rank_one,
    "trained": lambda A, m: exact_trained(A, m, steps=300, starts=1),
}


@every("make", CODES)
@every("m", [1, 2, 3])
def test_no_code_has_a_mean_below_the_holder_bound(make, m):
    for A in (projective_plane(2), coset(4, 2, (0, 1, 2)), biregular(8, 8, 3)):
        B = make(A, m)
        engine = ErrorEngine(B, target(B, m))
        for s in range(A.shape[1] + 1):
            assert exhaustive(engine, s).mean() >= bounds.holder_bound(A, m, s) - 1e-9


def mean_decoded(B, m, s):
    """Return the mean of B_S R over all sets of s stragglers, (m * k, m), and that of Err_S."""
    n = B.shape[1]
    F = target(B, m)
    sets = np.array(list(combinations(range(n), n - s)))
    B_S = B[:, sets].transpose(1, 0, 2)
    decoded = B_S @ (np.linalg.pinv(B_S, rcond=1e-9) @ F)
    return decoded.mean(axis=0), float(np.sum((decoded - F) ** 2) / len(sets))


CYCLIC = [
    (projective_plane(2), (1.0,), ()),
    (projective_plane(2), (2.0,), (0.0,)),
    (projective_plane(3), (1.0,), (3.0,)),
    (projective_plane(3), (5.0,), ()),
    (quadratic_residue(11), (1.0,), (2.0,)),
    (cyclic(10, 4), (1.5,), (0.5,)),  # n even, half-integers: the last wave closes with a sign
    (coset(5, 2, (0, 1, 3)), (1.0,), (2.0,)),
]


@pytest.mark.parametrize(("A", "R", "Z"), CYCLIC)
def test_a_fixed_cyclic_harmonic_code_is_unbiased(A, R, Z):
    """E[B_S R] = alpha F over all sets, alpha = 1 - E Err / (m k), with one B for all iterations.

    B turns the shift U of the workers into T, the shift of the subsets with a rotation of the
    parts. The mean P of the projections on the columns of B_S commutes with T; the columns of F
    are, up to rotation, the only vectors in the range of B with their eigenvalues of T, because U
    has n distinct ones. So P maps them to multiples of themselves.
    """
    k, n = A.shape
    B = dual_frame(A, np.hstack([waves(n, R), waves(n, Z)]), 2)
    F = target(B, 2)
    lost = []
    for s in range(min(n - 1, 6)):
        mean, error = mean_decoded(B, 2, s)
        alpha = 1 - error / (2 * k)
        assert np.allclose(mean, alpha * F, atol=1e-9)
        lost.append(error)
    assert lost[0] < 1e-9 < lost[-1]


@pytest.mark.parametrize("A", [projective_plane(2), projective_plane(3), quadratic_residue(11)])
def test_the_harmonic_encoding_is_unbiased_on_cyclic_designs(A):
    B = harmonic(A, 2, choices=10)
    for s in (2, 3):
        mean, error = mean_decoded(B, 2, s)
        assert np.allclose(mean, (1 - error / (2 * len(A))) * target(B, 2), atol=1e-9)


def test_a_fixed_random_diagonal_is_biased():
    A = projective_plane(3)
    B = random_diagonal(A, 2, np.random.default_rng(3))
    mean, error = mean_decoded(B, 2, 2)
    F = target(B, 2)
    assert np.sum((mean - (1 - error / 26) * F) ** 2) / 26 > 0.05


def test_relabelling_makes_any_code_on_a_cyclic_assignment_unbiased():
    """Worker i plays i + r and subset j plays j + r; the parts are permuted and change sign.

    The mean over all r, signed permutations and sets of s stragglers is alpha F, for a code
    without any symmetry. All of them are enumerated.
    """
    A = projective_plane(2)
    B = np.random.default_rng(4).standard_normal((14, 7)) * np.tile(A, (2, 1))
    total, errors, count = np.zeros((14, 2)), 0.0, 0
    signed = [P * np.array(signs) for P in (np.eye(2), np.eye(2)[::-1])
              for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]  # fmt: skip
    for r in range(7):
        for P in signed:
            code = Relabelling(r, P).of(Code(A, B, 2))
            mean, error = mean_decoded(code.B, 2, 2)
            total, errors, count = total + mean, errors + error, count + 1
    alpha = 1 - errors / count / 14
    assert np.sum((total / count - alpha * target(B, 2)) ** 2) < 1e-20
    plain, error = mean_decoded(B, 2, 2)
    assert np.abs(plain - (1 - error / 14) * target(B, 2)).max() > 0.01  # it is biased as it stands


def test_a_ridge_is_the_best_decoder_for_noisy_messages():
    """Mean square error over noise of relative power eps, against least squares, in closed form."""
    A = projective_plane(3)
    code = Code(A, harmonic(A, 2, 2), 2)
    survivors = np.arange(13) >= 3
    norms = np.linalg.norm(code.B, axis=0)

    def risk(R, eps):
        return code.residual(R) + eps * np.sum((norms[:, None] * R) ** 2)

    plain = code.decode(survivors)
    for eps in (1e-6, 1e-2, 1.0):
        R = ridge(code, survivors, eps=eps)
        assert not R[:3].any()
        assert risk(R, eps) <= risk(plain, eps)
        assert noise_gain(code, R) <= noise_gain(code, plain)
        for step in np.random.default_rng(5).standard_normal((5, 13, 2)):
            moved = R + 1e-3 * step * survivors[:, None]
            assert risk(moved, eps) > risk(R, eps)
    assert np.allclose(ridge(code, survivors, wire="float64"), plain)
    for wire in ("float32", "float64"):
        assert NOISE_POWER[wire] == pytest.approx(float(np.finfo(wire).eps) ** 2, rel=0.1)


@pytest.mark.parametrize("wire", SHORT)
def test_the_noise_of_short_messages_is_that_of_rounding(wire):
    y = np.random.default_rng(6).standard_normal(100_000)
    sent, arrived = np.empty(len(y), storage(wire)), np.empty_like(y)
    decode_numbers(sent, wire, encode_numbers(y, wire, sent), arrived)
    assert NOISE_POWER[wire] == pytest.approx(np.sum((arrived - y) ** 2) / np.sum(y**2), rel=0.1)


def test_a_ridge_helps_where_survivors_are_nearly_singular():
    A = np.ones((1, 3), dtype=int)
    code = Code(A, np.array([[1.0, 1.0, 1.0], [0.0, 1e-7, 1.0]]), 2)
    survivors = np.array([True, True, False])
    assert noise_gain(code, code.decode(survivors)) > 1e6
    R = ridge(code, survivors, wire="float16")
    assert noise_gain(code, R) < 10
    assert code.residual(R) == pytest.approx(1, abs=1e-3)  # one part is given up
    assert not ridge(code, np.zeros(3, dtype=bool)).any()
    with pytest.raises(ValueError, match="ridge needs eps > 0, not eps=0"):
        ridge(code, survivors, eps=0.0)
