"""Models of your own: what they must have, and what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from gcmpi.learning import Network, least_squares, mlp, softmax
from gcmpi.learning.gradients import check
from gcmpi.learning.problem import Ready, complete
from gcmpi.training import Worker
from gcmpi.training.partial import PartWorker
from tests.own_models import Adding, Dropping, Four, OnDevice, Taking, with_own
from tests.test_training import make, train


class Linear:
    """Least squares with the four members that are needed, and no more."""

    def __init__(self, features=6):
        self.d = features

    def initial(self, rng):
        return 0.1 * rng.normal(size=self.d)

    def loss(self, theta, X, Y):
        return 0.5 * np.sum((X @ theta - Y) ** 2)

    def gradient(self, theta, X, Y, scale):
        assert type(scale) is float
        return scale * (X.T @ (X @ theta - Y))


class Wide(Linear):
    dtype = "float64"


def test_four_members_are_enough():
    problem = complete(Linear(), "float32")
    assert (problem.d, problem.dtype, problem.metric) == (6, np.float32, "accuracy")
    theta = problem.initial(np.random.default_rng(0))
    assert theta.dtype == np.float32
    labels = np.arange(4)
    assert problem.targets(labels) is labels
    assert problem.targets(labels / 3).dtype == np.float32
    X = np.ones((4, 6), np.float32)
    assert type(problem.loss(theta, X, labels)) is float
    assert np.isnan(problem.accuracy(theta, X, labels))
    assert complete(problem, "float32") is problem
    assert complete(problem, "float64").dtype == np.float64


def test_a_model_gets_a_copy_of_theta():
    """theta may be a view of a receive buffer."""

    class Careless(Linear):
        def gradient(self, theta, X, Y, scale):
            theta += 1
            return theta

        def loss(self, theta, X, Y):
            theta += 1
            return 0.0

    problem, theta = complete(Careless(), "float64"), np.zeros(6)
    problem.gradient(theta, None, None)
    problem.loss(theta, None, None)
    assert not theta.any()


def test_networks_are_complete():
    network = mlp(4, 3, "float64")
    assert isinstance(network, Network)
    assert isinstance(network, Ready)
    assert complete(network, "float64") is network
    narrow = complete(network, "float32")
    assert (narrow.dtype, narrow.d, narrow.head) == (np.float32, network.d, network.head)
    fixed = Changed(dtype=np.dtype("float64"))
    with pytest.raises(ValueError, match=r"Changed computes in float64 .* choose --dtype float64"):
        complete(fixed, "float32")


class Changed(Linear):
    """A `Linear` with one member changed, or taken away."""

    def __init__(self, **members):
        super().__init__()
        self.__dict__.update(members)


@pytest.mark.parametrize(("own", "pattern"), [
    (object(), "problem object needs d, initial, loss, gradient, and has no d nor initial nor"),
    (Changed(loss=3), r"has no loss\(\)"),
    (Changed(rows=abs), r"problem Changed with rows\(X, y\) needs .*, and has no load nor host"),
    (Changed(d=0), "d must be a whole number of at least 1, not 0"),
    (Changed(d=1.5), "d must be a whole number of at least 1, not 1.5"),
    (Wide(), "Wide computes in float64 and has no astype.* choose --dtype float64"),
])  # fmt: skip
def test_what_is_no_problem_is_refused(own, pattern):
    with pytest.raises(ValueError, match=pattern):
        complete(own, "float32")


@pytest.mark.parametrize(("member", "value", "pattern"), [
    ("initial", np.zeros(5), r"initial\(rng\) must be 6 numbers, shape \(6,\), not ndarray of"),
    ("initial", np.full(6, np.nan), "must be finite, but holds 6"),
    ("gradient", np.zeros((6, 1)), r"gradient\(theta, X, Y, scale\) must be 6 numbers"),
    ("gradient", None, r"gradient\(theta, X, Y, scale\) must be 6 numbers.* not None"),
    ("loss", np.zeros(3), r"loss\(theta, X, Y\) must be a number, not ndarray of shape \(3,\)"),
    ("accuracy", "good", r"accuracy\(theta, X, y\) must be a number, not 'good'"),
    ("targets", np.zeros(2), r"targets\(y\) must have 3 rows, one for each y, not shape \(2,\)"),
])  # fmt: skip
def test_what_a_member_returns_is_checked(member, value, pattern):
    problem = complete(Changed(**{member: lambda *_: value}), "float64")
    arguments = {
        "initial": (np.random.default_rng(0),),
        "targets": (np.zeros(3),),
    }.get(member, (np.zeros(6), np.zeros((3, 6)), np.zeros(3)))
    with pytest.raises(ValueError, match=pattern):
        getattr(problem, member)(*arguments)


def test_a_model_in_another_type():
    class Both(Linear):
        def __init__(self, dtype="float32"):
            super().__init__()
            self.dtype = dtype

        def astype(self, dtype):
            return Both(dtype)

    assert complete(Both(), "float64").dtype == np.float64


def test_rows_of_any_shape_are_vectors_for_a_network():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 2, 3)), np.arange(9) % 3
    network = softmax(6, 3, "float64")
    theta = rng.normal(size=network.d)
    Y = network.targets(y)
    flat = X.reshape(9, 6)
    np.testing.assert_array_equal(network.gradient(theta, X, Y), network.gradient(theta, flat, Y))
    assert network.loss(theta, X, Y) == network.loss(theta, flat, Y)
    assert network.accuracy(theta, X, y) == network.accuracy(theta, flat, y)


def test_regression():
    """least-squares on float targets finds the line, and its accuracy is R2."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.25
    network = least_squares(3, 0, "float64")
    assert network.metric == "R2"
    theta = np.array([1.0, -2.0, 0.5, 0.25])
    assert network.accuracy(theta, X, y) == pytest.approx(1)
    assert network.loss(theta, X, network.targets(y)) == pytest.approx(0)
    mean = np.array([0.0, 0.0, 0.0, y.mean()])
    assert network.accuracy(mean, X, y[:, None]) == pytest.approx(0)
    assert np.isnan(network.accuracy(mean, X, np.ones(50)))
    with pytest.raises(ValueError, match=r"one target a row, not \(2,\) numbers"):
        network.targets(np.ones((50, 2)))
    for classify in (mlp, softmax):
        with pytest.raises(ValueError, match="numbers as targets: choose --problem least-squares"):
            classify(3, 0)


