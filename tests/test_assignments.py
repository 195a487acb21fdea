"""Laws over every registered assignment, and the constructions without a design."""

import itertools

import flint
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gcmpi import assignments, testing
from gcmpi.codes.assignments.fields import (
    differences,
    is_prime_power,
    logarithms,
    prime_power,
    primitive_element,
    products,
)
from gcmpi.registry import ASSIGNMENTS, Spec
from gcmpi.testing.symmetry import is_transitive_on_workers
from tests.every import every


@pytest.mark.parametrize("name", [part.name for part in ASSIGNMENTS])
def test_assignments_keep_the_laws_that_users_assignments_are_held_to(name):
    for options in ASSIGNMENTS[name].examples:
        testing.check_assignment(str(Spec(name, options)))


@every("name", [part.name for part in ASSIGNMENTS])
def test_every_assignment_is_a_matrix_of_bytes_with_the_parameters_that_are_read_off(name):
    irregular = False
    for options in ASSIGNMENTS[name].examples:
        A = ASSIGNMENTS.build(Spec(name, options))
        assert A.dtype == np.uint8
        p = assignments.parameters(A)
        assert A.shape == (p.k, p.n)
        if None in {p.gamma, p.delta}:
            irregular = True
        else:
            assert p.k * p.gamma == p.n * p.delta == A.sum(dtype=int)
    assert ASSIGNMENTS[name].promises.irregular or not irregular


def test_the_transitivity_check_can_say_no():
    # Skolem's system has a distinguished point; a path has ends
    assert not is_transitive_on_workers(assignments.steiner_triple(19))
    assert not is_transitive_on_workers(np.array([[1, 1, 0], [0, 1, 1]], dtype=np.uint8))
    # regular, and refinement alone cannot tell a hexagon from two triangles
    hexagon, triangle = assignments.cyclic(6, 2), assignments.cyclic(3, 2)
    both = np.kron(np.diag([1, 0]), hexagon) + np.pad(
        np.kron(np.eye(2), triangle), ((6, 0), (6, 0))
    )
    assert is_transitive_on_workers(hexagon)
    assert not is_transitive_on_workers(both.astype(np.uint8))


REFUSALS = {
    "coset:k=12,m=2,generators=0+1+3": (
        "coset needs k a prime power that does not divide delta, not k=12, delta=3: "
        "12 is not a prime power; nearest possible: k=11 or 13"
    ),
    "coset:k=9,m=2,generators=0+1+3": "3 divides 3; nearest possible: k=8 or 11",
    "coset:k=7,m=2,generators=0+1+7": "coset needs different generators in 0..6, not 0+1+7",
    "coset:k=7,m=2,generators=0+1+1": "coset needs different generators in 0..6, not 0+1+1",
    "coset:k=7,m=0,generators=0+1+3": "coset needs at least one copy, not m=0",
    "cyclic:n=4,delta=9": "cyclic needs 1 <= delta <= n, not n=4, delta=9; nearest possible: "
    "delta=4",
    "cyclic:n=4,delta=0": "nearest possible: delta=1",
    "cyclic:n=0,delta=1": "cyclic needs 1 <= delta <= n, not n=0, delta=1; none possible near",
    "fractional-repetition:n=10,delta=4": (
        "fractional-repetition needs delta a divisor of n, not n=10, delta=4; "
        "nearest possible: delta=2 or 5"
    ),
    "fractional-repetition:n=0,delta=1": "fractional-repetition needs n at least 1, not n=0",
    "uncoded:n=0": "uncoded needs n at least 1, not n=0",
    "biregular:n=40,k=20,delta=21": "not n=40, k=20, delta=21; nearest possible: delta=20",
    "biregular:n=9,k=6,delta=3": "nearest possible: delta=2 or 4",
    "biregular:n=0,k=6,delta=3": "biregular needs n and k at least 1, not n=0, k=6",
    "biregular:n=4,k=4,delta=2,seed=-1": "biregular needs seed at least 0, not seed=-1",
}


