"""What the baselines promise, and the numbers that were measured of them."""

from contextlib import suppress
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from gcmpi import Code, assignments, bounds, encodings
from gcmpi.assignments import (
    bernoulli,
    circulant_edges,
    cyclic,
    expander,
    fractional_repetition,
    graph_edges,
    is_ramanujan,
    pairwise_balanced,
    petersen,
    projective_plane,
    random_replication,
    regularised_bernoulli,
    second_eigenvalue,
    steiner_triple,
    stochastic_block,
    uncoded,
)
from gcmpi.codes.assignments import expanders
from gcmpi.codes.encodings.communication_efficient import generator, points
from gcmpi.decoders import vandermonde
from gcmpi.errors import condition_number, rounding
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Spec
from tests.every import every
from tests.lazily import Lazily

nx = Lazily("networkx")

SMALL = 9


def make(encoding, A, m, seed=0):
    return Code(A, ENCODINGS.build(encoding, A=A, m=m, rng=np.random.default_rng(seed)), m)


def masks(n, s, limit=None, seed=0):
    """All sets of n - s survivors, or `limit` random ones."""
    if limit is None:
        chosen = list(combinations(range(n), s))
    else:
        rng = np.random.default_rng(seed)
        chosen = [rng.permutation(n)[:s] for _ in range(limit)]
    survivors = np.ones((len(chosen), n), dtype=bool)
    for row, stragglers in zip(survivors, chosen, strict=True):
        row[list(stragglers)] = False
    return survivors


# ---------------------------------------------------------------- exact for every set of gamma - m


@cache
def tolerant():
    """Return the small codes that promise to be exact, by name."""
    specs = [Spec(p.name, o) for p in ENCODINGS if p.promises.tolerant for o in p.examples]
    found = {}
    for assignment in (Spec(p.name, o) for p in ASSIGNMENTS for o in p.examples):
        A = ASSIGNMENTS.build(assignment)
        if A.shape[1] > SMALL:
            continue
        for spec in specs:
            for m in (1, 2, 3):
                with suppress(ValueError):
                    found[f"{assignment} + {spec}, m={m}"] = make(spec, A, m)
    return found


def test_every_exact_code_is_in_some_case_with_stragglers():
    names = {
        name.split(" + ")[1].partition(",")[0].partition(":")[0]
        for name, code in tolerant().items()
        if code.gamma > code.m
    }
    assert names == {p.name for p in ENCODINGS if p.promises.tolerant} - {"uncoded"}


@every("code", tolerant)
def test_exact_codes_survive_every_set_of_gamma_minus_m_and_no_code_survives_more(code):
    s = code.gamma - code.m
    for survivors in masks(code.n, s):
        assert code.error(survivors) < 1e-9 * code.m * code.k
    j = code.A.sum(axis=1, dtype=int).argmin()
    survivors = np.ones(code.n, dtype=bool)
    survivors[np.flatnonzero(code.A[j])[: s + 1]] = False
    assert code.error(survivors) > 0.1  # a part of subset j is on fewer than m workers


LARGE = {
    "fractional-repetition": ("fractional-repetition:n=91,delta=7", 1),
    "erasurehead": ("fractional-repetition:n=91,delta=13", 1),
    "cyclic-repetition": ("cyclic:n=91,delta=21", 1),
    "cyclic-mds": ("cyclic:n=91,delta=21", 1),
    "gaussian-exact": ("projective-plane:order=9", 2),
    "block-mds": ("fractional-repetition:n=91,delta=13", 3),
}


@every("name, code", LARGE.items())
def test_exact_over_a_thousand_sets_of_91_workers(name, code):
    assignment, m = code
    code = make(name, ASSIGNMENTS.build(assignment), m)
    worst = max(code.error(S) for S in masks(91, code.gamma - m, limit=1000))
    assert worst < 1e-9 * m * 91


def test_large_cases_are_all_but_those_that_cannot_be():
    exact = {p.name for p in ENCODINGS if p.promises.tolerant}
    assert {"uncoded", "ye-abbe"} == exact - LARGE.keys()


