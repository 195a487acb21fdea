"""Groups of any size with one vector a worker: Theorem A, its corollary, and the decoder."""

import itertools
import math

import numpy as np
import pytest

import gcmpi
from gcmpi import Code, Experiment, assignments, bounds, encodings, errors, simulate
from gcmpi.codes import decoders
from gcmpi.codes.assignments.structure import components
from gcmpi.codes.decoders.components import ByComponent
from gcmpi.codes.decoders.least_squares import NormalEquations, ridge
from gcmpi.codes.encodings.communication_efficient import generator
from gcmpi.codes.ensemble import Ensemble
from gcmpi.registry import ENCODINGS


def code_of(n, c, m):
    A = assignments.groups(n, c)
    return Code(A, encodings.frame(A, m), m)


def every_set(n):
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1


def dense_error(code, survivors):
    """Return Err_S by a dense solve that knows nothing of groups."""
    B = code.B[:, survivors]
    return float(np.sum((B @ np.linalg.lstsq(B, code.target, rcond=None)[0] - code.target) ** 2))


def test_groups_are_balanced_for_every_number_of_workers():
    for n in range(1, 33):
        for c in range(1, n + 1):
            A = assignments.groups(n, c)
            sizes = A.sum(axis=1, dtype=int)
            assert A.shape == (c, n)
            assert (A.sum(axis=0, dtype=int) == 1).all()
            assert {*sizes} <= {n // c, -(-n // c)}
    for n, c in ((5, 0), (5, 6), (0, 0)):
        with pytest.raises(ValueError, match="groups needs 1 <= c <= n, not"):
            assignments.groups(n, c)
    assert "groups:n=31,c=5" in [entry.spec for entry in assignments.find(31).exact]
    with pytest.raises(ValueError, match="or groups:n=31,c=5, which exists for every n and c"):
        assignments.fractional_repetition(31, 6)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_theorem_a_holds_for_every_set(m):
    sets = every_set(12)
    for c in (1, 3, 5):
        code = code_of(12, c, m)
        expected = bounds.groups_error(code.B, m, sets)
        assert np.allclose(
            errors.ErrorEngine(code.B, code.target).errors(sets), expected, atol=1e-8
        )
        h = sets.astype(int) @ code.A.T
        assert (expected == np.maximum(m - h, 0).sum(axis=1)).all()
        decode = ByComponent(code)
        for i in range(0, len(sets), 97):
            R = decode(sets[i])
            assert not R[~sets[i]].any()
            assert code.residual(R) == pytest.approx(expected[i], abs=1e-10)
            assert dense_error(code, sets[i]) == pytest.approx(expected[i], abs=1e-10)


@pytest.mark.parametrize(("n", "c"), [(31, 5), (91, 9), (20, 3)])
def test_theorem_a_holds_for_random_sets_and_unequal_sizes(n, c):
    rng = np.random.default_rng(n)
    for m, assignment in itertools.product((1, 2, 3, 4), ("balanced", "unequal shares")):
        A = assignments.groups(n, c)
        if assignment == "unequal shares":  # groups of random sizes, of 1 to 3 subsets
            held = np.repeat(np.arange(c), rng.integers(1, 4, c))
            A = (held[:, None] == np.append(np.arange(c), rng.integers(c, size=n - c))).astype(int)
        code = Code(A, encodings.frame(A, m), m)
        decode = decoders.decoder_of(code, "auto")
        for s in rng.integers(n + 1, size=20):
            survivors = rng.permutation(n) >= s
            expected = bounds.groups_error(code.B, m, survivors)
            assert code.residual(decode(survivors)) == pytest.approx(expected, abs=1e-9)
            assert dense_error(code, survivors) == pytest.approx(expected, abs=1e-9)


def test_theorem_a_refuses_what_it_does_not_cover():
    plane = assignments.projective_plane(2)
    everybody = np.ones(7, dtype=bool)
    with pytest.raises(ValueError, match=r"Theorem A needs workers in groups .*groups:n=7,c=2"):
        bounds.groups_error(encodings.frame(plane, 2), 2, everybody)
    uneven = np.kron(assignments.groups(7, 2), [[1.0], [2.0]])
    with pytest.raises(ValueError, match="needs the same weights for all subsets of a worker"):
        bounds.groups_error(uneven, 1, everybody)


def test_no_code_of_the_same_load_has_a_smaller_mean_error():
    rng = np.random.default_rng(0)
    for n, m in itertools.product((6, 9), (1, 2, 3)):
        for _ in range(6):
            k = int(rng.integers(2, 8))
            A = (rng.random((k, n)) < rng.uniform(0.2, 0.8)).astype(int)
            A[~A.any(axis=1), 0] = 1
            load = A.sum() / (k * n)
            B = (A * rng.standard_normal((m, k, n))).reshape(-1, n)
            engine = errors.ErrorEngine(B, errors.target(B, m))
            for s in range(n + 1):
                mean = errors.exhaustive(engine, s).mean() / k
                least = bounds.load_bound(n, load, m, s)
                assert least - 1e-9 <= bounds.holder_bound(A, m, s) / k <= mean + 1e-9
    for n in range(1, 33):  # phi is convex, and balanced groups attain it for every n, c, m and s
        for c, m, s in itertools.product({1, 2, n // 3 or 1, n}, (1, 2, 3), {0, n // 3, n}):
            if c <= n:
                bound = bounds.holder_bound(assignments.groups(n, c), m, s) / c
                assert bound == pytest.approx(bounds.load_bound(n, 1 / c, m, s), abs=1e-12)
    assert bounds.load_bound(31, 0, 2, 3) == 2
    assert bounds.load_bound(31, 1, 2, 3) == 0
    for s, load in ((32, 0.5), (-1, 0.5), (3, 1.1), (3, -0.1)):
        with pytest.raises(ValueError, match="must be"):
            bounds.load_bound(31, load, 2, s)


def test_a_curve_of_groups_shows_theorem_a():
    ensemble = Ensemble("groups:n=31,c=5", 2, "frame")
    found = errors.curve(ensemble, [0, 5, 8, 10], sets=300)
    assert found.theorem == "exact for every set (Theorem A), mean over the sets"
    for point in found.points:
        assert point.bound.mean == pytest.approx(point.error.mean, abs=1e-9)
        assert point.bound.maximum == pytest.approx(point.error.maximum, abs=1e-9)
    elsewhere = errors.curve(Ensemble("projective-plane:order=2", 2, "frame"), [1])
    assert elsewhere.theorem is None


def test_waves_are_conditioned_as_the_page_says():
    for m, g, condition in ((2, 6, 3.73), (3, 8, 11.9), (4, 8, 15.3)):
        rows = generator(g, m)
        worst = max(np.linalg.cond(rows[list(s)]) for s in itertools.combinations(range(g), m))
        assert worst == pytest.approx(condition, rel=5e-3)
    assert max(np.linalg.cond(generator(9, 2)[[i, i + 1]]) for i in range(8)) == pytest.approx(
        1 / math.tan(math.pi / 18)
    )


def test_one_vector_a_worker_costs_one_gradient_wherever_it_is():
    for text, m in itertools.product(("cyclic:n=7,delta=3", "groups:n=7,c=2"), (1, 2, 3)):
        A = gcmpi.registry.ASSIGNMENTS.build(text)
        blocks = encodings.frame(A, m).reshape(m, *A.shape)
        vectors = blocks[:, A.argmax(axis=0), np.arange(7)]
        assert np.array_equal(blocks, A * vectors[:, None, :])
        assert np.allclose(np.linalg.norm(vectors, axis=0), math.sqrt(m))
    assert np.array_equal(encodings.frame(A, 2), encodings.frame(A, 2, seed=3))  # nothing is drawn
    plane = assignments.projective_plane(2)
    assert not np.array_equal(encodings.frame(plane, 2), encodings.frame(plane, 2, seed=3))
    with pytest.raises(ValueError, match="seed of at least 0"):
        encodings.frame(plane, 2, seed=-1)


def test_components_are_those_of_the_graph():
    assert components(assignments.groups(7, 3)).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert components(assignments.cyclic(200, 2)).tolist() == [0] * 200
    assert components(np.eye(4, dtype=int)).tolist() == [0, 1, 2, 3]
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 9, 6)
        owner, order = np.repeat(np.arange(6), sizes), rng.permutation(sizes.sum())
        chains = [assignments.cyclic(size, min(2, size)) for size in sizes]
        A = np.zeros((sizes.sum(), sizes.sum()), dtype=int)
        for a, chain in enumerate(chains):
            A[np.ix_(owner == a, owner == a)] = chain
        found = components(A[:, order])
        assert len({*zip(found, owner[order], strict=True)}) == len({*found}) == 6


def test_decoding_by_components_is_least_squares_and_the_ridge():
    rng = np.random.default_rng(1)
    two = np.kron(np.eye(2, dtype=int), assignments.cyclic(6, 3))
    A = np.block([[two, np.zeros((12, 3), int)], [np.zeros((1, 12), int), np.ones((1, 3), int)]])
    A = A[:, rng.permutation(15)]
    for m, encoding in itertools.product(
        (1, 2), ("stacked", "random-diagonal", "harmonic", "frame")
    ):
        try:
            B = ENCODINGS.build(encoding, A=A, m=m, rng=rng)
        except ValueError:
            continue
        code = Code(A, B * (np.arange(15) != 4), m)  # one worker without weights
        redrawn = NormalEquations()
        for q in (0, 0.2, 0.5, 0.8, 1):
            survivors = rng.random(15) >= q
            assert np.allclose(ByComponent(code)(survivors), code.decode(survivors), atol=1e-8)
            assert np.allclose(redrawn(code, survivors), code.decode(survivors), atol=1e-8)
            for eps in (1e-1, 1e-7):
                found = ByComponent(code, eps)(survivors)
                assert np.allclose(found, ridge(code, survivors, eps=eps), atol=1e-6)


def test_ten_thousand_workers_in_groups_need_nothing_of_their_square(monkeypatch):
    code = code_of(10_000, 1000, 2)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(np.linalg, "lstsq", None)
    decode = decoders.decoder_of(code, "auto")
    largest = []
    inv = np.linalg.inv
    monkeypatch.setattr(np.linalg, "inv", lambda G: largest.append(G.shape) or inv(G))
    for q in (0.1, 0.9):
        survivors = rng.random(code.n) >= q
        R = decode(survivors)
        left = np.maximum(2 - np.bincount(np.flatnonzero(survivors) % 1000, minlength=1000), 0)
        assert code.residual(R) == pytest.approx(left.sum(), abs=1e-8)
    assert {*largest} == {(1000, 2, 2)}


RUNS = {
    "switch": {"switch": "observed"},
    "float16": {"wire": "float16"},
    "bfloat16": {"wire": "bfloat16"},
    "float64": {"wire": "float64", "decoder": "ridge"},
    "top-k": {"compression": "top-k"},
    "partial stragglers": {
        "encoding": "partial-stragglers",
        "stragglers": "shifted-exponential",
        "wait": "fastest:5",
    },
    "more parts than some groups have workers": {"assignment": "groups:n=8,c=3", "m": 3},
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
def test_groups_train(settings):
    run = simulate(
        Experiment(
            **{
                "assignment": "groups:n=7,c=2",
                "encoding": "frame",
                "m": 2,
                "problem": "softmax",
                "dataset": "mixture:rows=200,features=6",
                "stragglers": "bernoulli:q=0.3",
                "iterations": 40,
                "audit_every": 1,
                **settings,
            }
        )
    )
    loss, error = run["loss"], run["approximation_error"]
    assert loss[-1] < loss[0]
    A = gcmpi.registry.ASSIGNMENTS.build(settings.get("assignment", "groups:n=7,c=2"))
    h = run["survivors"].astype(int) @ A.T
    assert np.allclose(error, np.maximum(run["m"][:, None] - h, 0).sum(axis=1), atol=1e-6)
    if "compression" not in settings:
        assert (run["gradient_error"][error < 1e-9] < 2e-2).all()
