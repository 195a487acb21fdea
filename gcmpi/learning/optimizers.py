"""Optimizers: new parameters from parameters and a gradient.

An optimizer keeps what it remembers in `state`, arrays by name, so that a checkpoint can store it.
A step puts new arrays there and leaves the old ones as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.registry import OPTIMIZERS, called_by_name
from gcmpi.stateful import NOTHING, Arrays, own_state, restore_own


class Optimizer(Protocol):
    """What the training loop asks of an optimizer."""

    state: Arrays

    def step(self, theta: AnyArray, gradient: AnyArray, t: int) -> AnyArray:
        """Return the parameters after iteration t, shape (d,), as a new array."""
        ...


class OwnOptimizer:
    """A user's optimizer, or a user's function (theta, gradient, t) that is the step itself.

    Attributes
    ----------
    restorable
        Whether a resumed run can be the uninterrupted one: a function, or an object with `state`.
    """

    def __init__(self, made: Any) -> None:
        self._made = made
        self._step: Callable[..., object] = getattr(made, "step", made)
        self.restorable = hasattr(made, "state") or not hasattr(made, "step")

    @property
    def state(self) -> Arrays:
        """Copies of the user's `state`, arrays by name; empty where there is none."""
        return own_state(self._made)

    @state.setter
    def state(self, arrays: Arrays) -> None:
        restore_own(self._made, arrays, "optimizer")

    def step(self, theta: AnyArray, gradient: AnyArray, t: int) -> AnyArray:
        """Return the user's step as an array like theta."""
        moved = np.asarray(
            called_by_name(self._step, theta=theta, gradient=gradient, t=t), dtype=theta.dtype
        )
        if moved.shape != theta.shape:
            raise ValueError(
                f"the step must return parameters of shape {theta.shape}, not {moved.shape}"
            )
        return moved


def complete(made: object) -> Optimizer:
    """Return a user's optimizer with the members that it may leave out.

    Raises
    ------
    ValueError
        If it has no step; the message follows the optimizer's name.
    """
    if not callable(getattr(made, "step", made)):
        raise ValueError(
            "must have step(theta, gradient, t) that returns new parameters (d,), or be a "
            f"function of them, not {made!r:.60}"
        )
    return OwnOptimizer(made)


def _positive(name: str, rate: float) -> float:
    if not 0 < rate < np.inf:
        raise ValueError(f"optimizer {name} needs rate > 0 and finite, not rate={rate:g}")
    return rate


def _fraction(name: str, key: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"optimizer {name} needs {key} in [0, 1), not {key}={value:g}")
    return value


@OPTIMIZERS.register("sgd", {"rate": 0.1})
class GradientDescent:
    """Plain (stochastic) gradient descent: theta - rate * gradient."""

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _positive("sgd", rate)
        self.state: Arrays = NOTHING

    def step(self, theta: AnyArray, gradient: AnyArray, t: int) -> AnyArray:
        """Return theta - rate * gradient."""
        moved: AnyArray = theta - self.rate * gradient
        return moved


@OPTIMIZERS.register("momentum", {"rate": 0.1})
class Momentum:
    """Gradient descent with momentum; Nesterov's form looks one step ahead."""

    def __init__(self, rate: float = 0.5, momentum: float = 0.9, nesterov: bool = True) -> None:
        self.rate = _positive("momentum", rate)
        self.momentum = _fraction("momentum", "momentum", momentum)
        self.nesterov = nesterov
        self.state: Arrays = NOTHING

    def step(self, theta: AnyArray, gradient: AnyArray, t: int) -> AnyArray:
        """Return the parameters after one step."""
        velocity = self.momentum * self.state.get("velocity", np.zeros_like(theta)) + gradient
        self.state = {"velocity": velocity}
        moved: AnyArray
        if self.nesterov:
            moved = theta - self.rate * (gradient + self.momentum * velocity)
        else:
            moved = theta - self.rate * velocity
        return moved


@OPTIMIZERS.register("nesterov", {"rate": 0.1})
def nesterov(rate: float = 0.3, momentum: float = 0.9) -> Momentum:
    """Nesterov's accelerated gradient: a step from the point ahead, then momentum.

    x' = theta - rate g and theta' = x' + momentum (x' - x): theta is the point ahead, where
    gradients and audits are taken. It is ``momentum:nesterov=true``, whose velocity is the same
    sequence divided by -rate.

    References
    ----------
    Nesterov, *Introductory Lectures on Convex Optimization*, 2004, section 2.2.
    """
    return Momentum(_positive("nesterov", rate), _fraction("nesterov", "momentum", momentum))