# ---------------------------------------------------------------- m = 1


def test_fractional_repetition_loses_the_silent_groups_and_is_best_on_average():
    code = make("fractional-repetition", fractional_repetition(8, 2), 1)
    for s in range(9):
        found = [code.error(S) for S in masks(8, s)]
        lost = [2 * (~S).reshape(4, 2).all(axis=1).sum() for S in masks(8, s)]
        assert found == pytest.approx(lost, abs=1e-9)
        assert np.mean(found) == pytest.approx(bounds.holder_bound(code.A, 1, s))
        assert max(found) == pytest.approx(bounds.blocks(code.A, 1, s))


def test_cyclic_repetition_is_tandons_construction():
    n, s = 9, 3
    B = encodings.cyclic_repetition(cyclic(n, s + 1), 1, np.random.default_rng(5), draws=1)
    assert (np.diagonal(B) == 1).all()
    # the first draw of the generator is H; its rows are made to add up to zero
    H = np.random.default_rng(5).standard_normal((s, n))
    H[:, -1] = -H[:, :-1].sum(axis=1)
    assert np.allclose(H @ B, 0, atol=1e-10)
    assert np.linalg.matrix_rank(B) == n - s


def test_more_draws_are_better_conditioned():
    A = cyclic(31, 6)
    rank = 31 - 5
    for build in (encodings.cyclic_repetition, encodings.gaussian_exact):
        one, many = (
            encodings.condition_number(build(A, 1, np.random.default_rng(1), draws=draws), rank)
            for draws in (1, 10)
        )
        assert many < one