CODES = [
    {"encoding": "random-diagonal:0.3", "m": 2},
    {"encoding": "exact-trained", "m": 3},
    {"assignment": "fractional-repetition:n=6,delta=3", "encoding": "stacked", "m": 1},
    {"assignment": "cyclic:n=6,delta=3", "encoding": "partial-stragglers", "m": 2},
    {"assignment": "coset:k=5,m=5,generators=0+1+3", "encoding": "random-diagonal:0.5", "m": 5},
]


@pytest.mark.parametrize("kind", [Four, Dropping, OnDevice, Taking, Adding])
@pytest.mark.parametrize("settings", CODES, ids=lambda s: f"{s['encoding']}-m{s['m']}")
@pytest.mark.parametrize("batch", ["1", "rows:9"])
def test_every_seam_trains_and_passes_audits(kind, settings, batch):
    """The server, who computes each subset gradient alone, finds what the workers sent."""
    run = make(**settings, batch=batch, iterations=4, stragglers="bernoulli:q=0.2")
    state, rows = train(run)
    own_state, own_rows = train(with_own(run, kind))
    assert [row.check for row in own_rows] == [1] * 4
    if kind is not Dropping:
        np.testing.assert_allclose(own_state.theta, state.theta, rtol=1e-11, atol=1e-13)
        assert own_rows[-1].loss == pytest.approx(rows[-1].loss, rel=1e-11)
        assert np.isnan(own_rows[-1].accuracy)


def worker_of(run, i=0):
    return Worker(i, run.shared.problem, list(run.shards())[i], run.shared.schemes)


