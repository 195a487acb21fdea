"""The problems: d parameters, a loss over rows of data, and its gradient.

A model maps rows X (r, p) to scores (r, c); a head turns scores and targets into a loss a row
and its derivative with respect to the scores. Parameters are one flat vector theta (d,), cut
into the model's arrays by views. numpy only: workers import this module.

With ``l2`` the loss of EVERY row has l2/2 ||theta||^2 in addition, over all parameters, biases
too. The mean training loss then has it once, a subset has it by its share of the rows, and a
coded message, a mini-batch and a lost subset treat it like the rest of the loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray
from gcmpi.codes.code import message_length
from gcmpi.learning.problem import Ready, determination
from gcmpi.registry import PROBLEMS

Head = Callable[[AnyArray, AnyArray], tuple[AnyArray, AnyArray]]


class Network(Ready):
    """A fully connected network without hidden layers (a linear model) or with some (an MLP).

    Rows may have any shape: they are used as vectors.

    Parameters
    ----------
    widths
        Numbers of units from the input to the output; ReLU between the layers.
    head
        The loss; see `sigmoid_head`, `softmax_head`, `squared_head`.
    classes
        Labels are 0 to classes - 1. With two classes and one output the target is the label
        itself, else it is one-hot. With 0 classes targets are numbers: a regression.
    dtype
        float32 or float64.
    l2
        The loss of every row has l2/2 ||theta||^2 in addition.

    Attributes
    ----------
    d
        The number of parameters.
    metric
        What `accuracy` returns: the fraction of correct labels, or R2 of a regression.
    strong_convexity
        The mean loss minus this half of ||theta||^2 is convex: l2 of a linear model, whose losses
        are convex; 0 with hidden layers.

    Raises
    ------
    ValueError
        If l2 is negative or not finite.
    """

    def __init__(
        self,
        widths: Sequence[int],
        head: Head,
        classes: int,
        dtype: npt.DTypeLike = np.float32,
        l2: float = 0.0,
    ) -> None:
        if not 0 <= l2 < np.inf:
            raise ValueError(f"l2 must be at least 0 and finite, not {l2:g}: l2=0 adds nothing")
        self.widths = tuple(widths)
        self.head = head
        self.classes = classes
        self.l2 = l2
        self.strong_convexity = l2 if len(self.widths) == 2 else 0.0
        self.dtype = np.dtype(dtype)
        self.metric = "accuracy" if classes else "R2"
        self.d = sum((p + 1) * q for p, q in itertools.pairwise(widths))

    def astype(self, dtype: npt.DTypeLike) -> Network:
        """Return the network in another type."""
        return Network(self.widths, self.head, self.classes, dtype, self.l2)

    def initial(self, rng: np.random.Generator) -> AnyArray:
        """Return initial parameters, shape (d,): normal weights of variance 2/p (He), zero biases.

        Linear models start from zero.
        """
        theta = np.zeros(self.d, self.dtype)
        if len(self.widths) > 2:
            for W, _ in self._layers(theta):
                W[...] = rng.normal(0, np.sqrt(2 / len(W)), W.shape)
        return theta

    def targets(self, y: AnyArray) -> AnyArray:
        """Return what the scores are compared with, shape (r, c), from labels y (r,).

        Raises
        ------
        ValueError
            If the targets of a regression are not one number a row.
        """
        if not self.classes and y.size != len(y):
            raise ValueError(
                f"least-squares needs one target a row, not {y.shape[1:]} numbers: choose a "
                "problem of your own for more"
            )
        if self.widths[-1] == 1:
            return y.reshape(-1, 1).astype(self.dtype)
        one_hot: AnyArray = np.eye(self.classes, dtype=self.dtype)[y]
        return one_hot

    def loss(self, theta: AnyArray, X: AnyArray, Y: AnyArray) -> float:
        """Return the sum of the losses of the rows X (r, *shape) with targets Y (r, c)."""
        loss = float(self.head(self._forward(theta, X)[-1], Y)[0].sum(dtype=np.float64))
        if self.l2:
            loss += len(X) * self.l2 / 2 * float(np.sum(theta.astype(np.float64) ** 2))
        return loss

    def gradient(
        self, theta: AnyArray, X: AnyArray, Y: AnyArray, scale: float | AnyArray = 1.0
    ) -> AnyArray:
        """Return the gradient of the scaled sum of the losses of the rows, shape (d,).

        Parameters
        ----------
        theta : (d,)
            Parameters.
        X, Y : (r, *shape), (r, c)
            Rows and their targets.
        scale : scalar or (r,)
            Weight of each row.
        """
        weights = np.broadcast_to(np.asarray(scale), (1, len(X)))
        whole: AnyArray = self.weighted_parts(theta, X, Y, weights)[0]
        return whole

    def weighted_parts(
        self, theta: AnyArray, X: AnyArray, Y: AnyArray, weights: AnyArray
    ) -> AnyArray:
        """Return part u of the gradient with row weights ``weights[u]``, for every u.

        All parts together cost as much as one gradient: forward and backward pass do not depend
        on the weights, and the derivatives by the parameters of a part are computed for it alone.

        Parameters
        ----------
        theta : (d,)
            Parameters.
        X, Y : (r, *shape), (r, c)
            Rows and their targets.
        weights : (m, r)
            Weight of each row, for each of m consecutive parts of the gradient.

        Returns
        -------
        parts : (m, ceil(d / m)), the last one padded with zeros
        """
        inputs = self._forward(theta, X)
        back = self.head(inputs.pop(), Y)[1]
        m = len(weights)
        parts = np.zeros((m, message_length(self.d, m)), self.dtype)
        columns = np.asarray(weights, dtype=self.dtype)[:, :, None]
        end = self.d
        for index in range(len(inputs) - 1, -1, -1):
            x = inputs[index]
            start = end - (x.shape[1] + 1) * back.shape[1]
            for part, column, first in zip(
                parts, columns, range(0, parts.size, parts.shape[1]), strict=True
            ):
                a, b = max(start, first), min(end, first + part.size)
                if a < b:
                    part[a - first : b - first] = _layer(x, column * back, a - start, b - start)
            if index:
                back = back @ self._layers(theta)[index][0].T
                back *= x > 0
            end = start
        if self.l2:
            shares = self.l2 * np.asarray(weights).sum(axis=1)
            for part, share, first in zip(
                parts, shares, range(0, parts.size, parts.shape[1]), strict=True
            ):
                own = theta[first : first + part.size]
                part[: own.size] += self.dtype.type(share) * own
        return parts

    def accuracy(self, theta: AnyArray, X: AnyArray, y: AnyArray) -> float:
        """Return the fraction of the rows X whose label y (r,) is predicted.

        Of a regression it is the coefficient of determination: 1 minus the squared errors over
        the squared distances from the mean; NaN if all targets are the same.
        """
        scores = self._forward(theta, X)[-1]
        if not self.classes:
            return determination(scores[:, 0], y.reshape(-1))
        if scores.shape[1] == 1:
            middle = 0.5 if self.head is squared_head else 0.0
            predicted = (scores[:, 0] > middle).astype(y.dtype)
        else:
            predicted = scores.argmax(axis=1)
        return float(np.mean(predicted == y))

    def _layers(self, theta: AnyArray) -> list[tuple[AnyArray, AnyArray]]:
        """Return (W (p, q), b (q,)) of every layer as views of theta."""
        layers, start = [], 0
        for p, q in zip(self.widths, self.widths[1:], strict=False):
            W = theta[start : start + p * q].reshape(p, q)
            layers.append((W, theta[start + p * q : start + (p + 1) * q]))
            start += (p + 1) * q
        return layers

    def _forward(self, theta: AnyArray, X: AnyArray) -> list[AnyArray]:
        """Return the input of every layer, and the scores last."""
        layers = self._layers(theta)
        values = [X.reshape(len(X), -1)]
        for index, (W, b) in enumerate(layers):
            z = values[-1] @ W
            z += b
            values.append(np.maximum(z, 0, out=z) if index < len(layers) - 1 else z)
        return values


def _layer(x: AnyArray, back: AnyArray, a: int, b: int) -> AnyArray:
    """Return entries a to b of a layer's derivatives [x'back; 1'back], row by row."""
    p, q = x.shape[1], back.shape[1]
    first, last = a // q, -(-b // q)
    rows = np.empty((last - first, q), back.dtype)
    np.matmul(x[:, first:last].T, back, out=rows[: min(last, p) - first])
    if last > p:
        np.sum(back, axis=0, out=rows[-1])
    return rows.ravel()[a - first * q : b - first * q]


