"""A module of parts as a user would write it: tests import it by its dotted names."""

from __future__ import annotations

import numpy as np

import gcmpi


def gaussian(A, m, rng, epsilon=0.1):
    """Random columns around the stacked code."""
    return gcmpi.encodings.stacked(A, m) * rng.normal(1, epsilon, A.shape[1])


def everything(A, m, s):
    """No more than everything is lost."""
    return float(m * A.shape[0]) if s >= 0 else 0.0


@gcmpi.encoding(redrawn=True, theorem=everything)
def redrawn(A, m, rng, epsilon: float = 0.1):
    return gaussian(A, m, rng, epsilon)


def ring(n: int = 7):
    return np.eye(n, dtype=int) + np.roll(np.eye(n, dtype=int), 1, axis=0)


def plain_decoder(code, survivors):
    return code.decode(survivors)


class Late:
    """A straggler model with a state that only its seed fixes."""

    def __init__(self, n, seed, mean=0.01):
        self.n, self.seed, self.mean = n, seed, mean

    def delays(self, t):
        return np.random.default_rng((self.seed, t)).exponential(self.mean, self.n)


def late_now(t, n, mean=0.01):
    return np.linspace(0, mean, n) * (t % 3)


def rule(answered, elapsed, seconds=0.05):
    return 0.0 if answered.all() else seconds - elapsed


class CountingRule:
    def __init__(self, count: int = 3):
        self.count = count

    def remaining(self, answered, elapsed):
        return 0.0 if answered.sum() >= self.count else np.inf


def step(theta, gradient, t, rate=0.1):
    return theta - rate * gradient


class Heavy:
    """Momentum with a state that checkpoints keep."""

    def __init__(self, rate=0.1):
        self.rate, self.state = rate, {}

    def step(self, theta, gradient, t):
        v = self.state.setdefault("v", np.zeros_like(theta))
        v *= 0.5
        v += gradient
        return theta - self.rate * v


class Half:
    """Sends every other entry: half of the elements."""

    def __init__(self, length, dtype):
        self.elements = -(-length // 2)

    def pack(self, y, t, worker, out):
        out[...] = y[::2]

    def unpack(self, sent, scale, t, worker, out):
        out[...] = 0
        out[::2] = sent


class Patient:
    """Waits as long as the answers took so far in the mean: it learns, and shows what."""

    def __init__(self):
        self.state = {"seconds": np.zeros(0)}

    def remaining(self, answered, elapsed):
        known = self.state["seconds"]
        left = known.mean() - elapsed if known.size else np.inf
        return 0.0 if answered.all() else left if left > 1e-9 else 0.0

    def observe(self, seconds):
        self.state["seconds"] = np.append(self.state["seconds"], seconds)


class Feedback(Half):
    """Sends every other entry, and adds what it left out to the next message."""

    def __init__(self, length, dtype):
        super().__init__(length, dtype)
        self.state = {"left": np.zeros(length)}

    def pack(self, y, t, worker, out):
        self.state["left"] += y
        super().pack(self.state["left"], t, worker, out)
        self.state["left"][::2] = 0


class Learning(Patient):
    """Learns, and does not show what."""

    def __init__(self):
        super().__init__()
        self.seconds = self.__dict__.pop("state")["seconds"]

    def remaining(self, answered, elapsed):
        return 0.0 if answered.all() else max(0.0, 1.0 - elapsed)

    def observe(self, seconds):
        self.seconds = np.append(self.seconds, seconds)


class Forgetful:
    """Plain descent, as a class: nobody can see that it remembers nothing."""

    def step(self, theta, gradient, t):
        return theta - 0.1 * gradient


class Hiding(Half):
    """Says that it remembers something, and does not show what."""

    remembers = True


def blobs(rng, rows: int = 120):
    y = rng.integers(0, 3, rows)
    return rng.normal(size=(rows, 4)) + y[:, None], y


class Linear:
    """Least squares on the labels: the four members and nothing else."""

    def __init__(self, features, power: float = 1.0):
        self.d, self.power = features + 1, power

    def initial(self, rng):
        return 0.1 * rng.normal(size=self.d)

    def loss(self, theta, X, Y):
        return float(np.sum((X @ theta[:-1] + theta[-1] - Y) ** 2) / 2)

    def gradient(self, theta, X, Y, scale):
        residual = scale * (X @ theta[:-1] + theta[-1] - Y)
        return np.append(X.T @ residual, residual.sum())


net = Linear(4)
table = np.array([[0.0, 0.0, 0.02, 0.0, 0.0, 0.0, np.inf]])


def wrong_shape(A, m):
    return np.ones((3, 3))


def outside(A, m):
    return np.ones((m * A.shape[0], A.shape[1]))


def raises(A, m):
    return {}["missing"]


def positional(A, m, /):
    return A


def needs_option(A, m, ridge):
    return A


def not_a_matrix():
    return [[0, 2], [1, 1]]


def negative(t, n):
    return -np.ones(n)


def bad_step(theta, gradient):
    return theta[:1]


def bad_rule(answered):
    return None


def bad_decoder(code, survivors):
    return np.ones((code.n, code.m))


class NoLoss:
    def __init__(self, features):
        self.d = features

    def initial(self, rng):
        return np.zeros(self.d)

    def gradient(self, theta, X, Y, scale):
        return np.zeros(self.d)


class MeanLoss(Linear):
    def loss(self, theta, X, Y):
        return super().loss(theta, X, Y) / len(X)


def bad_data(rng):
    return np.ones((3, 2)), np.zeros(4)
