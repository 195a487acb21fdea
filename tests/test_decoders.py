"""The fixed decoders: whom they serve, what they promise, and their theorems."""

import inspect
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcmpi import Code, bounds, decoders, encodings, testing
from gcmpi.assignments import (
    affine_plane,
    bernoulli,
    circulant_edges,
    cyclic,
    expander,
    fractional_repetition,
    graph_edges,
    pairwise_balanced,
    petersen,
    projective_plane,
    random_replication,
    schlaefli,
    steiner_triple,
    uncoded,
)
from gcmpi.codes.decoders.least_squares import Downdate, always
from gcmpi.codes.decoders.made import Maker
from gcmpi.errors import alpha, decoder_alpha
from gcmpi.formats import NOISE_POWER
from gcmpi.registry import ASSIGNMENTS, DECODERS, ENCODINGS, Spec
from tests.every import every
from tests.lazily import Lazily

nx = Lazily("networkx")

SMALL = 9


def masks(n, s):
    """All sets of n - s survivors, one a row."""
    chosen = list(combinations(range(n), s))
    survivors = np.ones((len(chosen), n), dtype=bool)
    for row, stragglers in zip(survivors, chosen, strict=True):
        row[list(stragglers)] = False
    return survivors


def some_masks(n, seed=0):
    rng = np.random.default_rng(seed)
    yield np.ones(n, dtype=bool)
    yield np.zeros(n, dtype=bool)
    for q in (0.1, 0.3, 0.6, 0.9):
        yield rng.random(n) >= q


SPECS = [Spec(p.name, o) for p in DECODERS for o in p.examples]
every_decoder = pytest.mark.parametrize("spec", SPECS, ids=str)


@cache
def small_codes():
    """Return every code of the examples for few workers: its encoding, a name, and the code."""
    found = []
    for assignment in (Spec(p.name, o) for p in ASSIGNMENTS for o in p.examples):
        A = ASSIGNMENTS.build(assignment)
        for encoding in (Spec(p.name, o) for p in ENCODINGS for o in p.examples):
            for m in (1, 2) if A.shape[1] <= SMALL else ():
                rng = np.random.default_rng(0)
                try:
                    B = ENCODINGS.build(encoding, A=A, m=m, rng=rng)
                except ValueError:  # the encoding does not fit
                    continue
                found.append((encoding.name, f"{assignment} + {encoding}", Code(A, B, m)))
    return found


@cache
def served(text):
    """Return the small codes that a decoder serves."""
    found = []
    for encoding, name, code in small_codes():
        decode = decoders.decoder(text, code.n)
        try:
            decode(code, np.ones(code.n, dtype=bool))
        except ValueError:
            continue
        found.append((encoding, name, code))
    return found


def test_every_decoder_serves_a_code_and_the_one_of_every_source_its_own():
    pairs = {(case[0], spec.name) for spec in SPECS for case in served(str(spec))}
    assert {name for _, name in pairs} == {part.name for part in DECODERS}
    for part in ENCODINGS:
        assert (part.name, part.promises.decoder) in pairs
        assert (part.name, "least-squares") in pairs


@every_decoder
def test_decoders_keep_the_laws_that_users_decoders_are_held_to(spec):
    cases = served(str(spec))
    testing.check_decoder(spec, [(name, code) for _, name, code in cases])
    for _, _, code in cases:
        with pytest.raises(ValueError, match="survivors must be booleans"):
            decoders.decoder(spec, code.n)(code, np.ones(code.n))


@every_decoder
def test_the_decoder_of_an_exact_code_is_exact_as_far_as_the_code(spec):
    """The decoder of `uncoded` is not meant to be exact."""
    for encoding, name, code in served(str(spec)):
        promises = ENCODINGS[encoding].promises
        if promises.tolerant and promises.decoder == spec.name and encoding != "uncoded":
            testing.check_decoder(spec, [(name, code)], exact=True)
            for survivors in masks(code.n, code.gamma - code.m):
                assert code.error(survivors) < 1e-9, name  # so that the law above is not empty