@pytest.mark.parametrize("kind", [Four, OnDevice])
def test_equal_coefficients_cost_one_gradient(kind):
    equal = with_own(make(encoding="stacked", m=2), kind)
    general = with_own(make(encoding="exact-trained", m=2), kind)
    for run, expected in ((equal, 1), (general, 3)):
        worker, own = worker_of(run), run.shared.problem.own
        message = worker.answer(0, 2, run.theta)
        count = own.gradients if kind is OnDevice else len(own.rows_seen)
        assert count == expected
        assert message.y.shape == (-(-own.d // 2),)


def test_coefficients_may_differ_by_part():
    """One gradient serves if each part has the same coefficient in all subsets of the worker."""
    run = make(encoding="stacked", m=2)
    own = with_own(run, Four)
    worker, theta = worker_of(own), run.theta + 0.1
    network = worker_of(run)
    worker.gradients.begin(0, theta)
    network.gradients.begin(0, theta)
    by_part = np.repeat([[1.0], [2.0]], 3, axis=1)
    for coefficients, gradients in ((by_part, 1), (by_part + np.eye(2, 3), 3)):
        own.shared.problem.own.rows_seen.clear()
        y, _ = worker.gradients.message(coefficients)
        assert len(own.shared.problem.own.rows_seen) == gradients
        np.testing.assert_allclose(y, network.gradients.message(coefficients)[0], rtol=1e-11)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_only_the_message_leaves_the_device(m):
    """ceil(d / m) numbers, though three gradients of d numbers are computed."""
    run = with_own(make(problem="mlp:hidden=3", encoding="exact-trained", m=m), OnDevice)
    worker, own = worker_of(run), run.shared.problem.own
    for t in range(4):
        own.left.clear()
        worker.answer(t, m, run.theta)
        assert sum(own.left) == -(-own.d // m)
        assert len(own.left) == (1 if own.d % m == 0 else 2)
    assert own.gradients == 12
    assert own.loads == 4
    assert len(own.puts) == 3, "rows are put on the device once"


def test_the_same_for_partial_work():
    run = make(assignment="cyclic:n=6,delta=3", encoding="partial-stragglers", m=2)
    run = with_own(run, OnDevice)
    worker = PartWorker(1, run.shared.problem, list(run.shards())[1], 2)
    own = run.shared.problem.own
    worker.begin(0, run.theta)
    for position in range(2):
        worker.compute(position)
    y = worker.encode(np.full((2, 2), 0.5))
    assert own.left == [y.size] == [-(-own.d // 2)]
    assert (own.gradients, own.loads, len(own.puts)) == (2, 1, 2)


def test_batches_are_taken_on_the_device_where_a_model_can():
    for kind, puts in ((Taking, 3), (OnDevice, 6)):
        run = with_own(make(batch="rows:5", encoding="exact-trained"), kind)
        shards = list(run.shards())
        worker = Worker(0, run.shared.problem, shards[0], run.shared.schemes, run.shared.sampling)
        for t in range(2):
            worker.answer(t, 2, run.theta)
        sizes = shards[0].sizes if kind is Taking else [5] * 6
        assert run.shared.problem.own.puts == list(sizes)
        assert len(run.shared.problem.own.puts) == puts


@pytest.mark.parametrize("settings", CODES, ids=lambda s: f"{s['encoding']}-m{s['m']}")
def test_a_rehearsal_changes_nothing(settings):
    """It does what an answer does, for every m, and the answers that follow stay the same."""
    run = make(**settings, stragglers="none")
    calls = []
    for rehearsed in (False, True):
        own = with_own(run, Four)
        parts = (1, own.shared.problem, list(own.shards())[1])
        if own.shared.codes.partial:
            worker = PartWorker(*parts, settings["m"])
        else:
            worker = Worker(*parts, own.shared.schemes)
        if rehearsed:
            worker.rehearse()
            assert own.shared.problem.own.rows_seen
        worker_theta = own.theta + 0.1
        if own.shared.codes.partial:
            worker.begin(3, worker_theta)
            for position in range(worker.load):
                worker.compute(position)
            calls.append(worker.encode(np.ones((settings["m"], worker.load))))
        else:
            calls.append(worker.answer(3, settings["m"], worker_theta).y)
    np.testing.assert_array_equal(*calls)


def test_a_rehearsal_is_for_every_m():
    run = with_own(make(m=3, encoding="random-diagonal", switch="observed:tolerance=0.5"), OnDevice)
    worker, own = worker_of(run), run.shared.problem.own
    worker.rehearse(run.theta)
    lengths = {-(-own.d // m) for m in run.shared.schemes}
    assert len(run.shared.schemes) == 3
    assert sum(own.left) == sum(-(-own.d // m) for m in (1, 2, 3))
    assert len(lengths) == 3


def test_holders_of_a_subset_draw_the_same():
    """Dropout by (iteration, subset): the workers' gradients of a subset agree, at any seed."""
    run = with_own(make(seed=3), Dropping)
    theta, sampling = run.theta + 0.1, run.shared.sampling
    drawn = {}
    for i, shard in enumerate(run.shards()):
        worker = Worker(i, run.shared.problem, shard, run.shared.schemes, sampling)
        for t in (0, 1):
            worker.gradients.begin(t, theta)
            for position, j in enumerate(shard.subsets):
                drawn.setdefault((t, j), []).append(worker.gradients.exact(position))
    for gradients in drawn.values():
        assert len(gradients) == 3
        for other in gradients[1:]:
            np.testing.assert_array_equal(gradients[0], other)
    zeros = {key: tuple(gradients[0] == 0) for key, gradients in drawn.items()}
    assert len(set(zeros.values())) > len(zeros) / 2
    other = with_own(make(seed=4), Dropping)
    assert sampling.generator(0, 0).random() != other.shared.sampling.generator(0, 0).random()


class Mean(Four):
    def loss(self, theta, X, Y):
        return super().loss(theta, X, Y) / len(X)


class MeanGradient(Four):
    def gradient(self, theta, X, Y, scale):
        return super().gradient(theta, X, Y, scale) / len(X)


class Nan(Four):
    def loss(self, theta, X, Y):
        return float("nan")


@pytest.mark.parametrize(("kind", "pattern"), [
    (Mean, "Mean: loss must be the SUM of the losses .* divide by no number of rows"),
    (MeanGradient, "MeanGradient: gradient must be of the SUM of the losses"),
    (Nan, "Nan: loss and gradient must be finite, but the loss of the first row is nan"),
])  # fmt: skip
def test_a_mean_is_refused(kind, pattern):
    run = make()
    problem = with_own(run, kind).shared.problem
    with pytest.raises(ValueError, match=pattern):
        check(problem, run.dataset.X, run.dataset.y)


def test_what_is_right_passes_the_check():
    run = make()
    for kind in (Four, Dropping, OnDevice):
        check(with_own(run, kind).shared.problem, run.dataset.X, run.dataset.y)
    check(run.shared.problem, run.dataset.X, run.dataset.y)


def test_own_weighted_parts_are_used():
    class Parts(Four):
        asked = 0

        def weighted_parts(self, theta, X, Y, weights):
            self.asked += 1
            return self.network.weighted_parts(theta, X, Y, weights)

    run = make()
    own = with_own(run, Parts)
    theta = run.theta + 0.1
    mine, ours = worker_of(own).answer(0, 2, theta).y, worker_of(run).answer(0, 2, theta).y
    np.testing.assert_array_equal(mine, ours)
    assert own.shared.problem.own.asked == 1
    assert own.shared.problem.own.rows_seen == []

    class Short(Four):
        def weighted_parts(self, theta, X, Y, weights):
            return np.zeros((2, 1))

    with pytest.raises(ValueError, match=r"weighted_parts.* must have shape \(m, ceil"):
        worker_of(with_own(run, Short)).answer(0, 2, theta)
