"""The error engine against one least-squares solve a set, and statistics against exact values."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcmpi import Code, bounds, errors, seeds
from gcmpi.assignments import (
    biregular,
    coset,
    cyclic,
    fractional_repetition,
    projective_plane,
    uncoded,
)
from gcmpi.codes.decoders.least_squares import ridge
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.errors import engine as engine_module
from gcmpi.encodings import random_diagonal, random_hadamard, stacked
from gcmpi.errors import ErrorEngine, target
from tests.every import every

PLANE, COSET = projective_plane(3), coset(9, 2, (0, 1, 3, 4))
GRAPH, GROUPS = biregular(20, 10, 3), fractional_repetition(8, 4)


def tight(A, rng):
    """Columns i and i + 1 the same but for 1e-4: too close for the Gram matrix alone."""
    B = random_diagonal(A, 2, rng)
    A[:, 1], B[:, 1] = A[:, 0], B[:, 0] * (1 + 1e-4 * rng.standard_normal(len(B)))
    return A, B, 2


def matrices():
    rng = np.random.default_rng(0)
    yield "plane, random diagonal", PLANE, random_diagonal(PLANE, 2, rng), 2
    yield "plane, one part", PLANE, random_diagonal(PLANE, 1, rng, 0.5), 1
    yield "coset, invertible", COSET, random_diagonal(COSET, 2, rng, 0.1), 2
    yield "coset, stacked: rank k of 2 k", COSET, stacked(COSET, 2), 2
    yield "coset, more workers than parts", COSET, stacked(COSET, 1), 1
    yield "Hadamard", GRAPH, random_hadamard(GRAPH, 2, rng), 2
    yield "Hadamard of signs", GRAPH, random_hadamard(GRAPH, 2, rng, "signs"), 2
    yield (
        "repeated columns",
        fractional_repetition(8, 4),
        stacked(fractional_repetition(8, 4), 2),
        2,
    )
    yield "rank one", np.ones((5, 9)), np.ones((10, 9)), 2
    yield "no code", uncoded(7), stacked(uncoded(7), 1), 1
    yield "an idle worker", PLANE, stacked(PLANE, 2) * (np.arange(13) > 0), 2
    yield "columns from 1e-4 to 1e4", PLANE, stacked(PLANE, 2) * np.logspace(-4, 4, 13), 2
    yield "nothing is sent", PLANE, np.zeros((26, 13)), 2
    yield "nearly equal columns", *tight(PLANE.copy(), rng)
    yield "singular but for 1e-5", COSET, random_diagonal(COSET, 2, rng, 1e-5), 2


@cache
def codes():
    return {name: Code(A, B, m) for name, A, B, m in matrices()}


every_code = every("code", codes)


def engine_of(code):
    return ErrorEngine(code.B, target(code.B, code.m))


@every_code
def test_engine_agrees_with_least_squares(code):
    engine, rng = engine_of(code), np.random.default_rng(1)
    order = errors.orders(code.n, 12, rng)
    everything = engine.nested(order, range(code.n + 1))
    few = engine.nested(order, range(code.n // 2 + 1))  # by removal, if well conditioned
    assert everything.shape == (12, code.n + 1)
    for i, s in itertools.product(range(12), range(code.n + 1)):
        survivors = ~np.isin(np.arange(code.n), order[i, :s])
        exact = code.error(survivors)
        assert everything[i, s] == pytest.approx(exact, abs=1e-9)
        if s < few.shape[1]:
            assert few[i, s] == pytest.approx(exact, abs=1e-9)
    masks = rng.random((12, code.n)) < 0.6
    assert engine.errors(masks) == pytest.approx([code.error(mask) for mask in masks], abs=1e-9)


@every_code
def test_counts_may_differ_between_sets_and_be_in_any_order(code):
    engine, rng = engine_of(code), np.random.default_rng(2)
    order = errors.orders(code.n, 5, rng)
    counts = rng.integers(code.n + 1, size=(5, 4))
    table = engine.nested(order, range(code.n + 1))
    picked = np.take_along_axis(table, counts, axis=1)
    assert engine.nested(order, counts) == pytest.approx(picked, abs=1e-9)
    assert engine.nested(order, [0]) == pytest.approx(table[:, :1], abs=1e-9)
    assert engine.nested(order, []).shape == (5, 0)


def test_memory_is_bounded_by_chunks(monkeypatch):
    code, rng = codes()["coset, invertible"], np.random.default_rng(3)
    order = errors.orders(code.n, 40, rng)
    whole = engine_of(code).nested(order, range(19))
    sizes, cholesky = [], np.linalg.cholesky
    monkeypatch.setattr(engine_module, "CHUNK", 2000)
    monkeypatch.setattr(np.linalg, "cholesky", lambda M: sizes.append(M.size) or cholesky(M))
    assert np.allclose(engine_of(code).nested(order, range(19)), whole)
    assert max(sizes) <= 2000
    assert len(sizes) > 5


def test_doubtful_sets_are_solved_one_by_one(monkeypatch):
    code, solved, lstsq = codes()["nearly equal columns"], [], np.linalg.lstsq
    masks = np.random.default_rng(4).random((30, code.n)) < 0.8
    expected = [code.error(mask) for mask in masks]
    monkeypatch.setattr(engine_module, "INDEPENDENT", 1e-3)
    monkeypatch.setattr(
        np.linalg, "lstsq", lambda B, *a, **more: solved.append(B) or lstsq(B, *a, **more)
    )
    assert engine_of(code).errors(masks) == pytest.approx(expected, abs=1e-10)
    first = code.B[:, 0] / np.linalg.norm(code.B[:, 0])
    assert solved
    assert all((first @ B > 1 - 1e-3).sum() == 2 for B in solved)  # workers 0 and 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3), st.integers(0, 10_000))
def test_engine_agrees_on_small_whole_numbers(k, n, m, seed):
    """Matrices of few different entries are rank deficient in every possible way."""
    rng = np.random.default_rng(seed)
    B = rng.integers(-1, 2, size=(m * k, n)).astype(float)
    code = Code(np.ones((k, n)), B, m)
    order = errors.orders(n, 4, rng)
    found = engine_of(code).nested(order, range(n + 1))
    for i, s in itertools.product(range(4), range(n + 1)):
        survivors = ~np.isin(np.arange(n), order[i, :s])
        assert found[i, s] == pytest.approx(code.error(survivors), abs=1e-9)


def test_engine_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="equally many rows, not 4 and 6"):
        ErrorEngine(np.ones((4, 3)), np.ones((6, 1)))
    with pytest.raises(ValueError, match="a multiple of m=3, not 4"):
        target(np.ones((4, 3)), 3)


# statistics


def fixed(B):
    return lambda rng: B


def test_exhaustive_looks_at_every_set_once():
    code = codes()["plane, random diagonal"]
    every = errors.exhaustive(engine_of(code), 2)
    expected = [
        code.error(~np.isin(np.arange(13), pair)) for pair in itertools.combinations(range(13), 2)
    ]
    assert every == pytest.approx(expected, abs=1e-9)


def test_summary_of_all_sets_is_exact():
    """k/n of the gradient without a code: s subsets are lost, whichever."""
    found = errors.sample(
        fixed(np.eye(6)), 1, [0, 2, 6], np.random.default_rng(0), draws=1, sets=20
    )
    for s, x in zip([0, 2, 6], found, strict=True):
        assert (x.mean, x.maximum, x.stderr) == pytest.approx((s, s, 0), abs=1e-12)
        assert x.exhaustive
        assert x.quantiles == tuple((p, pytest.approx(s)) for p in (0.5, 0.9, 0.99))


def test_random_sets_estimate_the_mean_over_all_sets():
    code = codes()["Hadamard"]
    exact = errors.exhaustive(engine_of(code), 4).mean()
    random = errors.sample(
        fixed(code.B), 2, [4], np.random.default_rng(5), draws=1, sets=math.comb(20, 4) - 1
    )[0]
    assert not random.exhaustive
    assert abs(random.mean - exact) < 4 * random.stderr
    assert random.stderr < 0.05 * exact


def test_standard_error_counts_encodings_not_sets():
    """All sets of one encoding share its luck: at s = 0 there is but one set."""
    rng = np.random.default_rng(6)

    def draw(rng):
        return random_diagonal(PLANE, 2, rng)

    x = errors.sample(draw, 2, [0], rng, draws=50, sets=1000)[0]
    everybody = np.ones(13, dtype=bool)
    draws_rng = np.random.default_rng(6).spawn(2)[0]
    values = [Code(PLANE, draw(draws_rng), 2).error(everybody) for _ in range(50)]
    assert x.mean == pytest.approx(np.mean(values))
    assert x.stderr == pytest.approx(np.std(values, ddof=1) / np.sqrt(50))
    assert x.maximum == pytest.approx(max(values))


def test_standard_errors_are_honest():
    """The means of 200 samples deviate from the exact mean by their standard error."""
    code = codes()["Hadamard"]
    exact = errors.exhaustive(engine_of(code), 5).mean()
    found = [
        errors.sample(fixed(code.B), 2, [5], np.random.default_rng(i), draws=4, sets=50)[0]
        for i in range(200)
    ]
    deviations = np.array([(x.mean - exact) / x.stderr for x in found])
    # Student's t with three degrees of freedom: 95% are below 3.18
    assert 0.9 < np.mean(np.abs(deviations) < 3.18) < 0.99


def test_bernoulli_is_the_binomial_mixture_of_the_fixed_sizes():
    code, q = codes()["plane, one part"], 0.3
    exact = sum(
        math.comb(13, s) * q**s * (1 - q) ** (13 - s) * errors.exhaustive(engine_of(code), s).mean()
        for s in range(14)
    )
    for chance in (q, np.full(13, q)):
        x = errors.sample_bernoulli(
            fixed(code.B), 1, chance, np.random.default_rng(7), draws=1, sets=5000
        )
        assert abs(x.mean - exact) < 4 * x.stderr
        assert x.stderr < 0.02 * exact
    lost = np.where(np.arange(13) < 2, 1.0, 0.0)  # two workers always straggle
    x = errors.sample_bernoulli(fixed(code.B), 1, lost, np.random.default_rng(7), draws=1, sets=3)
    assert x.mean == pytest.approx(code.error(lost == 0))
    assert x.maximum == pytest.approx(x.mean)


def test_the_sets_do_not_depend_on_the_code():
    """Without weights a worker that answers is lost too: the means count how often it answers."""

    def answered(*idle):
        B = np.diag(~np.isin(np.arange(9), idle)).astype(float)
        found = errors.sample(fixed(B), 1, [3], np.random.default_rng(8), draws=3, sets=40)
        return found[0].mean - 3

    assert 0 < answered(0) != answered(2) > 0
    assert answered(0, 2) == pytest.approx(answered(0) + answered(2))


def test_progress_is_told():
    told = []
    errors.sample(
        fixed(np.eye(3)),
        1,
        [1],
        np.random.default_rng(0),
        draws=3,
        sets=1,
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("counts", "draws", "sets", "message"),
    [
        ([4], 1, 1, r"stragglers must be in 0\.\.3, not 4"),
        ([-1], 1, 1, r"stragglers must be in 0\.\.3, not -1"),
        ([1], 0, 1, "at least 1, not 0 and 1"),
        ([1], 1, 0, "at least 1, not 1 and 0"),
    ],
)
def test_samples_that_cannot_be_are_refused(counts, draws, sets, message):
    with pytest.raises(ValueError, match=message):
        errors.sample(fixed(np.eye(3)), 1, counts, np.random.default_rng(0), draws=draws, sets=sets)


# alpha


def test_alpha_of_no_code_is_the_share_that_answers():
    found = errors.alpha(fixed(np.eye(8)), 1, np.random.default_rng(0), draws=3)
    assert found == pytest.approx(1 - np.arange(9) / 8)


def test_alpha_of_a_stacked_design_is_known():
    found = errors.alpha(fixed(stacked(PLANE, 2)), 2, np.random.default_rng(0), counts=[0, 4, 13])
    exact = [1 - bounds.stacked_design(PLANE, 2, s) / 26 for s in (0, 4, 13)]
    assert found == pytest.approx(exact)


def test_alpha_is_the_mean_shrinkage_of_the_decoded_gradient():
    """Both ways: from the error, and from the trace of F'B_S R over all signs and all sets."""
    A, m, s = cyclic(5, 2), 2, 2
    k, n = A.shape
    traces = []
    for signs in itertools.product((-1, 1), repeat=n):
        B = np.vstack([A, A * np.array(signs)])
        code = Code(A, B, m)
        for T in itertools.combinations(range(n), s):
            survivors = ~np.isin(np.arange(n), T)
            traces.append(np.sum(code.target * (B @ code.decode(survivors))) / (m * k))
    draws = 4000
    found = errors.alpha(
        lambda rng: random_diagonal(A, m, rng), m, np.random.default_rng(1), counts=[s], draws=draws
    )[0]
    assert abs(found - np.mean(traces)) < 4 * np.std(traces) / np.sqrt(draws)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_alpha_with_a_ridge_is_the_mean_trace(eps):
    A = projective_plane(2)
    B = random_diagonal(A, 2, np.random.default_rng(0), epsilon=0.3)
    code = Code(A, B, 2)
    found = errors.alpha(lambda _: B, 2, np.random.default_rng(1), draws=1, sets=400, eps=eps)
    for s in (0, 2, 7):
        traces = []
        for T in itertools.combinations(range(7), s):
            R = ridge(code, ~np.isin(np.arange(7), T), eps=eps)
            traces.append(np.sum(code.target * (B @ R)) / 14)
        assert found[s] == pytest.approx(np.mean(traces), abs=1e-9 if s in (0, 7) else 0.01)