def sigmoid_head(scores: AnyArray, Y: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Binary cross-entropy of sigmoid outputs, summed over the outputs."""
    # log(1 + exp(s)) - y s, without overflow; exp(-|s|) serves the loss and the sigmoid
    small = np.exp(-np.abs(scores))
    loss = np.maximum(scores, 0) + np.log1p(small) - Y * scores
    sigmoid = np.where(scores >= 0, 1, small) / (1 + small)
    return loss.sum(axis=1), sigmoid - Y


def softmax_head(scores: AnyArray, Y: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Cross-entropy of the softmax."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    total = exponential.sum(axis=1, keepdims=True)
    loss = np.log(total[:, 0]) - (shifted * Y).sum(axis=1)
    return loss, exponential / total - Y


def squared_head(scores: AnyArray, Y: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Half the squared distance to the target."""
    residual = scores - Y
    return (residual**2).sum(axis=1) / 2, residual


def _outputs(classes: int) -> int:
    return 1 if classes in (0, 2) else classes


def _only_classes(name: str, classes: int) -> None:
    """Refuse targets that are no labels."""
    if not classes:
        raise ValueError(
            f"problem {name} is for labels 0, 1, ..., and the data set has numbers as targets: "
            "choose --problem least-squares, or a problem of your own"
        )


@PROBLEMS.register("mlp", {"hidden": 8}, {"hidden": 4, "l2": 0.3})
def mlp(
    features: int, classes: int, dtype: Any = np.float32, hidden: int = 128, l2: float = 0.0
) -> Network:
    """One hidden ReLU layer, sigmoid outputs, binary cross-entropy on one-hot labels.

    With 784 features, 10 classes and 128 hidden units it is the network of the paper's
    experiment (section 6), d = 101,770.
    """
    _only_classes("mlp", classes)
    if hidden < 1:
        raise ValueError(f"problem mlp needs hidden >= 1, not hidden={hidden}")
    return Network((features, hidden, classes), sigmoid_head, classes, dtype, l2)


@PROBLEMS.register("softmax", {}, {"l2": 0.3})
def softmax(features: int, classes: int, dtype: Any = np.float32, l2: float = 0.0) -> Network:
    """Linear scores, cross-entropy of the softmax."""
    _only_classes("softmax", classes)
    return Network((features, classes), softmax_head, classes, dtype, l2)


@PROBLEMS.register("logistic", {}, {"l2": 0.3})
def logistic(features: int, classes: int, dtype: Any = np.float32, l2: float = 0.0) -> Network:
    """Logistic regression; with more than two classes, one against the rest for each."""
    _only_classes("logistic", classes)
    return Network((features, _outputs(classes)), sigmoid_head, classes, dtype, l2)


@PROBLEMS.register("least-squares", {}, {"l2": 0.3})
def least_squares(features: int, classes: int, dtype: Any = np.float32, l2: float = 0.0) -> Network:
    """Linear regression on the label (two classes), on one-hot labels, or on float targets."""
    return Network((features, _outputs(classes)), squared_head, classes, dtype, l2)
