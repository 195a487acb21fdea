"""Optimizers against their textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest

from gcmpi.registry import OPTIMIZERS

G = [np.array([1.0, -2.0]), np.array([0.5, 0.5]), np.array([-1.0, 3.0])]


def run(text: str, dtype: str = "float64") -> list[np.ndarray]:
    optimizer = OPTIMIZERS.build(text)
    theta, path = np.zeros(2, dtype), []
    for t, g in enumerate(G):
        theta = optimizer.step(theta, g.astype(dtype), t)
        path.append(theta)
    return path


def test_sgd():
    np.testing.assert_allclose(run("sgd:rate=0.1")[-1], -0.1 * sum(G))


def test_heavy_ball():
    v = theta = np.zeros(2)
    for g, got in zip(G, run("momentum:rate=0.1,momentum=0.8,nesterov=false"), strict=True):
        v = 0.8 * v + g
        theta = theta - 0.1 * v
        np.testing.assert_allclose(got, theta)


def test_nesterov_is_the_gradient_at_the_point_ahead():
    """In the variables of Sutskever et al., phi = theta + momentum v, the steps coincide."""
    v = phi = np.zeros(2)
    for g, got in zip(G, run("momentum:rate=0.1,momentum=0.8"), strict=True):
        previous = phi - 0.8 * v
        v = 0.8 * v - 0.1 * g
        theta = previous + v
        phi = theta + 0.8 * v
        np.testing.assert_allclose(got, phi)


def test_nesterov_as_it_is_written():
    """x' = y - rate g(y), y' = x' + momentum (x' - x)."""
    x = y = np.zeros(2)
    for g, got in zip(G, run("nesterov:rate=0.1,momentum=0.8"), strict=True):
        before, x = x, y - 0.1 * g
        y = x + 0.8 * (x - before)
        np.testing.assert_allclose(got, y)


def quadratic(d: int = 6):
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (Q * np.logspace(-2, 1, d)) @ Q.T, rng.normal(size=d)


def test_lbfgs_is_bfgs_of_its_last_pairs():
    """Dense BFGS updates H' = V'HV + ss'/(s'y), V = I - ys'/(s'y), on a quadratic."""
    A, b = quadratic()
    optimizer = OPTIMIZERS.build("lbfgs:rate=0.2,history=3,damping=0.05")
    thetas, gradients = [np.ones(6)], []
    for t in range(8):
        theta, g = thetas[-1], A @ thetas[-1] - b
        gradients.append(g)
        thetas.append(optimizer.step(theta, g, t))
        S = np.diff(thetas[:-1], axis=0)[-3:]
        Y = (np.diff(gradients, axis=0) + 0.05 * np.diff(thetas[:-1], axis=0))[-3:]
        H = np.eye(6) * (S[-1] @ Y[-1] / (Y[-1] @ Y[-1]) if t else 1)
        for s, y in zip(S, Y, strict=True):
            V = np.eye(6) - np.outer(y, s) / (s @ y)
            H = V.T @ H @ V + np.outer(s, s) / (s @ y)
        np.testing.assert_allclose(thetas[-1], theta - 0.2 * H @ g, rtol=1e-9, atol=1e-12)


def test_lbfgs_beats_the_condition_number_and_survives_noise():
    A, b = quadratic()
    best = np.linalg.solve(A, b)

    def distance(text: str, noise: float = 0.0) -> float:
        optimizer, theta = OPTIMIZERS.build(text), np.zeros(6)
        rng = np.random.default_rng(0)
        for t in range(60):
            g = A @ theta - b
            theta = optimizer.step(theta, g + noise * rng.normal(size=6), t)
        return float(np.linalg.norm(theta - best) / np.linalg.norm(best))

    assert distance("lbfgs:rate=1,history=6") < 1e-6
    assert distance("sgd:rate=0.15") > 0.1, "condition number 1,000"
    assert distance("lbfgs:rate=0.3,damping=0.1", noise=0.1) < 1
    # a pair that would make H indefinite is left out
    optimizer = OPTIMIZERS.build("lbfgs:rate=0.1")
    first = optimizer.step(np.zeros(2), np.array([1.0, 0.0]), 0)
    second = optimizer.step(first, np.array([2.0, 0.0]), 1)
    assert len(optimizer.state["S"]) == 0
    np.testing.assert_allclose(second, first - [0.2, 0.0])


def test_adam():
    first = second = np.zeros(2)
    theta = np.zeros(2)
    for t, (g, got) in enumerate(zip(G, run("adam:rate=0.01"), strict=True), 1):
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        step = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        theta = theta - 0.01 * step
        np.testing.assert_allclose(got, theta, rtol=1e-5)


@pytest.mark.parametrize("part", list(OPTIMIZERS), ids=lambda part: part.name)
def test_keeps_the_type_and_does_not_touch_its_input(part):
    optimizer = part.function()
    theta, g = np.ones(3, np.float32), np.ones(3, np.float32)
    new = optimizer.step(theta, g, 0)
    assert new.dtype == np.float32
    assert (theta == 1).all()
    assert (new < 1).all()
    assert all(value.dtype == np.float32 for value in optimizer.state.values())


def test_refusals():
    with pytest.raises(ValueError, match="rate > 0"):
        OPTIMIZERS.build("sgd:rate=0")
    with pytest.raises(ValueError, match=r"momentum in \[0, 1\)"):
        OPTIMIZERS.build("momentum:momentum=1")
    with pytest.raises(ValueError, match="nesterov needs rate > 0"):
        OPTIMIZERS.build("nesterov:rate=-1")
    with pytest.raises(ValueError, match="history >= 1, and damping >= 0"):
        OPTIMIZERS.build("lbfgs:history=0")