def test_alpha_refuses_counts_above_n():
    with pytest.raises(ValueError, match=r"must be in 0\.\.3, not 5"):
        errors.alpha(fixed(np.eye(3)), 1, np.random.default_rng(0), counts=[5])


# worst case


@pytest.mark.parametrize("name", ["plane, random diagonal", "Hadamard of signs", "coset, stacked"])
def test_worst_set_is_near_the_worst_of_all(name):
    code = next(code for key, code in codes().items() if key.startswith(name))
    s = 4
    every = errors.exhaustive(engine_of(code), s)
    stragglers, error = errors.worst_set(code.A, code.B, code.m, s, np.random.default_rng(0))
    survivors = ~np.isin(np.arange(code.n), stragglers)
    assert stragglers.tolist() == sorted(set(stragglers.tolist()))
    assert error == pytest.approx(code.error(survivors), abs=1e-9)
    assert every.max() * 0.999 <= error <= every.max() + 1e-9


def test_worst_set_kills_whole_groups():
    A = fractional_repetition(12, 3)
    stragglers, error = errors.worst_set(A, stacked(A, 1), 1, 7, np.random.default_rng(0))
    assert error == pytest.approx(6)  # two groups of three workers and subsets
    groups = [set(range(3 * g, 3 * g + 3)) for g in range(4)]
    assert sum(group <= set(stragglers.tolist()) for group in groups) == 2


