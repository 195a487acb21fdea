"""Gradients against finite differences, subsets against the whole, and reading data."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

from gcmpi import seeds, testing
from gcmpi.codes.code import encode
from gcmpi.learning import Dataset, load, partition, prepare
from gcmpi.learning.batches import Sampling
from gcmpi.learning.datasets import canonical
from gcmpi.learning.gradients import gradients
from gcmpi.learning.optimum import optimum
from gcmpi.learning.problem import complete
from gcmpi.registry import PROBLEMS, Spec

MODELS = [Spec(part.name, example) for part in PROBLEMS for example in part.examples]


def rows(classes: int, count: int = 12, features: int = 5):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, features)), rng.integers(0, classes, count)


def make(name: str, options: dict, classes: int, dtype: str = "float64"):
    part = PROBLEMS[name]
    return part.function(features=5, classes=classes, dtype=dtype, **options)


@pytest.mark.parametrize("spec", MODELS, ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_models_keep_the_laws_that_users_models_are_held_to(spec, classes):
    """Gradients are derivatives, rows add up, parts of weighted gradients, float32 and float64."""
    testing.check_problem(spec, shape=(5,), classes=classes)


def test_row_weights_are_weights():
    problem = make("mlp", {"hidden": 4}, 3)
    X, y = rows(3)
    Y = problem.targets(y)
    theta = problem.initial(np.random.default_rng(5))
    weights = np.arange(len(X), dtype=float)
    each = [w * problem.gradient(theta, X[[i]], Y[[i]]) for i, w in enumerate(weights)]
    np.testing.assert_allclose(problem.gradient(theta, X, Y, weights), sum(each), atol=1e-12)


def test_l2_is_counted_once_however_rows_are_cut():
    """Subsets, batches and codes have the regulariser by their share of the rows."""
    X, y = rows(3, count=13)
    rng = np.random.default_rng(2)
    plain, ridged = (make("mlp", {"hidden": 4, "l2": l2}, 3) for l2 in (0.0, 0.3))
    Y, theta = plain.targets(y), rng.normal(size=plain.d)
    sizes, scale = (6, 4, 3), 1 / 13

    def added(sampling, use):
        """Return what l2 adds: the difference of what both models make."""
        made = []
        for problem in (plain, ridged):
            over = gradients(problem, X, y, sizes, range(3), scale, sampling)
            over.begin(5, theta)
            made.append(use(over))
        return made[1] - made[0]

    coefficients = rng.normal(size=(2, 3))
    shares = np.outer(np.array(sizes) / 13, 0.3 * theta)
    for sampling in (Sampling(), Sampling(1, "0.5")):
        for j in range(3):
            np.testing.assert_allclose(
                added(sampling, lambda over, j=j: over.exact(j)), shares[j], atol=1e-12
            )
        sent = added(sampling, lambda over: over.message(coefficients)[0])
        np.testing.assert_allclose(sent, encode(coefficients, shares), atol=1e-12)
    whole = scale * (ridged.loss(theta, X, Y) - plain.loss(theta, X, Y))
    assert whole == pytest.approx(0.15 * theta @ theta)
    with pytest.raises(ValueError, match="l2 must be at least 0 and finite, not -1"):
        make("softmax", {"l2": -1.0}, 3)


def test_the_smallest_loss_is_found_and_kept(tmp_path, capsys):
    """Against the normal equations; a file in the cache that is damaged is made anew."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    data = Dataset(X, y, X[:2], y[:2], 0)
    ridge = PROBLEMS.build(
        "least-squares:l2=0.2", features=4, shape=(4,), classes=0, dtype="float32"
    )
    ones = np.column_stack([X, np.ones(60)])
    theta = np.linalg.solve(ones.T @ ones / 60 + 0.2 * np.eye(5), ones.T @ y / 60)
    smallest = np.mean((ones @ theta - y) ** 2) / 2 + 0.1 * theta @ theta
    found = optimum(ridge, data, "ridge", tmp_path)
    assert found.loss == pytest.approx(smallest, rel=1e-12)
    assert 0 <= found.gap <= 1e-10
    (kept,) = tmp_path.iterdir()
    kept.write_text('{"loss": 3.0, "gap": 0.0}')
    assert optimum(ridge, data, "ridge", tmp_path).loss == 3, "from the cache"
    assert optimum(ridge, data, "another", tmp_path).loss == found.loss
    kept.write_text("{")
    assert optimum(ridge, data, "ridge", tmp_path).loss == found.loss
    assert "made anew" in capsys.readouterr().err

    class Own:
        """A model of one's own that says how convex it is."""

        d, strong_convexity = 5, 0.2

        def initial(self, rng):
            return np.zeros(5)

        def loss(self, theta, X, Y):
            return ridge.astype("float64").loss(theta, X, Y[:, None])

        def gradient(self, theta, X, Y, scale):
            return ridge.astype("float64").gradient(theta, X, Y[:, None], scale)

    assert optimum(complete(Own(), "float32"), data, "own").loss == pytest.approx(found.loss)
    for name in ("least-squares", "mlp:l2=0.1"):
        problem = PROBLEMS.build(name, features=4, shape=(4,), classes=2, dtype="float64")
        with pytest.raises(ValueError, match=f"problem {name} does not have for sure"):
            optimum(problem, data, name)