@every("text, message", REFUSALS.items())
def test_refusals_say_what_is_possible(text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ASSIGNMENTS.build(text)
    assert message in str(error.value)


# ---------------------------------------------------------------- fields


@every("q", [2, 3, 4, 5, 7, 8, 9, 16, 25, 27])
def test_tables_are_those_of_a_field(q):
    minus, times = differences(q), products(q)
    zero, one = 0, 1
    negative = minus[:, zero]
    plus = minus[negative]  # plus[j, i] = x_i + x_j
    elements = set(range(q))
    assert (plus == plus.T).all()
    assert (plus[zero] == np.arange(q)).all()
    assert (times == times.T).all()
    assert (times[one] == np.arange(q)).all()
    assert all(set(row) == elements for row in times[1:])
    a, b, c = (axis.ravel() for axis in np.meshgrid(*[np.arange(q)] * 3))
    assert (plus[a, plus[b, c]] == plus[plus[a, b], c]).all()
    assert (times[a, times[b, c]] == times[times[a, b], c]).all()
    assert (times[a, plus[b, c]] == plus[times[a, b], times[a, c]]).all()


def test_indices_of_a_prime_field_are_residues():
    a, b = np.ogrid[:11, :11]
    assert (differences(11) == (b - a) % 11).all()
    assert (products(11) == a * b % 11).all()


@every("q", [2, 5, 9, 16, 31, 64])
def test_logarithms_count_up_from_a_generator(q):
    log = logarithms(q)
    assert log[0] == -1
    assert sorted(log[1:]) == list(range(q - 1))
    a, b = np.ogrid[1:q, 1:q]
    assert (log[products(q)[1:, 1:]] == (log[a] + log[b]) % (q - 1)).all()


def test_primitive_root_is_the_smallest():
    assert [int(primitive_element(p).to_list()[0]) for p in (3, 5, 7, 23, 41)] == [2, 2, 3, 5, 6]


def test_prime_powers_by_trial():
    powers = {
        p**e: (p, e)
        for p in range(2, 1000)
        if all(p % r for r in range(2, p))
        for e in range(1, 10)
        if p**e < 1000
    }
    assert {q: prime_power(q) for q in range(-3, 1000) if is_prime_power(q)} == powers


# ---------------------------------------------------------------- repetition and coset graphs


@given(st.integers(1, 20), st.data())
def test_cyclic_holds_consecutive_subsets(n, data):
    delta = data.draw(st.integers(1, n))
    A = assignments.cyclic(n, delta)
    for i in range(n):
        assert set(np.flatnonzero(A[:, i])) == {(i + u) % n for u in range(delta)}


@given(st.integers(1, 6), st.integers(1, 6))
def test_groups_of_fractional_repetition_hold_the_same(groups, delta):
    A = assignments.fractional_repetition(groups * delta, delta)
    assert (A == np.kron(np.eye(groups), np.ones((delta, delta)))).all()


def test_uncoded_is_the_identity():
    assert (assignments.uncoded(4) == np.eye(4)).all()


@given(st.sampled_from([2, 3, 4, 5, 7, 8, 9, 11, 16, 25, 27]), st.integers(1, 4), st.data())
def test_coset_circulant_is_invertible(k, m, data):
    generators = tuple(data.draw(st.lists(st.integers(0, k - 1), min_size=1, unique=True)))
    delta = len(generators)
    assume(delta % prime_power(k)[0])
    A = assignments.coset(k, m, generators)
    for i, x in itertools.product(range(k), range(m * k)):
        # x is in i + b + H, H = {0, k, .., (m-1) k} in Z_mk
        holds = any((x - i - b) % (m * k) % k == 0 for b in generators)
        assert A[i, x] == holds
    C = A[:, :k]
    assert (A == np.tile(C, (1, m))).all()
    determinant = flint.fmpz_mat(C.tolist()).det()
    # modulo p a circulant of order p^a has the one eigenvalue delta
    p = prime_power(k)[0]
    assert int(determinant) % p == pow(delta, k, p) != 0
    assert assignments.parameters(A).coset == m


def test_without_its_condition_a_coset_circulant_may_be_singular():
    A = np.add.reduce([np.roll(np.eye(4), b, axis=1) for b in (0, 1)])
    assert np.linalg.matrix_rank(A) < 4
    assert assignments.parameters(A.astype(np.uint8)).coset is None


# ---------------------------------------------------------------- bi-regular graphs


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**40))
def test_biregular_has_both_degrees_and_no_repeated_edge(n, k, delta, seed):
    assume(delta <= k and n * delta % k == 0)
    A = assignments.biregular(n, k, delta, seed)
    # bytes of zeros and ones with these sums: n delta different edges
    assert A.max() == 1
    assert (A.sum(axis=0) == delta).all()
    assert (A.sum(axis=1) == n * delta // k).all()


def test_biregular_is_near_uniform_on_a_small_case():
    """All 90 matrices of order 4 with two ones in each row and column, equally often."""
    draws = 4500
    seen = {}
    for seed in range(draws):
        key = assignments.biregular(4, 4, 2, seed).tobytes()
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 90
    expected = draws / 90
    statistic = sum((count - expected) ** 2 / expected for count in seen.values())
    # 89 degrees of freedom: mean 89, standard deviation 13.3
    assert statistic < 89 + 3 * 13.3


def test_biregular_forgets_its_start():
    """At the size of the published experiment, overlaps are those of random pairs."""
    n, k, delta, draws = 40, 20, 3, 100
    start = np.zeros((k, n))
    start[(np.arange(n) * delta + np.arange(delta)[:, None]) % k, np.arange(n)] = 1
    overlap_with_start = neighbours = 0.0
    for seed in range(draws):
        A = assignments.biregular(n, k, delta, seed).astype(float)
        overlap_with_start += (A * start).sum() / draws
        neighbours += np.trace(A[:, :-1].T @ A[:, 1:]) / draws
    # an edge is there with probability delta / k, about independently
    mean, deviation = n * delta * delta / k, np.sqrt(n * delta * delta / k)
    assert abs(overlap_with_start - mean) < 4 * deviation / np.sqrt(draws)
    # two workers share (n delta / k)(gamma - 1)... on average: exact over all pairs
    gamma = n * delta // k
    shared = k * gamma * (gamma - 1) / (n * (n - 1))
    assert abs(neighbours - (n - 1) * shared) < 4 * np.sqrt((n - 1) * shared / draws)


# ---------------------------------------------------------------- reading a matrix


def test_parameters_of_a_design_do_not_depend_on_the_labels():
    rng = np.random.default_rng(1)
    A = assignments.affine_plane(4)
    shuffled = A[rng.permutation(20)][:, rng.permutation(16)]
    p = assignments.parameters(shuffled)
    assert (p.n, p.k, p.delta, p.gamma, p.lam, p.mu) == (16, 20, 5, 4, 1, None)
    assert (p.bibd, p.srg, p.coset) == (True, False, None)
    assert str(p) == "BIBD (n, k, gamma, delta, lambda) = (16, 20, 4, 5, 1)"


def test_a_graph_needs_its_labels():
    order = np.random.default_rng(2).permutation(10)
    A = assignments.petersen()
    p = assignments.parameters(A[order][:, order])
    assert (p.srg, p.bibd, p.delta, p.lam, p.mu) == (True, False, 3, 0, 1)
    assert str(p) == "SRG (n, delta, lambda, mu) = (10, 3, 0, 1)"
    q = assignments.parameters(A[order])
    assert (q.srg, q.bibd, q.delta, q.lam, q.mu) == (False, False, 3, None, None)
    assert str(q) == "bi-regular (n, k, delta, gamma) = (10, 10, 3, 3)"


def test_a_matrix_may_be_design_and_graph():
    p = assignments.parameters(assignments.shrikhande())
    assert p.bibd
    assert p.srg
    assert (p.lam, p.mu) == (2, 2)
    assert str(p) == (
        "BIBD (n, k, gamma, delta, lambda) = (16, 16, 6, 6, 2); "
        "SRG (n, delta, lambda, mu) = (16, 6, 2, 2)"
    )


def test_complete_and_empty_overlap_are_no_design_and_no_graph():
    full, identity = (assignments.parameters(M) for M in (np.ones((3, 3)), np.eye(3)))
    complete = assignments.parameters(1 - np.eye(4, dtype=np.uint8))
    assert not full.bibd
    assert not identity.bibd
    assert identity.lam == 0
    assert complete.bibd
    assert not complete.srg


def test_irregular_matrices_have_no_parameters():
    A = np.array([[1, 1, 1], [1, 0, 0]], dtype=np.uint8)
    p = assignments.parameters(A)
    assert (p.n, p.k, p.delta, p.gamma, p.lam, p.mu) == (3, 2, None, None, None, None)
    assert str(p) == "irregular (n, k, delta, gamma) = (3, 2, -, -)"
    # every two workers share one subset, but blocks differ: pairwise balanced, not a BIBD
    unequal = np.array([[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]], dtype=np.uint8)
    assert not assignments.parameters(unequal).bibd
    with pytest.raises(ValueError, match="zeros and ones"):
        assignments.parameters(2 * A)