@pytest.mark.parametrize("s", [0, 13])
def test_worst_set_of_nobody_and_of_everybody(s):
    code = codes()["plane, random diagonal"]
    stragglers, error = errors.worst_set(code.A, code.B, 2, s, np.random.default_rng(0))
    assert len(stragglers) == s
    assert error == pytest.approx(code.error(np.full(13, s == 0)))


def test_worst_set_refuses_more_stragglers_than_workers():
    with pytest.raises(ValueError, match=r"must be in 0\.\.13, not 14"):
        errors.worst_set(PLANE, stacked(PLANE, 1), 1, 14, np.random.default_rng(0))


# curves


@every(
    "A, m, encoding, theorem",
    [
        (PLANE, 2, "random-diagonal", "Corollary 1"),
        (PLANE, 1, "random-diagonal:epsilon=0.2", "exact for a BIBD"),
        (PLANE, 2, "random-diagonal:epsilon=0.2", "Lemma 1, mean over the sets"),
        (COSET, 2, "random-diagonal:epsilon=0.2", "Corollary 3"),
        (GRAPH, 2, "random-diagonal", "Lemma 1, mean over the sets"),
        (GRAPH, 2, "random-hadamard", "Lemma 2, mean over the sets"),
        (PLANE, 3, "stacked", "exact for a BIBD"),
        (GRAPH, 2, "stacked", "expander bound"),
        (GRAPH[:9], 2, "stacked", None),
    ],
)
def test_the_bound_of_a_curve_is_that_of_its_theorem(A, m, encoding, theorem):
    result = errors.curve(Ensemble(A, m, encoding), [0, 2, 5], draws=8, sets=30, seed=1)
    assert result.theorem == theorem
    assert [p.s for p in result.points] == [0, 2, 5]
    for p in result.points:
        assert p.lower_bound == bounds.holder_bound(A, m, p.s)
        if theorem == "exact for a BIBD":
            assert p.error.mean == pytest.approx(p.bound.mean)


