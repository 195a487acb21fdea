"""Designs: the defining identity of each, its structure, and ranks that tell designs apart."""

from math import comb

import flint
import numpy as np
import pytest

from gcmpi import assignments
from gcmpi.registry import ASSIGNMENTS
from tests.every import every

PRIME_POWERS = (2, 3, 4, 5, 7, 8, 9, 11, 13, 16)


def check_bibd(A, n, k, gamma, delta, lam):
    """A'A = (delta - lambda) I + lambda J, with blocks of equal size."""
    A = A.astype(np.intp)
    assert A.shape == (k, n)
    assert (A.T @ A == (delta - lam) * np.eye(n, dtype=int) + lam).all()
    assert (A.sum(axis=1) == gamma).all()
    assert k * gamma == n * delta
    # Fisher: as many blocks as points at least, and the identity gives lambda
    assert k >= n
    assert lam * (n - 1) == delta * (gamma - 1)


def check_with_complement(build, n, k, gamma, delta, lam):
    check_bibd(build(complement=False), n, k, gamma, delta, lam)
    check_bibd(build(complement=True), n, k, n - gamma, k - delta, k - 2 * delta + lam)
    assert (build(complement=False) + build(complement=True) == 1).all()


def rank(A, p):
    return flint.nmod_mat(flint.fmpz_mat(A.tolist()), p).rank()


def is_circulant(A):
    return (np.roll(A, (1, 1), axis=(0, 1)) == A).all()


@every("q", PRIME_POWERS)
def test_projective_plane(q):
    n = q * q + q + 1
    check_with_complement(
        lambda complement: assignments.projective_plane(q, complement), n, n, q + 1, q + 1, 1
    )
    A = assignments.projective_plane(q).astype(np.intp)
    assert is_circulant(A)
    # the dual axiom: two subsets share one worker
    assert (A @ A.T == q * np.eye(n, dtype=int) + 1).all()
    # worker i holds subset j iff i - j is in Singer's set
    assert (A[0] == assignments.singer_difference_set(q, 2)).all()


@every("q, p, e", [(q, *r) for q, r in {
    2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (5, 1), 7: (7, 1), 8: (2, 3), 9: (3, 2), 16: (2, 4),
}.items()])  # fmt: skip
def test_planes_have_the_rank_of_the_desarguesian_plane(q, p, e):
    """Graham and MacWilliams: rank over GF(p) of PG(2, p^e) is C(p+1, 2)^e + 1, of AG C(p+1, 2)^e.

    Other planes of the same order have a larger rank; this sees the field's arithmetic.
    """
    assert rank(assignments.projective_plane(q), p) == comb(p + 1, 2) ** e + 1
    assert rank(assignments.affine_plane(q), p) == comb(p + 1, 2) ** e


@pytest.mark.parametrize(("q", "r"), [(4, 2), (9, 3), (16, 4)])
def test_classes_of_workers_are_baer_subplanes(q, r):
    A = assignments.projective_plane(q)
    classes = q - r + 1
    for c in range(classes):
        subplane = A[:, c::classes]
        assert subplane.shape[1] == r * r + r + 1
        # a line meets a Baer subplane in one point or in r + 1: every subset is covered
        assert set(subplane.sum(axis=1)) == {1, r + 1}
    assert (A[:, 0::classes].sum(axis=1) == r + 1).sum() == r * r + r + 1