@pytest.mark.parametrize("text", ["auto", "least-squares"])
def test_least_squares_loses_the_least(text):
    testing.check_decoder(text, optimal=True)


def test_not_every_decoder_is_unbiased():
    """Plain sums on fewer workers count less: the law above could fail."""
    A = steiner_triple(7)[:, :6]
    code = Code(A, encodings.bernoulli_code(A, 1), 1)
    mean = np.mean([code.B @ decoders.one_step(code, S) for S in masks(6, 1)], axis=0)
    assert np.ptp(mean) > 0.1


# ---------------------------------------------------------------- equal weights


def test_one_step_is_the_sum_scaled_up():
    code = Code(uncoded(5), np.eye(5), 1)
    S = np.array([1, 1, 0, 1, 0], dtype=bool)
    assert np.allclose(decoders.one_step(code, S)[:, 0], S * 5 / 3)
    A = bernoulli(8, 12, 3)
    found = decoders.one_step(Code(A, A, 1), np.arange(8) < 5)
    assert found[0, 0] == pytest.approx(12 / (5 * A.sum(dtype=int) / 8))


def test_one_step_error_of_bernoulli_codes():
    """E over assignments and sets is k (k - delta) / (delta N), up to the estimated load."""
    n = k = 40
    delta, s = 10, 8
    nominal, found, optimal = [], [], []
    survivors = np.arange(n) >= s
    for seed in range(300):
        A = bernoulli(n, k, delta, seed)
        code = Code(A, encodings.bernoulli_code(A, 1), 1)
        nominal.append(code.residual(np.where(survivors, k / ((n - s) * delta), 0)[:, None]))
        found.append(code.residual(decoders.one_step(code, survivors)))
        optimal.append(code.error(survivors))
    bound = bounds.bernoulli_one_step(n, k, delta, s)
    assert bound == pytest.approx(40 * 30 / (10 * 32))
    error = np.std(nominal) / np.sqrt(300)
    assert abs(np.mean(nominal) - bound) < 5 * error
    assert np.mean(found) < bound + 5 * error
    assert np.mean(optimal) < bound
    assert bounds.bernoulli_one_step(4, 4, 2, 4) == 4


@pytest.mark.parametrize("A", [projective_plane(3), affine_plane(3), steiner_triple(9)])
def test_bibd_weights_are_optimal_and_the_error_is_the_same_for_every_set(A):
    code = Code(A, encodings.design_code(A, 1), 1)
    for survivors in some_masks(code.n):
        s = int((~survivors).sum())
        found = code.residual(decoders.bibd(code, survivors))
        assert found == pytest.approx(code.error(survivors), abs=1e-9)
        assert found == pytest.approx(bounds.stacked_design(A, 1, s), abs=1e-9)
        assert np.allclose(decoders.bibd(code, survivors), code.decode(survivors))


@pytest.mark.parametrize("A", [petersen(), schlaefli(), expander(31, 6), expander(60, 7)])
def test_expander_weights_are_within_the_bound(A):
    code = Code(A, encodings.expander_code(A, 1), 1)
    for survivors in some_masks(code.n):
        s = int((~survivors).sum())
        R = decoders.expander(code, survivors)
        if s < code.n:
            assert R.max() == pytest.approx(code.n / (code.n - s))
            second = sorted(np.abs(np.linalg.eigvalsh(code.B)))[-2]
            assert code.residual(R) <= second**2 * code.n * s / (code.n - s) + 1e-9
            assert code.error(survivors) <= bounds.stacked_expander(A, 1, s) + 1e-9