@every("n, delta", [(5, 1), (9, 3), (10, 4), (12, 2), (31, 7), (91, 21)])
def test_cyclic_mds_coefficients_vanish_at_the_centred_zeros_only(n, delta):
    B = encodings.cyclic_mds(cyclic(n, delta), 1)
    c = B[:, 0]
    assert np.allclose(B, np.stack([np.roll(c, i) for i in range(n)], axis=1))
    assert np.allclose(B.sum(axis=1), 1)  # the sum of all messages is the gradient
    s = delta - 1
    w = np.exp(2j * np.pi * np.arange(n) / n)
    zeros = w[(n - s + 1) // 2 : (n + s - 1) // 2 + 1]
    assert len(zeros) == s
    assert np.allclose(zeros, zeros[::-1].conj())
    values = np.prod((w[:, None] - zeros) / (1 - zeros), axis=1)
    assert np.allclose(np.fft.ifft(c) * n, values, rtol=1e-6, atol=1e-12)
    assert np.count_nonzero(values) == n - s


def test_cyclic_mds_is_unbiased():
    code = make("cyclic-mds", cyclic(7, 3), 1)
    for s in range(7):
        decoded = [code.B @ code.decode(S) for S in masks(7, s)]
        mean = np.mean(decoded, axis=0)
        assert np.allclose(mean, mean[0], atol=1e-10)
        assert mean[0] == pytest.approx(1) if s <= 2 else mean[0] < 1


# ---------------------------------------------------------------- m > 1


@every("order", ["alternating", "ascending"])
@every("n, delta, m", [(5, 3, 2), (6, 4, 3), (7, 3, 1), (4, 4, 4)])
def test_ye_abbe_messages_are_values_of_a_polynomial_with_the_parts_on_top(n, delta, m, order):
    """By exact interpolation: rational points, whole gradients."""
    from fractions import Fraction

    A = cyclic(n, delta)
    B = encodings.ye_abbe(A, m, order).reshape(m, n, n)
    theta = [Fraction(x) for x in points(n, order).tolist()]
    assert len(set(theta)) == n
    for j in range(n):
        for u in range(m):
            # the polynomial of degree < n - s through all n values, by Newton's differences
            values = [Fraction(x).limit_denominator(2**40) for x in B[u, j].tolist()]
            assert not any(values[i] for i in range(n) if not A[j, i])
            newton = list(values)
            for step in range(1, n):
                for i in reversed(range(step, n)):
                    newton[i] = (newton[i] - newton[i - 1]) / (theta[i] - theta[i - step])
            power = [Fraction(0)] * n
            for i in reversed(range(n)):
                power = [(power[c - 1] if c else newton[i]) - theta[i] * power[c] for c in range(n)]
            top = n - delta + m
            assert power[n - delta : top] == [int(u == v) for v in range(m)]
            assert not any(power[top:])


def test_points_of_ye_and_abbe():
    assert points(5).tolist() == [0, 1, -1, 1.5, -1.5]
    assert points(6, "ascending").tolist() == [-2, -1.5, -1, 1, 1.5, 2]


def test_gaussian_code_is_a_product_with_the_target_at_the_end():
    """B = C V for a Gaussian V of n - s rows, so its rank is n - s, and B R = F."""
    A = assignments.affine_plane(3)  # gamma = 3, n = 9
    for m in (1, 2, 3):
        code = make("gaussian-exact", A, m)
        s = 3 - m
        assert np.linalg.matrix_rank(code.B) == 9 - s
        rows = np.linalg.svd(code.B)[2][: 9 - s]  # a basis of the rows of V
        for survivors in masks(9, s):
            C = code.B[:, survivors] @ np.linalg.inv(rows[:, survivors])
            assert np.allclose(C @ rows, code.B)


@every("m", [1, 2, 3, 4, 5])
def test_any_m_rows_of_the_generator_are_independent(m):
    for size in range(m, 9):
        G = generator(size, m)
        assert G.shape == (size, m)
        assert np.allclose(G.T @ G, size * np.eye(m))
        for rows in combinations(range(size), m):
            assert abs(np.linalg.det(G[list(rows)])) > 1e-6


def test_block_mds_loses_by_groups():
    code = make("block-mds", fractional_repetition(8, 4), 2)
    for s in range(9):
        found = [code.error(S) for S in masks(8, s)]
        left = [S.reshape(2, 4).sum(axis=1) for S in masks(8, s)]
        assert found == pytest.approx([4 * np.maximum(2 - h, 0).sum() for h in left], abs=1e-9)
        assert max(found) == pytest.approx(bounds.blocks(code.A, 2, s), abs=1e-9)


# ---------------------------------------------------------------- bounds


@every(
    "A, m, encoding, name",
    [
        (fractional_repetition(8, 4), 1, "fractional-repetition", "worst case of groups"),
        (fractional_repetition(8, 4), 2, "block-mds", "worst case of groups"),
        (fractional_repetition(8, 4)[:, :7], 2, "block-mds", "exact up to gamma - m"),
        (cyclic(7, 3), 1, "cyclic-mds", "exact up to gamma - m"),
        (cyclic(7, 3), 2, "ye-abbe", "exact up to gamma - m"),
        (steiner_triple(9), 2, "gaussian-exact", "exact up to gamma - m"),
        (projective_plane(2), 1, "bibd", "exact for a BIBD"),
        (petersen(), 1, "expander", "expander bound"),
        (graph_edges(6, 3), 1, "graph-assignment", "expander bound"),
        (cyclic(7, 3), 1, "bgc", "expander bound"),
        (bernoulli(8, 8, 3), 1, "bgc", None),
        (petersen(), 1, "sgc", None),
    ],
)
def test_the_theorem_of_each_baseline(A, m, encoding, name):
    code = make(encoding, A, m)
    theorem = bounds.closed_form(A, m, Spec(encoding))
    assert (theorem.name if theorem else None) == name
    for s in range(code.n + 1) if theorem else ():
        worst = max(code.error(S) for S in masks(code.n, s, limit=40))
        assert worst <= theorem.bound(s) + 1e-9


def test_the_bound_of_exact_codes_ends_where_exactness_does():
    A = cyclic(7, 4)
    assert [bounds.tolerant(A, 2, s) for s in range(8)] == [0, 0, 0, 14, 14, 14, 14, 14]


# ---------------------------------------------------------------- assignments


def test_bernoulli_has_its_mean_load_and_no_orphan():
    loads = np.array([bernoulli(40, 50, 6, seed).sum(axis=0) for seed in range(40)])
    assert abs(loads.mean() - 6) < 5 * np.sqrt(6 * 44 / 50 / loads.size)
    assert abs(loads.var() - 6 * 44 / 50) < 0.7
    for n, k in ((3, 30), (30, 3)):  # most rows or columns come out empty at first
        sparse = bernoulli(n, k, 1)
        assert sparse.any(axis=1).all()
        assert sparse.any(axis=0).all()


def test_regularised_bernoulli_drops_edges_of_loaded_workers_only():
    dropped = 0
    for seed in range(20):
        before, after = bernoulli(30, 60, 2, seed), regularised_bernoulli(30, 60, 2, seed)
        assert after.any(axis=1).all()
        over = before.sum(axis=0) > 4
        dropped += over.sum()
        moved = ((after == 1) & (before == 0)).any(axis=1)
        kept = ~moved
        assert (after[kept] <= before[kept]).all()
        assert (after.sum(axis=0)[over] == 4).all()
        assert (before[kept][:, ~over] == after[kept][:, ~over]).all()
    assert dropped > 10


def test_stochastic_block_between_repetition_and_noise():
    assert np.array_equal(stochastic_block(12, 3, 1.0, 0.0), fractional_repetition(12, 3))
    A = sum(stochastic_block(20, 5, 0.8, 0.1, seed).astype(int) for seed in range(100)) / 100
    inside = np.kron(np.eye(4), np.ones((5, 5))) == 1
    assert abs(A[inside].mean() - 0.8) < 0.02
    assert abs(A[~inside].mean() - 0.1) < 0.02


def test_random_replication_leaves_nobody_idle():
    for seed in range(20):
        A = random_replication(12, 6, 2, seed)
        assert (A.sum(axis=0) == 1).all()  # k gamma = n
        assert (A.sum(axis=1) == 2).all()


def test_random_replication_is_pairwise_balanced_on_average():
    shared = np.zeros((20, 20))
    for seed in range(400):
        A = random_replication(10, 20, 4, seed).astype(float)
        assert (A.sum(axis=1) == 4).all()
        shared += A @ A.T / 400
    assert np.abs(shared[~np.eye(20, dtype=bool)] - 1.6).max() < 0.2


@every("dimension, order", [(3, 2), (3, 3), (3, 4), (5, 2)])
def test_pairwise_balanced_is(dimension, order):
    A = pairwise_balanced(dimension, order, seed=1).astype(int)
    k, n = A.shape
    assert (k, n) == ((order**dimension - 1) // (order - 1), order**dimension)
    gamma = order ** (dimension - 1)
    shared = A @ A.T
    assert (np.diagonal(shared) == gamma).all()
    assert (shared[~np.eye(k, dtype=bool)] * n == gamma * gamma).all()


@every("n, delta", [(4, 3), (10, 3), (31, 6), (32, 5), (60, 7), (91, 10)])
def test_expanders_are_ramanujan(n, delta):
    A = expander(n, delta)
    assert (A == A.T).all()
    assert not A.diagonal().any()
    assert (A.sum(axis=0, dtype=int) == delta).all()
    assert nx.is_connected(nx.from_numpy_array(A))
    values = sorted(np.abs(np.linalg.eigvalsh(A.astype(float))))
    assert second_eigenvalue(A) == pytest.approx(values[-2])
    assert values[-2] <= 2 * np.sqrt(delta - 1) + 1e-9
    assert not np.array_equal(A, expander(n, delta, seed=1)) or n == 4


def test_ramanujan_can_say_no():
    assert is_ramanujan(petersen())
    ring = cyclic(30, 2) + cyclic(30, 2).T - 2 * np.eye(30, dtype=np.uint8)
    ladder = np.kron(np.eye(2, dtype=np.uint8), ring) + np.kron(
        np.array([[0, 1], [1, 0]], dtype=np.uint8), np.eye(30, dtype=np.uint8)
    )
    assert not is_ramanujan(ladder)  # a prism over a ring, degree 3


def test_edges_of_graphs():
    A = graph_edges(10, 4).astype(int)
    assert A.shape == (10, 20)
    assert np.array_equal(A @ A.T - 4 * np.eye(10), expander(10, 4))
    B = circulant_edges(9, (1, 3)).astype(int)
    graph = nx.from_numpy_array(B @ B.T - 4 * np.eye(9, dtype=int))
    assert nx.is_isomorphic(graph, nx.circulant_graph(9, [1, 3]))
    assert second_eigenvalue(np.ones((1, 1))) == 0


# ---------------------------------------------------------------- refusals

R = np.random.default_rng(0)
REFUSED = {
    "bgc:": (lambda: encodings.bernoulli_code(projective_plane(2), 2), "needs m=1, not m=2"),
    "cyclic": (
        lambda: encodings.cyclic_repetition(projective_plane(2), 1, R),
        "encoding cyclic-repetition .*--assignment cyclic:n=7,delta=3",
    ),
    "draws": (lambda: encodings.cyclic_repetition(cyclic(5, 2), 1, R, 0), "draws at least 1"),
    "gaussian draws": (
        lambda: encodings.gaussian_exact(cyclic(5, 2), 1, R, 0),
        "draws at least 1, not draws=0",
    ),
    "parity": (
        lambda: encodings.cyclic_mds(cyclic(10, 3), 1),
        "nearest possible: delta=2 or 4, --assignment cyclic:n=10,delta=4",
    ),
    "ye-abbe m": (lambda: encodings.ye_abbe(cyclic(7, 3), 4), "at least m=4 workers.*use m <= 3"),
    "ye-abbe n": (lambda: encodings.ye_abbe(cyclic(200, 4), 2), "overflow.*n=200.*gaussian-exact"),
    "gaussian": (
        lambda: encodings.gaussian_exact(steiner_triple(7), 4, R),
        "subset 0 is on 3: use m <= 3",
    ),
    "block": (
        lambda: encodings.block_mds(cyclic(31, 4), 2),
        "encoding block-mds needs workers in groups.*groups:n=31,c=7, or",
    ),
    "block m": (lambda: encodings.block_mds(fractional_repetition(6, 2), 3), "use m <= 2"),
    "groups": (
        lambda: encodings.fractional_repetition(assignments.affine_plane(3), 1),
        "--assignment groups:n=9,c=3,",
    ),
    "erasurehead": (
        lambda: encodings.erasurehead(cyclic(6, 2), 1),
        "encoding erasurehead .*--assignment groups:n=6,c=3,",
    ),
    "bibd": (lambda: encodings.design_code(petersen(), 1), "find --workers 10"),
    "expander": (
        lambda: encodings.expander_code(cyclic(7, 3), 1),
        "--assignment expander:n=7,delta=4",
    ),
    "graph": (lambda: encodings.graph_code(uncoded(3), 1), "two subsets on every worker, not 1"),
    "sgc": (lambda: encodings.stochastic_code(uncoded(3), 1, 1.0), r"q in \[0, 1\), not q=1"),
    "bernoulli": (lambda: bernoulli(5, 5, 6), "nearest possible: delta=5"),
    "bernoulli n": (lambda: bernoulli(0, 5, 2), "n and k at least 1"),
    "rbgc": (lambda: regularised_bernoulli(3, 9, 2), "nearest possible: delta=3"),
    "sbm": (lambda: stochastic_block(10, 4, 0.5, 0.1), "nearest possible: size=2 or 5"),
    "sbm p": (lambda: stochastic_block(10, 5, 0.0, 0.1), "0 < inside <= 1"),
    "sbm n": (lambda: stochastic_block(0, 5, 0.5, 0.1), "n at least 1"),
    "replication": (lambda: random_replication(4, 4, 5), "nearest possible: gamma=4"),
    "replication k": (lambda: random_replication(9, 2, 3), "nearest possible: gamma=5"),
    "replication n": (lambda: random_replication(0, 4, 5), "n and k at least 1"),
    "balanced": (lambda: pairwise_balanced(3, 6), "nearest possible: order=5 or 7"),
    "balanced line": (lambda: pairwise_balanced(2, 5), "dimension at least 3"),
    "expander odd": (lambda: expander(31, 5), "nearest possible: delta=4 or 6"),
    "expander seed": (lambda: expander(31, 4, -1), "seed at least 0"),
    "edges": (lambda: graph_edges(5, 3), "nearest possible: degree=4"),
    "circulant": (lambda: circulant_edges(6, (1, 3)), r"generators in 1\.\.2"),
}


@every("build, message", REFUSED)
def test_refusals_say_what_is_possible(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_search_without_a_ramanujan_graph_says_so(monkeypatch):
    monkeypatch.setattr(expanders, "is_ramanujan", lambda _: False)
    monkeypatch.setattr(expanders, "DRAWS", 3)
    with pytest.raises(ValueError, match="no Ramanujan graph among 3 random ones"):
        expander(10, 3)


@every("what", [c for c in REFUSED.values() if "--assignment" in c[1]])
def test_what_a_refusal_says_to_type_can_be_built(what):
    with pytest.raises(ValueError, match=what[1]) as error:
        what[0]()
    encoding = str(error.value).split()[1]
    assignment = str(error.value).split("--assignment ")[1].split()[0].rstrip(";,")
    make(encoding, ASSIGNMENTS.build(assignment), 1)


# ---------------------------------------------------------------- measured


def measure(code, decoder=Code.decode, s=None, sets=100):
    s = code.gamma - code.m if s is None else s
    return rounding(code, decoder, s, np.random.default_rng(1), sets=sets)


@pytest.mark.parametrize(("n", "expected"), [(10, 6e-14), (20, 4e-10), (30, 2e-5)])
def test_ye_abbe_loses_its_digits(n, expected):
    code = Code(cyclic(n, 4), encodings.ye_abbe(cyclic(n, 4), 2, "ascending"), 2)
    found = np.median(measure(code, vandermonde).errors["float64"])
    assert expected / 10 < found < 10 * expected


@pytest.mark.parametrize("order", ["ascending", "alternating"])
def test_ye_abbe_is_useless_at_40_workers(order):
    code = Code(cyclic(40, 4), encodings.ye_abbe(cyclic(40, 4), 2, order), 2)
    found = measure(code, vandermonde)
    assert np.median(found.errors["float64"]) > 0.01
    assert found.errors["float64"].max() > 1
    # it is the decoder of the source: the code has some digits left
    assert np.isinf(np.median(found.gain))
    assert np.isfinite(np.median(found.condition))
    assert np.median(measure(code).errors["float64"]) < 1e-5


def test_ye_abbe_with_short_messages():
    errors = {
        order: np.median(measure(code, vandermonde).errors["float32"])
        for order in ("ascending", "alternating")
        for code in [Code(cyclic(20, 4), encodings.ye_abbe(cyclic(20, 4), 2, order), 2)]
    }
    assert 6e-6 < errors["ascending"] < 6e-4  # 6e-5 was measured
    assert errors["alternating"] < errors["ascending"] / 10


def test_cyclic_repetition_at_91_workers():
    A = cyclic(91, 21)
    best = measure(make("cyclic-repetition", A, 1), sets=200).errors["float64"]
    assert np.median(best) < 1e-11
    assert best.max() < 1e-8
    single = [measure(make("cyclic-repetition:draws=1", A, 1, i), sets=50) for i in range(6)]
    medians = [np.median(x.errors["float64"]) for x in single]
    assert max(medians) > 1e-12  # some draws are bad
    assert max(medians) > 10 * np.median(best)


def test_cyclic_repetition_at_10_workers():
    found = measure(make("cyclic-repetition", cyclic(10, 4), 1)).errors["float64"]
    assert np.median(found) < 1e-13


def test_centred_zeros_are_what_makes_cyclic_mds_work():
    n, s = 91, 20
    code = make("cyclic-mds", cyclic(n, s + 1), 1)
    found = np.median(measure(code).errors["float64"])
    assert found < 1e-11
    # zeros w^1 .. w^s: complex coefficients
    c = np.poly(np.exp(2j * np.pi * np.arange(1, s + 1) / n))
    B = np.zeros((n, n), dtype=complex)
    for i in range(n):
        B[(i + np.arange(s + 1)) % n, i] = c
    residuals = []
    for S in masks(n, s, limit=30):
        x = np.linalg.lstsq(B[:, S], np.ones(n), rcond=None)[0]
        residuals.append(np.abs(B[:, S] @ x - 1).max())
    assert np.median(residuals) > 1e-5  # 9e-3 was measured
    assert np.median(residuals) > 1e6 * found


def test_gaussian_code_at_91_workers():
    found = measure(make("gaussian-exact", projective_plane(9), 2))
    assert np.median(found.errors["float64"]) < 1e-11  # 6e-13 was measured
    assert found.errors["float64"].max() < 1e-9


@pytest.mark.parametrize("n", [40, 240])
def test_block_codes_are_stable_for_all_sizes(n):
    code = make("block-mds", fractional_repetition(n, 10), 2)
    found = measure(code, sets=20)
    assert found.errors["float64"].max() < 1e-14
    assert found.condition.max() < 25
    worst = [np.linalg.cond(generator(10, 2)[[0, i]]) for i in range(1, 10)]
    assert max(worst) < 25


# ---------------------------------------------------------------- rounding


def test_rounding_of_a_code_that_is_known():
    """Uncoded: the messages are the gradients, R is 1, so the gain is 1."""
    code = Code(uncoded(6), encodings.uncoded(uncoded(6), 1), 1)
    found = rounding(code, Code.decode, 0, np.random.default_rng(0), sets=40)
    assert found.condition == pytest.approx(1)
    assert found.gain == pytest.approx(1)
    assert found.errors["float64"].max() < 1e-15
    for wire in ("float32", "float16"):
        eps = np.finfo(wire).eps
        assert 0.05 * eps < np.median(found.errors[wire]) < eps


def test_gain_predicts_the_loss_of_digits():
    code = make("gaussian-exact", cyclic(20, 4), 2)
    found = measure(code)
    ratio = found.errors["float32"] / found.gain / np.finfo("float32").eps
    assert 0.05 < np.median(ratio) < 1


def test_gain_and_condition_do_not_depend_on_the_size_of_columns():
    code = make("gaussian-exact", cyclic(11, 4), 2)
    scaled = Code(code.A, code.B * 2.0 ** np.arange(11), 2)
    one, other = measure(code), measure(scaled)
    assert one.gain == pytest.approx(other.gain)
    assert one.condition == pytest.approx(other.condition)


def test_condition_number_leaves_the_null_space_out():
    code = Code(fractional_repetition(6, 3), np.kron(np.eye(2), np.ones((3, 3))), 1)
    everybody = np.ones(6, dtype=bool)
    assert condition_number(code, everybody) == pytest.approx(1)
    with_idle = Code(code.A, code.B * (np.arange(6) > 0), 1)
    assert condition_number(with_idle, everybody) == pytest.approx(np.sqrt(3 / 2))


def test_messages_too_large_for_the_wire_are_lost():
    code = Code(uncoded(3), 1e60 * np.eye(3), 1)
    found = rounding(code, Code.decode, 0, np.random.default_rng(0), sets=2)
    assert np.isinf(found.errors["float32"]).all()
    assert found.errors["float64"].max() < 1e-15
    assert found.errors["float16"].max() < 1e-3  # has a scale of its own


@pytest.mark.parametrize(("s", "sets"), [(-1, 1), (3, 1), (0, 0)])
def test_rounding_refuses(s, sets):
    code = Code(uncoded(3), np.eye(3), 1)
    with pytest.raises(ValueError, match=r"needs s in 0\.\.2"):
        rounding(code, Code.decode, s, np.random.default_rng(0), sets=sets)