@every("dimension, q", [(2, 4), (3, 2), (3, 3), (3, 4), (4, 2), (4, 3), (5, 2), (7, 2), (3, 7)])
def test_projective_space(dimension, q):
    n, delta, lam = ((q**d - 1) // (q - 1) for d in (dimension + 1, dimension, dimension - 1))
    check_with_complement(
        lambda complement: assignments.projective_space(dimension, q, complement),
        n, n, delta, delta, lam,
    )  # fmt: skip
    A = assignments.projective_space(dimension, q)
    assert is_circulant(A)
    p = {2: 2, 3: 3, 4: 2, 7: 7}[q]
    e = 2 if q == 4 else 1
    assert rank(A, p) == comb(p + dimension - 1, dimension) ** e + 1


def test_the_plane_is_the_space_of_dimension_two():
    assert (assignments.projective_space(2, 5) == assignments.projective_plane(5)).all()


@every("q", PRIME_POWERS)
def test_affine_plane(q):
    check_with_complement(
        lambda complement: assignments.affine_plane(q, complement), q * q, q * q + q, q, q + 1, 1
    )
    A = assignments.affine_plane(q).astype(np.intp)
    # lines of one class partition the points, lines of two classes meet once
    parallel = np.kron(np.eye(q + 1, dtype=int), np.ones((q, q), dtype=int))
    assert (A @ A.T == q * np.eye(q * q + q, dtype=int) + (1 - parallel)).all()


def test_labels_of_the_affine_plane():
    q = 5
    A = assignments.affine_plane(q)
    for a, b, x in np.ndindex(q, q, q):
        assert A[q * a + b, q * x + (a * x + b) % q]
        assert A[q * q + x, q * x + b]


@every("v", [v for v in range(7, 100) if v % 6 in (1, 3)])
def test_steiner_triple_system(v):
    check_with_complement(
        lambda complement: assignments.steiner_triple(v, complement),
        v, v * (v - 1) // 6, 3, (v - 1) // 2, 1,
    )  # fmt: skip


def test_the_smallest_triple_systems_are_planes():
    """The systems on 7 and 9 points are unique: the Fano plane and the affine plane of order 3."""
    assert rank(assignments.steiner_triple(7), 2) == rank(assignments.projective_plane(2), 2) == 4
    assert rank(assignments.steiner_triple(9), 3) == rank(assignments.affine_plane(3), 3) == 6


@every("q", [7, 11, 19, 23, 27, 31, 43, 47, 59, 83, 243])
def test_quadratic_residues(q):
    check_with_complement(
        lambda complement: assignments.quadratic_residue(q, complement),
        q, q, (q - 1) // 2, (q - 1) // 2, (q - 3) // 4,
    )  # fmt: skip
    A = assignments.quadratic_residue(q)
    # -1 is no square: a tournament, whose signs make a Hadamard matrix of order q + 1
    assert (A + A.T + np.eye(q) == 1).all()
    H = np.ones((q + 1, q + 1))
    H[1:, 1:] = 2.0 * A - 1
    assert (H @ H.T == (q + 1) * np.eye(q + 1)).all()


def test_quadratic_residues_of_a_prime_are_squares():
    members = np.flatnonzero(assignments.quadratic_residue(23)[0])
    assert set(members) == {x * x % 23 for x in range(1, 23)}


@every("q", [13, 37, 101, 109, 197])
def test_biquadratic_residues(q):
    zero = q in (13, 109)
    delta, lam = ((q + 3) // 4, (q + 3) // 16) if zero else ((q - 1) // 4, (q - 5) // 16)
    check_with_complement(
        lambda complement: assignments.biquadratic_residue(q, complement), q, q, delta, delta, lam
    )
    A = assignments.biquadratic_residue(q)
    assert is_circulant(A)
    assert set(np.flatnonzero(A[0])) == {pow(x, 4, q) for x in range(0 if zero else 1, q)}


@every("q", [31, 43, 127, 223, 283])
def test_sextic_residues(q):
    check_with_complement(
        lambda complement: assignments.sextic_residue(q, complement),
        q, q, (q - 1) // 2, (q - 1) // 2, (q - 3) // 4,
    )  # fmt: skip
    A = assignments.sextic_residue(q)
    assert is_circulant(A)
    # a union of classes of sixth powers
    sixth = next(x for x in (pow(x, 6, q) for x in range(2, q)) if x != 1)
    members = np.flatnonzero(A[0])
    assert {int(x) * sixth % q for x in members} == {int(x) for x in members}


def test_hall_and_paley_designs_differ():
    assert rank(assignments.sextic_residue(31), 2) != rank(assignments.quadratic_residue(31), 2)


@every("q", [3, 5, 7, 9, 11, 17])
def test_twin_prime_powers(q):
    n = q * (q + 2)
    check_with_complement(
        lambda complement: assignments.twin_prime_power(q, complement),
        n, n, (n - 1) // 2, (n - 1) // 2, (n - 3) // 4,
    )  # fmt: skip


REFUSALS = {
    "projective-plane:order=6": (
        "projective-plane needs a prime power as its order, not order=6; "
        "nearest possible: order=5 or 7"
    ),
    "projective-plane:order=-3": "nearest possible: order=2",
    "projective-space:dimension=1,order=3": "dimension at least 2, not dimension=1",
    "projective-space:dimension=3,order=10": "nearest possible: order=9 or 11",
    "affine-plane:order=14": "affine-plane needs a prime power as its order, not order=14; "
    "nearest possible: order=13 or 16",
    "steiner-triple:v=11": "not v=11; nearest possible: v=9 or 13",
    "steiner-triple:v=3": "at least 7, not v=3; nearest possible: v=7",
    "quadratic-residue:q=13": "not q=13; nearest possible: q=11 or 19",
    "biquadratic-residue:q=5": "not q=5; nearest possible: q=13",
    "biquadratic-residue:q=40": "not q=40; nearest possible: q=37 or 101",
    "sextic-residue:q=32": "not q=32; nearest possible: q=31 or 43",
    "twin-prime-power:q=13": "not q=13; nearest possible: q=11 or 17",
    "twin-prime-power:q=0": "not q=0; nearest possible: q=3",
}


@every("text, message", REFUSALS.items())
def test_refusals_say_what_is_possible(text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ASSIGNMENTS.build(text)
    assert message in str(error.value)
