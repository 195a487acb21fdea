"""Models of one's own: what they must have, and what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from gcmpi.learning.problem import Ready, complete
from gcmpi.problems import Network, least_squares, mlp, softmax


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
    with pytest.raises(ValueError, match=r"Network computes in float64 .* choose --dtype float64"):
        complete(network, "float32")


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