@pytest.mark.parametrize("q", [0.1, 0.4])
def test_stochastic_codes_have_the_mean_and_the_variance_of_the_paper(q):
    """Over all sets of 8 workers, and any gradients g: pairwise balanced."""
    A = pairwise_balanced(3, 2)
    k, n = A.shape
    code = Code(A, encodings.stochastic_code(A, 1, q), 1)
    g = np.random.default_rng(0).standard_normal((5, k))
    mean, square = np.zeros(k), 0.0
    for present in product((False, True), repeat=n):
        S = np.array(present)
        p = q ** (~S).sum() * (1 - q) ** S.sum()
        decoded = (code.B @ decoders.plain_sum(code, S))[:, 0]
        mean += p * decoded
        square += p * np.sum((g @ decoded - g.sum(axis=1)) ** 2)
    assert np.allclose(mean, 1)
    total, single = np.sum(g.sum(axis=1) ** 2), np.sum(g**2)
    assert square == pytest.approx(q / (1 - q) * (total / n + (1 / 4 - 1 / n) * single))


def test_stochastic_codes_are_unbiased_with_unequal_replication():
    A = np.vstack([random_replication(7, 4, 2), random_replication(7, 3, 5)])
    code = Code(A, encodings.stochastic_code(A, 1, 2 / 7), 1)
    mean = np.mean([code.B @ decoders.plain_sum(code, S) for S in masks(7, 2)], axis=0)
    assert np.allclose(mean, 1)


# ---------------------------------------------------------------- groups and polynomials


def test_first_of_group_takes_one_reply_of_each():
    A = fractional_repetition(6, 2)
    code = Code(A, encodings.erasurehead(A, 1), 1)
    S = np.array([0, 1, 0, 0, 1, 1], dtype=bool)
    assert decoders.first_of_group(code, S)[:, 0].tolist() == [0, 1, 0, 0, 1, 0]
    rescaled = decoders.first_of_group(code, S, rescale=True)[:, 0]
    assert rescaled.tolist() == [0, 1.5, 0, 0, 1.5, 0]
    for s in range(5):  # some group is left
        found = [code.B @ decoders.first_of_group(code, S, rescale=True) for S in masks(6, s)]
        assert np.allclose(np.mean(found, axis=0), 1)
    for S in some_masks(6):
        assert code.residual(decoders.first_of_group(code, S)) == pytest.approx(code.error(S))


def test_groups_may_be_in_any_order():
    A = fractional_repetition(6, 3)[:, [3, 0, 5, 1, 2, 4]]
    code = Code(A, encodings.fractional_repetition(A, 1), 1)
    S = np.array([0, 1, 1, 1, 0, 0], dtype=bool)
    assert decoders.first_of_group(code, S)[:, 0].tolist() == [0, 1, 1, 0, 0, 0]
    code = Code(A, encodings.block_mds(A, 2), 2)
    assert code.residual(decoders.block(code, np.arange(6) > 0)) < 1e-12


def test_block_leaves_groups_with_fewer_than_m_out():
    A = fractional_repetition(8, 4)
    code = Code(A, encodings.block_mds(A, 2), 2)
    S = np.array([1, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
    R = decoders.block(code, S)
    assert R.any(axis=1).tolist() == [False] * 4 + [True, False, True, False]
    assert code.residual(R) == pytest.approx(8)  # both parts of four subsets


@pytest.mark.parametrize("order", ["alternating", "ascending"])
def test_vandermonde_agrees_with_least_squares_while_it_lasts(order):
    A = cyclic(8, 4)
    code = Code(A, encodings.ye_abbe(A, 2, order), 2)
    for survivors in masks(8, 2):
        # n - s columns are independent: there is one exact R
        assert np.allclose(decoders.vandermonde(code, survivors), code.decode(survivors))
    assert not decoders.vandermonde(code, np.arange(8) > 2).any()


# ---------------------------------------------------------------- graphs


def alpha_of_the_theorem(A, survivors):
    """By networkx."""
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(len(A)))
    graph.add_edges_from(tuple(np.flatnonzero(A[:, i])) for i in np.flatnonzero(survivors))
    alpha = np.ones(len(A))
    for component in nx.connected_components(graph):
        part = graph.subgraph(component)
        if nx.is_bipartite(part):
            left, right = nx.bipartite.sets(part) if len(part) > 1 else (component, set())
            if len(left) < len(right):
                left, right = right, left
            t = (len(left) - len(right)) / len(component)
            alpha[list(left)], alpha[list(right)] = 1 - t, 1 + t
    return alpha


@st.composite
def graphs(draw):
    k = draw(st.integers(2, 12))
    pairs = st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)).filter(lambda p: p[0] != p[1])
    edges = draw(st.lists(pairs, min_size=1, max_size=30))
    A = np.zeros((k, len(edges)), dtype=np.uint8)
    for i, ends in enumerate(edges):
        A[list(ends), i] = 1
    A = A[A.any(axis=1)]
    survivors = draw(st.lists(st.booleans(), min_size=len(edges), max_size=len(edges)))
    return A, np.array(survivors)


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_graph_decoding_is_optimal_and_that_of_the_theorem(case):
    A, survivors = case
    code = Code(A, encodings.graph_code(A, 1), 1)
    alpha = (code.B @ decoders.graph(code, survivors))[:, 0]
    assert np.allclose(alpha, alpha_of_the_theorem(A, survivors))
    assert np.allclose(alpha, (code.B @ code.decode(survivors))[:, 0])


