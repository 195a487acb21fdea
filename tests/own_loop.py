"""A numpy model for loops of your own: three classes, a hidden layer, float32."""

from __future__ import annotations

import numpy as np

import gcmpi

ROWS, TEST, FEATURES, HIDDEN, CLASSES = 150, 30, 6, 5, 3
SHAPES = ((FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,))
D = sum(int(np.prod(shape)) for shape in SHAPES)
A = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]])
"""Three workers with two subsets each, every subset on two workers: four ranks."""

_rng = np.random.default_rng(5)
X, X_TEST = np.split(_rng.normal(size=(ROWS + TEST, FEATURES)).astype(np.float32), [ROWS])
Y, Y_TEST = (np.argmax(x[:, :CLASSES], axis=1) for x in (X, X_TEST))


def initial() -> np.ndarray:
    return (0.5 * np.random.default_rng(7).normal(size=D)).astype(np.float32)


def _layers(theta):
    ends = np.cumsum([np.prod(shape) for shape in SHAPES])[:-1]
    pieces = zip(np.split(theta, ends), SHAPES, strict=True)
    return [piece.reshape(shape) for piece, shape in pieces]


def _forward(theta, x):
    W, b, V, c = _layers(theta)
    hidden = np.tanh(x @ W + b)
    scores = hidden @ V + c
    scores = scores - scores.max(axis=1, keepdims=True)
    return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def loss(theta, x, y) -> float:
    """Return the sum of the losses of the rows."""
    return float(-_forward(theta, x)[1][np.arange(len(y)), y].sum(dtype=np.float64))


def accuracy(theta, x, y) -> float:
    return float(np.mean(_forward(theta, x)[1].argmax(axis=1) == y))


def gradient(theta, x, y):
    """Return the gradient of the sum of the losses of the rows, shape (d,)."""
    V = _layers(theta)[2]
    hidden, log = _forward(theta, x)
    back = np.exp(log)
    back[np.arange(len(y)), y] -= 1
    below = (back @ V.T) * (1 - hidden**2)
    parts = (x.T @ below, below.sum(axis=0), hidden.T @ back, back.sum(axis=0))
    return np.concatenate([part.ravel() for part in parts])


class Problem:
    """The same model as a part of an ordinary run."""

    d = D

    def initial(self, rng):
        return initial()

    def loss(self, theta, X, Y):
        return loss(theta, X, Y)

    def gradient(self, theta, X, Y, scale):
        return scale * gradient(theta, X, Y)

    def accuracy(self, theta, X, y):
        return accuracy(theta, X, y)


def data():
    return X, Y, X_TEST, Y_TEST


def loop(**settings) -> gcmpi.CodedLoop:
    """Return a loop over the rows; what is given wins."""
    usual = {
        "assignment": A, "encoding": "harmonic", "m": 2, "iterations": 20, "audit_every": 5,
        "optimizer": "momentum:rate=0.2", "stragglers": "none", "wait": "all",
    }  # fmt: skip
    return gcmpi.CodedLoop(**{"rows": ROWS, "initial": initial, **usual, **settings})


def work(loop: gcmpi.CodedLoop, batch: int | None = None, audited: bool = True) -> None:
    """Go through a loop; with all rows of a subset, or a batch."""
    for step in loop:
        for j in step.subsets:
            rows = loop.rows[j]
            if batch is not None:
                rows = step.rng(j).choice(rows, batch, replace=False)
            step.add(j, gradient(step.theta, X[rows], Y[rows]), scale=step.scale(j, len(rows)))
        if step.audit and audited:
            step.report(
                loss=loss(step.theta, X[step.rows], Y[step.rows]),
                accuracy=accuracy(step.theta, X_TEST, Y_TEST) if loop.worker == 1 else None,
            )