def test_lemmas_over_sets_are_the_lemmas_of_each_set():
    rng = np.random.default_rng(9)
    order = errors.orders(20, 6, rng)
    B = random_hadamard(GRAPH, 2, rng)
    one, two = (
        errors.LeastSquaresBound(*bounds.lemma_1_problem(GRAPH, 2, 0.3), 2),
        errors.EachSetBound(bounds.lemma_2, B, 2),
    )
    for source, single in (
        (one, lambda S: bounds.lemma_1(GRAPH, 2, S, 0.3)),
        (two, lambda S: float(bounds.lemma_2(B, 2, S))),
    ):
        table = source.nested(order, [0, 3, 20])
        for i, (c, s) in itertools.product(range(6), enumerate([0, 3, 20])):
            survivors = ~np.isin(np.arange(20), order[i, :s])
            assert table[i, c] == pytest.approx(single(survivors))
            assert source.errors(survivors[None])[0] == pytest.approx(single(survivors))


def test_curves_are_reproducible_and_follow_the_seed():
    a, b, c = (
        errors.curve(Ensemble(GRAPH, 2, "random-diagonal"), [4], draws=5, sets=10, seed=seed)
        for seed in (1, 1, 2)
    )
    assert a == b
    assert a != c
    rng = seeds.generator(1, seeds.MONTE_CARLO)
    plain = errors.sample(lambda r: random_diagonal(GRAPH, 2, r), 2, [4], rng, draws=5, sets=10)
    assert a.points[0].error == plain[0]
