"""The theorem of each encoding, and what it refuses. The laws of all are in test_laws.py."""

import numpy as np
import pytest

from gcmpi import Code
from gcmpi.assignments import (
    affine_plane,
    biregular,
    coset,
    fractional_repetition,
    projective_plane,
    steiner_triple,
)
from gcmpi.encodings import diagonals, random_diagonal, random_hadamard, stacked, uncoded
from gcmpi.registry import ENCODINGS
from tests.every import every

PLANE = projective_plane(3)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_diagonals_have_the_distribution_of_the_paper(epsilon):
    D = diagonals(20_000, 3, np.random.default_rng(0), epsilon)
    assert D.shape == (3, 20_000)
    assert (np.abs(np.abs(D) - 1) <= epsilon).all()
    if epsilon == 0:
        assert set(np.unique(D)) == {-1, 1}
    # each mean of 60,000 entries within five standard errors of the expectation
    for values, mean in (
        (D, 0),
        (np.abs(D), 1),
        (D**2, 1 + epsilon**2 / 3),
        (1 / D**2, 1 / (1 - epsilon**2)),
        (D[0] * D[1], 0),
        (D[:, 1:] * D[:, :-1], 0),
    ):
        assert abs(values.mean() - mean) <= 5 * values.std() / np.sqrt(values.size) + 1e-12


def test_random_diagonal_scales_the_columns_of_each_block():
    B = random_diagonal(PLANE, 3, np.random.default_rng(1), epsilon=0.4)
    D = diagonals(13, 3, np.random.default_rng(1), 0.4)
    assert np.array_equal(B, np.vstack([PLANE @ np.diag(d) for d in D]))


@pytest.mark.parametrize("epsilon", [1.0, -0.1, np.nan])
def test_random_diagonal_needs_entries_away_from_zero(epsilon):
    with pytest.raises(ValueError, match=r"needs epsilon in \[0, 1\), not"):
        random_diagonal(PLANE, 2, np.random.default_rng(0), epsilon=epsilon)


def test_on_an_invertible_coset_graph_a_random_diagonal_is_exact():
    A = coset(27, 2, (0, 1, 3, 9, 20))
    code = Code(A, random_diagonal(A, 2, np.random.default_rng(2), epsilon=0.1), 2)
    assert code.error(np.ones(54, dtype=bool)) < 1e-9


def test_stacked_loses_all_parts_but_one_and_the_error_of_the_single_code():
    for A in (PLANE, steiner_triple(9), fractional_repetition(6, 3)):
        k, n = A.shape
        survivors = np.arange(n) % 3 > 0
        single = Code(A, stacked(A, 1), 1).error(survivors)
        assert Code(A, stacked(A, 3), 3).error(survivors) == pytest.approx(2 * k + single)


def test_uncoded_loses_what_stragglers_hold():
    code = Code(np.eye(5), uncoded(np.eye(5), 1), 1)
    for s in range(6):
        survivors = np.arange(5) >= s
        assert code.error(survivors) == s
        assert np.array_equal(code.decode(survivors)[:, 0], survivors)


def test_uncoded_refuses_redundancy_and_parts():
    with pytest.raises(ValueError, match="needs m=1, not m=2"):
        uncoded(np.eye(3), 2)
    for A in (PLANE, np.ones((3, 2)), np.eye(3)[::-1]):
        with pytest.raises(ValueError, match="one subset on one worker"):
            uncoded(A, 1)


HADAMARD = [
    (biregular(40, 20, 3), 2, "gaussian"),
    (biregular(40, 20, 3), 2, "signs"),
    (biregular(40, 10, 3), 4, "gaussian"),
    (coset(9, 3, (0, 1)), 3, "gaussian"),
    (coset(8, 4, (0, 1, 3)), 4, "signs"),
    (steiner_triple(13).T, 2, "signs"),  # the incidence matrix of a BIBD: (26, 13, 6, 3, 1)
    (affine_plane(4)[:8], 2, "gaussian"),  # n = m k, with loads from 0 on
    (PLANE, 1, "gaussian"),
]


@every("A, m, variant", HADAMARD)
def test_random_hadamard_is_exact_with_vectors_of_mutual_null_spaces(A, m, variant):
    """Reads v_u off the rows of A_u, then checks B v_u = f_u."""
    k, n = A.shape
    code = Code(A, random_hadamard(A, m, np.random.default_rng(3), variant), m)
    blocks = code.B.reshape(m, k, n)
    norms = np.sum(blocks**2, axis=2, keepdims=True)
    # row j is v_u / ||v_u(H_j)||^2 on H_j, so divided by its squared norm it is v_u there
    seen = np.where(A, blocks / norms, np.nan)
    held = A.any(axis=0)
    V = np.zeros((n, m))
    V[held] = np.nanmax(seen[:, :, held], axis=1).T
    assert np.allclose(V[held], np.nanmin(seen[:, :, held], axis=1).T)
    assert np.allclose(code.B @ V, code.target)
    assert code.error(np.ones(n, dtype=bool)) < 1e-9
    if variant == "signs":
        assert np.allclose(V[:, 0], 1)
        assert np.allclose(np.abs(V), 1)
    elif m > 1:
        assert len(np.unique(np.abs(V[held]).round(9))) > n


def test_the_signs_depend_on_the_generator():
    A = biregular(40, 20, 3)
    found = [random_hadamard(A, 2, np.random.default_rng(i), "signs") for i in (0, 1, 0)]
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


# a triangle of workers beside a path of four; the subsets are the edges
TRIANGLE = np.zeros((6, 7), dtype=np.uint8)
for edge, ends in enumerate([(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (5, 6)]):
    TRIANGLE[edge, ends] = 1

REFUSED = [
    (PLANE, 2, "gaussian", r"null space of blocks 1\.\.1, which is empty.*n > \(m-1\)\*k = 13"),
    (coset(5, 3, (0, 1)), 4, "gaussian", r"null space of blocks 1\.\.3, which is empty"),
    (TRIANGLE, 2, "gaussian", "vanishes on all workers of subset 0"),
    (TRIANGLE, 2, "signs", "there is none; use variant=gaussian"),
    (biregular(30, 10, 1), 2, "signs", "even number of workers; subset 0 is on 3"),
]


@every("A, m, variant, message", REFUSED)
def test_random_hadamard_says_why_it_does_not_exist(A, m, variant, message):
    with pytest.raises(ValueError, match=f"random-hadamard.*{message}"):
        random_hadamard(A, m, np.random.default_rng(0), variant)


def test_names_and_options():
    names = {part.name for part in ENCODINGS}
    assert {"random-diagonal", "stacked", "uncoded", "random-hadamard"} <= names
    with pytest.raises(ValueError, match="variant must be gaussian or signs, not 'ones'"):
        ENCODINGS.parse("random-hadamard:variant=ones")
