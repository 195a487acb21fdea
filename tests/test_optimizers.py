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