def test_graph_decoding_of_many_workers_and_its_bound():
    A = graph_edges(60, 6)
    code = Code(A, encodings.graph_code(A, 1), 1)
    for survivors in some_masks(code.n):
        s = int((~survivors).sum())
        found = code.residual(decoders.graph(code, survivors))
        assert found == pytest.approx(code.error(survivors), abs=1e-8)
        assert found <= bounds.stacked_expander(A, 1, s) + 1e-9
    # the bound is the one of the paper: (2 delta - lambda) / (2 delta) p / (1 - p) of k
    second = np.linalg.eigvalsh(expander(60, 6).astype(float))[-2]
    n, s = code.n, 18
    expected = 60 * (6 + second) / 12 * (s / n) / (1 - s / n)
    assert bounds.stacked_expander(A, 1, s) == pytest.approx(expected)


def test_graph_decoding_is_unbiased_on_a_vertex_transitive_graph_only():
    def spread(A, s):
        code = Code(A, encodings.graph_code(A, 1), 1)
        mean = np.mean([code.B @ decoders.graph(code, S) for S in masks(code.n, s)], axis=0)
        return np.ptp(mean)

    for s in range(10):
        assert spread(circulant_edges(5, (1, 2)), s) < 1e-12
    path = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=np.uint8)
    assert spread(path, 1) > 0.01


# ---------------------------------------------------------------- alpha


def test_alpha_of_a_decoder_is_the_mean_share_of_the_gradient():
    A = fractional_repetition(6, 2)
    code = Code(A, encodings.erasurehead(A, 1), 1)
    rng = np.random.default_rng(0)
    found = decoder_alpha(code, decoders.first_of_group, rng, sets=4000)
    exact = [1 - bounds.holder_bound(A, 1, s) / 6 for s in range(7)]
    assert np.abs(found - exact).max() < 0.02
    assert found[[0, 1, 6]].tolist() == pytest.approx([1, 1, 0])
    measured = alpha(lambda _: code.B, 1, rng, draws=2000)
    assert np.abs(found - measured).max() < 0.03  # for least squares, another way


def test_alpha_of_weights_that_add_up():
    A = projective_plane(2)
    rng = np.random.default_rng(0)
    one = decoder_alpha(Code(A, A, 1), decoders.one_step, rng, sets=3)
    assert one == pytest.approx([1] * 7 + [0])
    B = encodings.stochastic_code(A, 1, 0.25)
    found = decoder_alpha(Code(A, B, 1), decoders.plain_sum, rng, counts=[0, 3], sets=3)
    assert found == pytest.approx([4 / 3, 4 / 7 * 4 / 3])