@OPTIMIZERS.register("adam", {"rate": 0.01})
class Adam:
    """Adam (Kingma and Ba 2015): steps scaled by running moments of the gradient."""

    def __init__(self, rate: float = 0.003, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.rate = _positive("adam", rate)
        self.beta1 = _fraction("adam", "beta1", beta1)
        self.beta2 = _fraction("adam", "beta2", beta2)
        self.state: Arrays = NOTHING

    def step(self, theta: AnyArray, gradient: AnyArray, t: int) -> AnyArray:
        """Return the parameters after one step."""
        first = self.state.get("first", np.zeros_like(theta))
        second = self.state.get("second", np.zeros_like(theta))
        first = first + (1 - self.beta1) * (gradient - first)
        second = second + (1 - self.beta2) * (gradient**2 - second)
        self.state = {"first": first, "second": second}
        corrected = self.rate * np.sqrt(1 - self.beta2 ** (t + 1)) / (1 - self.beta1 ** (t + 1))
        moved: AnyArray = theta - theta.dtype.type(corrected) * first / (np.sqrt(second) + 1e-8)
        return moved


@OPTIMIZERS.register("lbfgs", {"rate": 0.5, "history": 3})
class LimitedMemory:
    """L-BFGS with a fixed rate: the last few changes of theta and gradient make the step.

    theta - rate H g, H the BFGS matrix of the last `history` pairs s = change of theta and
    y = change of the decoded gradient + damping s, on the start (s'y / y'y) I of the last pair.
    Before the first pair it is a plain step. There is no line search, which would need losses. A
    pair with s'y below a millionth of ||s|| ||y|| is left out: H stays positive definite, and with
    `damping` above 0 its pairs belong to a function that curves at least so much.

    References
    ----------
    Liu and Nocedal, *On the limited memory BFGS method*, Mathematical Programming 45, 1989.
    """

    def __init__(self, rate: float = 0.3, history: int = 10, damping: float = 0.0) -> None:
        self.rate = _positive("lbfgs", rate)
        if history < 1 or not 0 <= damping < np.inf:
            raise ValueError(
                "optimizer lbfgs needs history >= 1, and damping >= 0 and finite, not "
                f"history={history}, damping={damping:g}"
            )
        self.history, self.damping = history, damping
        self.state: Arrays = NOTHING

    def step(self, theta: AnyArray, gradient: AnyArray, t: int) -> AnyArray:
        """Return the parameters after one step."""
        S, Y = self._pairs(theta, gradient)
        self.state = {"theta": theta.copy(), "gradient": gradient.copy(), "S": S, "Y": Y}
        moved: AnyArray = theta - theta.dtype.type(self.rate) * inverse_times(S, Y, gradient)
        return moved

    def _pairs(self, theta: AnyArray, gradient: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return the pairs with the newest one, each (pairs, d), the oldest first."""
        if not self.state:
            none = np.empty((0, theta.size), theta.dtype)
            return none, none
        S, Y = self.state["S"], self.state["Y"]
        s = theta - self.state["theta"]
        y = gradient - self.state["gradient"] + theta.dtype.type(self.damping) * s
        if float(s @ y) <= 1e-6 * float(np.linalg.norm(s)) * float(np.linalg.norm(y)):
            return S, Y
        return np.vstack([S, s])[-self.history :], np.vstack([Y, y])[-self.history :]


def inverse_times(S: AnyArray, Y: AnyArray, gradient: AnyArray) -> AnyArray:
    """Return H g by the two loops of L-BFGS; g itself without pairs.

    Parameters
    ----------
    S, Y : (pairs, d)
        Changes of theta and of the gradient with s'y > 0, the oldest first.
    gradient : (d,)
    """
    direction: AnyArray = gradient.copy()
    if not len(S):
        return direction
    curvatures = np.einsum("pd,pd->p", S, Y)
    weights = np.empty_like(curvatures)
    for index in range(len(S) - 1, -1, -1):
        weights[index] = S[index] @ direction / curvatures[index]
        direction -= weights[index] * Y[index]
    direction *= curvatures[-1] / (Y[-1] @ Y[-1])
    for s, y, weight, curvature in zip(S, Y, weights, curvatures, strict=True):
        direction += (weight - y @ direction / curvature) * s
    return direction
