"""Harmonic codes: dual frames of waves, exact up to t stragglers, well conditioned."""

from itertools import combinations

import numpy as np
import pytest

from gcmpi import Code
from gcmpi.assignments import affine_plane, biregular, coset, cyclic, projective_plane
from gcmpi.codes.decoders.least_squares import noise_gain
from gcmpi.codes.encodings.frames import dual_frame
from gcmpi.codes.encodings.harmonic import draw_choices, waves
from gcmpi.encodings import harmonic, random_hadamard
from gcmpi.errors import ErrorEngine, exhaustive, orders, target
from tests.every import every

PLANE = projective_plane(3)


@pytest.mark.parametrize("n", [5, 8, 9])
def test_waves_are_orthogonal(n):
    for half in (0.0, 0.5):
        frequencies = tuple(f for f in np.arange(half, n / 2 + 0.1) if n % 2 == 0 or half == 0)
        W = waves(n, frequencies)
        if W.shape[1]:
            assert np.allclose(W.T @ W, n * np.eye(W.shape[1]))


@every(
    "n, m, t",
    [(7, 2, 3), (9, 2, 2), (9, 1, 4), (9, 2, 5), (9, 3, 4), (10, 2, 4), (8, 3, 3), (12, 2, 6)],
)
def test_any_t_rows_of_z_are_independent(n, m, t):
    """For prime, odd and even n, where the frequencies are whole and where they are halves."""
    choices = draw_choices(n, m, t, 1, 40, np.random.default_rng(0))
    assert choices
    for R, Z, _ in choices:
        K = np.hstack([waves(n, R), waves(n, Z)])
        assert K.shape == (n, m + t)
        assert np.linalg.matrix_rank(K) == m + t
        rows = K[list(combinations(range(n), t)), m:]
        assert np.linalg.svd(rows, compute_uv=False).min() > 1e-9


@every(
    "A, m",
    [(PLANE, 1), (PLANE, 2), (PLANE, 3), (coset(5, 2, (0, 1, 3)), 2), (affine_plane(4), 2),
     (biregular(12, 12, 4, seed=1), 2), (cyclic(9, 5), 3)],
)  # fmt: skip
def test_harmonic_codes_are_exact_for_every_set_of_t_stragglers(A, m):
    k, n = A.shape
    gamma = int(A.sum(axis=1).min())
    for t in range(gamma - m + 1):
        if n % 2 and m % 2 and t % 2:
            continue
        engine = ErrorEngine(harmonic(A, m, t, choices=20), target(np.zeros((m * k, n)), m))
        for s in range(t + 1):
            assert exhaustive(engine, s).max() < 1e-9


def test_b_maps_the_waves_of_r_to_the_target_and_those_of_z_to_zero():
    K = waves(13, (1.0, 3.0))
    B = dual_frame(PLANE, K, 2)
    F = Code(PLANE, B, 2).target
    assert np.allclose(B @ K, np.hstack([F, np.zeros((26, 2))]))
    assert dual_frame(PLANE, K[:, [0, 1, 0, 1]], 2) is None


def test_with_t_0_and_orthogonal_columns_it_is_the_random_hadamard_encoding():
    A = biregular(12, 6, 3)
    B = random_hadamard(A, 2, np.random.default_rng(0))
    V = np.linalg.pinv(B) @ Code(A, B, 2).target
    assert np.allclose(dual_frame(A, V, 2), B)


def test_exact_on_a_composite_number_of_workers_for_structured_sets():
    """n = 91: all of 8 stragglers in one coset of the subgroups of order 7 and 13."""
    A = projective_plane(9)
    engine = ErrorEngine(harmonic(A, 2, 6, choices=5), target(np.zeros((182, 91)), 2))
    for step in (7, 13):
        sets = [list(T) for T in combinations(range(0, 91, step), 6)][:300]
        survivors = ~np.array([np.isin(np.arange(91), T) for T in sets])
        assert engine.errors(survivors).max() < 1e-9


def test_t_is_chosen_for_the_stragglers_to_expect():
    A = projective_plane(5)
    F = target(np.zeros((62, 31)), 2)
    order = orders(31, 500, np.random.default_rng(5))
    one, four = (
        ErrorEngine(harmonic(A, 2, stragglers=s), F).nested(order, [1, 4]).mean(axis=0)
        for s in (1, 4)
    )
    assert max(one[0], four[0], four[1]) < 1e-9
    assert one[1] > 0.1


def test_messages_are_decoded_with_little_noise():
    A = projective_plane(5)
    code = Code(A, harmonic(A, 2, 0), 2)
    for s in (0, 3, 8):
        survivors = np.arange(31) >= s
        assert noise_gain(code, code.decode(survivors)) < 4


def test_it_is_always_the_same_and_searched_once():
    first = harmonic(PLANE, 2, 1)
    assert harmonic(PLANE, 2, 1) is first
    assert not first.flags.writeable


@every(
    "arguments, message",
    [
        ({"m": 5}, r"needs every subset on at least m=5 workers; subset 0 is on 4: take m=4 or"),
        ({"m": 2, "t": 3}, r"needs 0 <= t <= gamma - m = 2 \(gamma=4, m=2\), not t=3"),
        ({"m": 1, "t": 3}, "no frequencies for n=13, m=1, t=3: they cannot all be odd"),
        ({"m": 2, "stragglers": 13}, r"needs stragglers in 0\.\.12, not stragglers=13"),
        ({"m": 2, "choices": 0}, "at least one choice of frequencies, not 0"),
    ],
)
def test_harmonic_says_why_it_does_not_exist(arguments, message):
    with pytest.raises(ValueError, match=f"harmonic.*{message}"):
        harmonic(PLANE, **arguments)