@pytest.mark.parametrize(("counts", "sets"), [([8], 1), ([-1], 1), ([1], 0)])
def test_alpha_of_a_decoder_refuses(counts, sets):
    code = Code(PLANE, PLANE, 1)
    with pytest.raises(ValueError, match=r"must be|needs"):
        decoder_alpha(code, decoders.one_step, np.random.default_rng(0), counts=counts, sets=sets)


# ---------------------------------------------------------------- refusals and choice

PLANE = projective_plane(2)
GROUPS = fractional_repetition(6, 3)
REFUSED = {
    "one-step, m": (decoders.one_step, Code(PLANE, encodings.stacked(PLANE, 2), 2), r"B = A"),
    "one-step, weights": (decoders.one_step, Code(PLANE, PLANE / 2, 1), "one-step serves .*m=1"),
    "bibd": (decoders.bibd, Code(petersen(), petersen(), 1), "decoder bibd needs every two"),
    "expander": (decoders.expander, Code(petersen(), petersen(), 1), "--encoding expander"),
    "expander, plane": (decoders.expander, Code(PLANE, PLANE / 3, 1), "decoder expander needs"),
    "sum": (decoders.plain_sum, Code(PLANE, PLANE * np.arange(1, 8), 1), "multiple of the"),
    "first-of-group": (decoders.first_of_group, Code(PLANE, PLANE, 1), "needs workers in groups"),
    "block, plane": (
        decoders.block,
        Code(PLANE, encodings.stacked(PLANE, 2), 2),
        "decoder block needs workers in groups",
    ),
    "block": (
        decoders.block,
        Code(GROUPS, encodings.stacked(GROUPS, 2), 2),
        "--encoding block-mds",
    ),
    "vandermonde": (
        decoders.vandermonde,
        Code(cyclic(5, 3), encodings.stacked(cyclic(5, 3), 2), 2),
        "--encoding ye-abbe",
    ),
    "graph": (decoders.graph, Code(PLANE, PLANE, 1), "two subsets on every worker, not 3"),
}


@every("decode, code, message", REFUSED)
def test_decoders_refuse_codes_they_do_not_serve(decode, code, message):
    with pytest.raises(ValueError, match=message):
        decode(code, np.ones(code.n, dtype=bool))


def test_decoders_by_name():
    A = fractional_repetition(6, 2)
    code = Code(A, A, 1)
    S = np.arange(6) > 1
    assert isinstance(decoders.decoder_of(code, "least-squares"), Downdate)
    found = decoders.decoder_of(code, "first-of-group:rescale=true")(S)
    assert np.array_equal(found, decoders.first_of_group(code, S, rescale=True))
    assert decoders.ridge_of("graph") is None
    assert decoders.ridge_of("least-squares", "float16") == 0
    assert [decoders.ridge_of("auto", w) > 0 for w in NOISE_POWER] == [True, True, False, False]
    assert decoders.ridge_of("ridge", "float64") == NOISE_POWER["float64"]
    assert decoders.ridge_of("ridge:eps=0.5", "float16") == 0.5
    with pytest.raises(ValueError, match="ridge needs eps > 0, not eps=0"):
        decoders.ridge_of("ridge:eps=0")
    with pytest.raises(ValueError, match="unknown decoder 'first'"):
        decoders.decoder("first", 6)


def test_a_decoder_is_made_once_for_a_code():
    made = []

    @Maker
    def first(code, scale=1.0):
        """Scale everything."""
        made.append(code)
        return lambda survivors: np.where(survivors, scale, 0.0)[:, None]

    one = Code(PLANE, PLANE, 1)
    decode = always(first.made(one))
    for _ in range(3):
        assert decode(one, np.arange(7) > 2).sum() == 4
    assert made == [one]
    assert first(one, np.arange(7) > 2, scale=2.0).sum() == 8
    assert list(inspect.signature(first).parameters) == ["code", "survivors", "scale"]
    with pytest.raises(ValueError, match="survivors must be booleans"):
        first.made(one)(np.ones(7))