def test_principal_components(tmp_path):
    """Against a singular value decomposition, up to the sign that is fixed."""
    plain = load("mnist-10k:test=9700,by_label=true", rng())
    data = load("mnist-10k:test=9700,by_label=true,components=5", rng())
    X = prepare(plain.X, np.float64).reshape(300, -1)
    V = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][:5].T
    V *= np.sign(V[np.abs(V).argmax(axis=0), range(5)])
    scores = (X - X.mean(axis=0)) @ V
    np.testing.assert_allclose(data.X, scores / scores.std(), atol=1e-9)
    tests = prepare(plain.X_test, np.float64).reshape(9700, -1)
    np.testing.assert_allclose(data.X_test, (tests - X.mean(axis=0)) @ V / scores.std(), atol=1e-9)
    assert (data.y == plain.y).all()
    np.savez(tmp_path / "a.npz", X=np.arange(90.0).reshape(30, 3), y=np.arange(30) % 3)
    with pytest.raises(ValueError, match="components must be 1 to 3, not 4"):
        load(f"file:path={tmp_path / 'a.npz'},components=4", rng())


def test_heads_do_not_overflow():
    for name in ("logistic", "softmax", "least-squares"):
        problem = make(name, {}, 3)
        X, y = rows(3)
        theta = np.full(problem.d, 1e3)
        assert np.isfinite(problem.loss(theta, 100 * X, problem.targets(y)))
        assert np.isfinite(problem.gradient(theta, 100 * X, problem.targets(y))).all()


def test_paper_network():
    """784-128-10 has the paper's number of parameters."""
    assert PROBLEMS["mlp"].function(features=784, classes=10).d == 784 * 128 + 128 + 128 * 10 + 10


def test_accuracy_counts_correct_rows():
    X, y = rows(2, count=200)
    y = (X[:, 0] > 0).astype(int)
    for name in ("logistic", "softmax"):
        problem = make(name, {}, 2)
        theta = problem.initial(np.random.default_rng(0))
        for _ in range(500):
            theta = theta - 0.5 * problem.gradient(theta, X, problem.targets(y), 1 / 200)
        assert problem.accuracy(theta, X, y) > 0.97
        assert problem.accuracy(theta, X, 1 - y) < 0.03


def test_partition_leaves_nothing_out():
    for count, k in ((8000, 31), (10, 10), (11, 4)):
        subsets = partition(count, k)
        sizes = [s.stop - s.start for s in subsets]
        assert len(subsets) == k
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1
        assert subsets[0].start == 0
        assert all(a.stop == b.start for a, b in itertools.pairwise(subsets))
    with pytest.raises(ValueError, match="5 subsets need at least 5 training rows, not 3"):
        partition(3, 5)


def rng() -> np.random.Generator:
    return seeds.generator(0, seeds.DATA)


def test_mnist_10k_is_shuffled_digits():
    data = load("mnist-10k", rng())
    assert data.X.shape == (8000, 784)
    assert data.X_test.shape == (2000, 784)
    assert data.classes == 10
    counts = np.bincount(np.concatenate([data.y, data.y_test]))
    assert counts.min() > 850
    # shuffled: every class appears early
    assert len(set(data.y[:100].tolist())) == 10
    again = load("mnist-10k", rng())
    assert (again.X == data.X).all()
    other = load("mnist-10k", seeds.generator(1, seeds.DATA))
    assert (other.y != data.y).any()
    pixels = prepare(data.X[:10], np.float32)
    assert pixels.dtype == np.float32
    assert pixels.max() <= 1
    with pytest.raises(ValueError, match="test must be 1 to 9999"):
        load("mnist-10k:test=20000", rng())


