"""JAX models as problems: laws, dropout, what is refused."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest

from gcmpi.learning import prepare
from gcmpi.learning.gradients import check
from gcmpi.learning.jax import problem
from gcmpi.learning.problem import complete
from gcmpi.training import Worker
from tests.lazily import Lazily, needs
from tests.own_models import with_net
from tests.test_training import make, train

jax, jnp = Lazily("jax"), Lazily("jax.numpy")
pytestmark = needs("jax", "jax")


def initial(rng):
    return {"W": rng.normal(size=(6, 5)), "b": np.zeros(5), "V": rng.normal(size=(5, 2))}


def scores(parameters, X, mask=1.0):
    hidden = jax.nn.relu(X.reshape(len(X), -1) @ parameters["W"] + parameters["b"])
    return (hidden * mask) @ parameters["V"]


def loss(parameters, X, Y):
    return -jnp.sum(jax.nn.log_softmax(scores(parameters, X))[jnp.arange(len(Y)), Y])


def accuracy(parameters, X, y):
    return (scores(parameters, X).argmax(1) == y).mean()


def dropping(parameters, X, Y, key):
    kept = 1.0 if key is None else 2.0 * jax.random.bernoulli(key, 0.5, (len(X), 5))
    return -jnp.sum(jax.nn.log_softmax(scores(parameters, X, kept))[jnp.arange(len(Y)), Y])


def mean(parameters, X, Y):
    return loss(parameters, X, Y) / len(X)


@pytest.fixture(autouse=True)
def _restored():
    """float64 turns x64 on for the process: leave it as it was."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_is_the_derivative_of_the_loss(dtype):
    net = problem(initial, loss, accuracy).astype(dtype)
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(12, 2, 3)).astype(dtype), np.arange(12) % 2
    theta = net.initial(rng)
    assert (theta.dtype, net.d) == (np.dtype(dtype), 45)
    net.load(theta)
    gradient = net.host(net.gradient(net.rows(X, y), rng))
    assert gradient.dtype == dtype
    direction = rng.normal(size=net.d).astype(dtype)
    step = 1e-6 if dtype == "float64" else 1e-2
    ahead, behind = (net.loss(theta + s * step * direction, X, net.targets(y)) for s in (1, -1))
    expected = (ahead - behind) / (2 * step)
    assert gradient @ direction == pytest.approx(expected, rel=1e-2 if step > 1e-3 else 1e-6)


def test_initial_parameters_follow_from_the_generator():
    net = problem(initial, loss)
    a, b, c = (net.initial(np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    tree = net.parameters(a)
    assert set(tree) == {"W", "b", "V"}
    expected = initial(np.random.default_rng(0))
    np.testing.assert_allclose(tree["V"], expected["V"], rtol=1e-6)


def test_it_travels_as_a_recipe():
    net = problem(initial, loss, accuracy)
    theta = net.initial(np.random.default_rng(0))
    X, y = np.ones((3, 6), np.float32), np.array([0, 1, 0])
    expected = net.loss(theta, X, net.targets(y))
    sent = pickle.dumps(net)
    assert len(sent) < 1000
    twin = pickle.loads(sent)
    assert twin.loss(theta, X, twin.targets(y)) == expected
    assert "loss" in repr(net)


@pytest.mark.parametrize(("settings", "gradients"), [
    ({"encoding": "stacked", "m": 1}, 1), ({"encoding": "exact-trained", "m": 2}, 3),
    ({"assignment": "cyclic:n=6,delta=3", "encoding": "partial-stragglers", "m": 2}, 3),
])  # fmt: skip
@pytest.mark.parametrize("own_loss", [loss, dropping])
@pytest.mark.parametrize("batch", ["1", "rows:8"])
def test_training_passes_audits(settings, gradients, own_loss, batch):
    run = make(**settings, iterations=4, stragglers="bernoulli:q=0.2", batch=batch)
    run = with_net(run, problem(initial, own_loss, accuracy))
    _, rows = train(run)
    assert [row.check for row in rows] == [1] * 4
    assert 0 <= rows[-1].accuracy <= 1


def test_exact_code_follows_plain_descent_in_float32_and_64():
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-4)):
        run = make(encoding="exact-trained", m=2, dtype=dtype, wire=dtype, iterations=10)
        run = with_net(run, problem(initial, loss))
        own = run.shared.problem
        state, _ = train(run)
        assert state.theta.dtype == dtype

        X, y = prepare(run.dataset.X, dtype), run.dataset.y
        rows, theta, optimizer = own.rows(X, y), run.theta, run.optimizer
        for t in range(10):
            own.load(theta)
            g = own.host(own.gradient(rows, np.random.default_rng(0)), own.d)
            theta = optimizer.step(theta, g / len(X), t)
        np.testing.assert_allclose(state.theta, theta, rtol=tolerance, atol=tolerance)


def test_a_key_costs_a_gradient_a_subset():
    for own_loss, count in ((loss, 1), (dropping, 3)):
        seen = []

        @functools.wraps(own_loss)
        def counted(*arguments, own_loss=own_loss, seen=seen, **key):
            jax.debug.callback(lambda: seen.append(1))
            return own_loss(*arguments, **key)

        run = with_net(make(encoding="stacked", m=1), problem(initial, counted))
        worker = Worker(0, run.shared.problem, next(run.shards()), run.shared.schemes)
        jax.effects_barrier()
        seen.clear()
        worker.answer(0, 1, run.theta)
        jax.effects_barrier()
        assert len(seen) == count


def test_gradients_are_compiled_once_for_each_number_of_rows():
    traced = []

    def seen(parameters, X, Y):
        traced.append(len(X))
        return loss(parameters, X, Y)

    run = with_net(make(encoding="exact-trained", m=2, batch="rows:8"), problem(initial, seen))
    worker = Worker(
        0, run.shared.problem, next(run.shards()), run.shared.schemes, run.shared.sampling
    )
    worker.rehearse()
    assert traced
    before = list(traced)
    for t in range(5):
        worker.answer(t, 2, run.theta)
    assert traced == before


def test_a_mean_is_refused():
    net = complete(problem(initial, mean), "float32")
    with pytest.raises(ValueError, match="JaxProblem: loss must be the SUM"):
        check(net, np.ones((4, 6)), np.arange(4) % 2)


def test_without_an_accuracy_it_is_unknown():
    net = problem(initial, loss)
    theta = net.initial(np.random.default_rng(0))
    assert np.isnan(net.accuracy(theta, np.ones((4, 6), np.float32), np.arange(4) % 2))


def test_nothing_of_jax_is_imported_before_it_is_used(alone):
    script = (
        "import sys, pickle, gcmpi.learning.jax as j, gcmpi.learning\n"
        "assert gcmpi.learning.jax is j\n"
        "net = j.problem(print, print)\n"
        "pickle.dumps(net)\n"
        "assert 'jax' not in sys.modules\n"
        "sys.modules['jax'] = None\n"
        "try:\n    net.d\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = alone("-c", script)
    assert done.returncode == 0, done.stderr
    assert "a jax problem needs jax, and it cannot be imported" in done.stdout