def test_by_label_moves_rows_with_their_labels(tmp_path):
    shuffled, ordered = (
        load(f"mnist-10k:test=9000,by_label={x}", rng()) for x in ("false", "true")
    )
    assert (np.diff(ordered.y) >= 0).all()
    assert (ordered.X_test == shuffled.X_test).all()
    for label in range(10):
        assert (ordered.X[ordered.y == label] == shuffled.X[shuffled.y == label]).all()
    np.savez(tmp_path / "a.npz", X=np.arange(30)[:, None] / 30, y=np.arange(30) % 3)
    y = load(f"file:path={tmp_path / 'a.npz'},by_label=true", rng()).y
    assert (np.diff(y) >= 0).all()


def test_mixture_follows_tandon():
    """Rows have standard deviation 10/sqrt(p); the labels follow the logistic model."""
    data = load("mixture:rows=20000,features=25", rng())
    assert data.X.shape == (16000, 25)
    assert len(data.y_test) == 4000
    assert data.X.std() == pytest.approx(10 / 5, rel=0.02)
    # the best linear rule recovers the signs beta: |x' beta| is large, so labels are predictable
    correlation = data.X.T @ (2.0 * data.y - 1)
    beta = np.sign(correlation)
    agreement = np.mean(((data.X @ beta) > 0) == (data.y == 1))
    assert agreement > 0.9


def write_idx(path: Path, values: np.ndarray, compress: bool = False) -> None:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    data = head + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if compress else data)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files(tmp_path, compress):
    X = np.random.default_rng(0).integers(0, 256, (50, 4, 3))
    y = np.arange(50) % 3
    images = tmp_path / "train-images-idx3-ubyte"
    write_idx(images, X, compress)
    write_idx(tmp_path / "train-labels-idx1-ubyte", y, compress)
    data = load(canonical(str(images)), rng())
    assert data.X.shape == (40, 4, 3)
    assert (data.shape, data.features) == ((4, 3), 12)
    assert data.classes == 3
    # rows and labels still belong together
    position = {row.tobytes(): label for row, label in zip(X.astype(np.uint8), y, strict=True)}
    assert all(position[r.tobytes()] == v for r, v in zip(data.X, data.y, strict=True))


def test_npz_files(tmp_path):
    X, y = rows(3, count=30)
    np.savez(tmp_path / "a.npz", X=X, y=y)
    assert load(canonical(str(tmp_path / "a.npz")), rng()).X.shape == (24, 5)
    np.savez(tmp_path / "b.npz", x_train=X, y_train=y, x_test=X[:4], y_test=y[:4])
    data = load(f"file:{tmp_path / 'b.npz'}", rng())
    assert data.X.shape == (30, 5)
    assert (data.X_test == X[:4]).all()


def test_unreadable_data(tmp_path):
    def refused(name: str, pattern: str) -> None:
        with pytest.raises(ValueError, match=pattern):
            load(canonical(str(tmp_path / name)), rng())

    refused("missing.npz", "there is no file .*missing.npz")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    refused("junk.npz", "cannot read dataset .*junk.npz")
    np.savez(tmp_path / "names.npz", images=np.zeros((3, 2)))
    refused("names.npz", "must hold arrays X and y, .* it has images")
    np.savez(tmp_path / "one.npz", X=np.zeros((9, 2)), y=np.zeros(9))
    refused("one.npz", "at least two classes")
    np.savez(tmp_path / "nan.npz", X=np.full((9, 2), np.nan), y=np.arange(9) % 2)
    refused("nan.npz", "X must be finite")
    np.savez(tmp_path / "rows.npz", X=np.zeros((9, 2)), y=np.arange(8) % 2)
    refused("rows.npz", r"X \(9, 2\), y \(8,\): X and y must have the same number of rows")
    (tmp_path / "x-ubyte").write_bytes(b"not idx at all")
    refused("x-ubyte", "not an IDX file")
    whole = tmp_path / "t-images-idx3-ubyte"
    write_idx(whole, np.zeros((5, 2, 2)))
    whole.write_bytes(whole.read_bytes()[:-3])
    refused("t-images-idx3-ubyte", "cut short")
