"""The laws of a model: parameters, a loss that is a sum over rows, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.code import message_length
from gcmpi.registry import PROBLEMS
from gcmpi.testing.derivatives import check_gradient
from gcmpi.testing.models import Model, Rows
from gcmpi.testing.parts import Own, Place, part

ROWS = 12


def check_problem(
    problem: object,
    *,
    shape: int | Sequence[int] = (5,),
    classes: int = 3,
    rows: tuple[AnyArray, AnyArray] | None = None,
    dtype: str = "float64",
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Check the laws of a model.

    ============== ============================================================================
    members        d, initial, loss and gradient are there; d is a whole number
    initial        d finite numbers, all randomness from rng
    targets        one for each row: targets(y)[some] = targets(y[some])
    sum            the loss is the SUM over rows: losses of two batches add up, and a row that
                   comes twice counts twice; so do gradients
    gradient       it is the derivative of the loss: central differences along single
                   parameters (all, or 200 of them) and along random directions
    scale          gradient(..., scale) is scale times the gradient
    inputs         theta, X and Y stay as they are, and theta is not kept: it may be a view of a
                   buffer that the next message overwrites
    result         a gradient that was returned stays as it is
    parts          where the model has weighted_parts: part u is that of the gradient with row
                   weights weights[u], padded with zeros
    accuracy       where the model has it: a number, within 0 and 1 if it is an accuracy
    float32        where the model is made by a function of dtype: float32 follows float64
    ============== ============================================================================

    Parameters
    ----------
    problem
        A function or class of features, shape, classes, dtype and options; an object with the
        members; or a name with options, ``"mlp:hidden=8"``.
    shape
        The shape of a row.
    classes
        The number of labels; 0 for float targets (regression).
    rows : X (r, *shape), y (r,)
        Rows to use in place of random ones; a few suffice.
    dtype
        The type of parameters in which the laws are checked. Differences of float32 losses are
        good to two digits only.
    seed
        Seed of the rows, parameters and directions.
    tolerance
        Relative difference that counts as none; the cube root of the type's precision unless
        given.

    Raises
    ------
    AssertionError
        If a law is broken: which, where and by how much.
    ValueError, TypeError
        If there is no such model, or it is nothing that makes one.
    """
    own = part(PROBLEMS, problem, ready=("initial", "loss", "gradient"))
    X, y = _examples(shape, classes, seed) if rows is None else map(np.asarray, rows)
    make = _maker(own, X.shape[1:], classes)
    place = Place(own.what, f"rows of shape {X.shape[1:]}, {len(X)} rows, seed={seed}")
    model = _Laws(place, make(dtype), dtype, seed)
    try:
        _check(model, X, y, tolerance)
        if "dtype" in own.takes and model.dtype == np.float64:
            narrow = _Laws(place, make("float32"), "float32", seed)
            _check_float32(model, narrow, model.check_initial(), X, y)
    except AssertionError:
        raise
    except Exception as error:  # the model refuses or fails where it must not
        raise place.broken(
            "runs", f"{type(error).__name__}: {error} (shape= and classes= say what rows it gets)"
        ) from error


def _check(model: _Laws, X: AnyArray, y: AnyArray, tolerance: float | None) -> None:
    """Check the laws of a model that has been made."""
    model.check_members()
    data = model.data(X, y)
    theta = model.check_initial()
    model.check_targets(data)
    model.check_inputs(theta, data)  # what changes X would mislead the checks below
    model.check_sum(theta, data)
    check_gradient(model, theta, data, tolerance)
    model.check_scale(theta, data)
    model.check_parts(theta, data)
    model.check_accuracy(theta, data)


def _examples(shape: int | Sequence[int], classes: int, seed: int) -> tuple[AnyArray, AnyArray]:
    """Return random rows with labels, or with float targets."""
    rng = np.random.default_rng([seed, 1])
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    X = rng.normal(size=(ROWS, *shape))
    y = rng.permutation(np.arange(ROWS) % classes) if classes else rng.normal(size=ROWS)
    return X, y


def _maker(own: Own, shape: tuple[int, ...], classes: int) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        features = math.prod(shape)
        return own(features=features, shape=shape, classes=classes, dtype=np.dtype(dtype))

    return make


class _Laws(Model):
    """The laws, for one model."""

    def check_initial(self) -> AnyArray:
        """Check the initial parameters and return parameters near them."""
        first, again = (
            np.asarray(self.own.initial(np.random.default_rng(self.seed))) for _ in range(2)
        )
        d = int(self.own.d)
        if first.shape != (d,) or first.dtype.kind not in "fiu" or not np.isfinite(first).all():
            raise self.place.broken(
                "initial",
                f"initial(rng) must be d = {d} finite numbers, not {first.dtype} of shape "
                f"{first.shape}",
            )
        if not np.array_equal(first, again):
            raise self.place.broken(
                "initial",
                f"the same generator gives parameters that differ in "
                f"{np.count_nonzero(first != again)} of {d} places; all randomness must come from "
                "rng",
            )
        near = first + 0.1 * np.random.default_rng([self.seed, 2]).normal(size=d)
        theta: AnyArray = near.astype(self.dtype)
        return theta

    def check_targets(self, rows: Rows) -> None:
        """Check that targets belong to rows."""
        Y = rows.Y
        if Y.ndim < 1 or len(Y) != len(rows):
            raise self.place.broken(
                "targets", f"targets(y) must have {len(rows)} rows, one for each y, not {Y.shape}"
            )
        some = np.arange(len(rows))[::-2]
        if not np.array_equal(self.targets(rows.y[some]), Y[some]):
            raise self.place.broken("targets", "targets(y[some]) is not targets(y)[some]")

    def check_sum(self, theta: AnyArray, rows: Rows) -> None:
        """Check that losses and gradients of rows add up."""
        cut = max(1, len(rows) // 3)
        a, b = rows[:cut], rows[cut:]
        whole, halves = self.loss(theta, rows), self.loss(theta, a) + self.loss(theta, b)
        close = 1e3 * self.precision * len(rows)
        if abs(whole - halves) > close * max(abs(whole), abs(halves)):
            mean = abs(whole - self._mean(theta, a, b)) <= close * abs(whole)
            raise self.place.broken(
                "sum",
                f"the loss of {len(rows)} rows is {whole:.9g}, but the losses of the first {cut} "
                f"and of the other {len(rows) - cut} add up to {halves:.9g}"
                + ("; this loss is the mean over rows, and must be the sum" if mean else ""),
            )
        once = self.loss(theta, rows[:1])
        twice = self.loss(theta, rows[[0, 0]])
        if abs(twice - 2 * once) > close * max(abs(twice), abs(once)):
            raise self.place.broken(
                "sum", f"row 0 has the loss {once:.9g}, and {twice:.9g} when it comes twice"
            )
        if self.draws:  # every batch draws for itself
            return
        added = self.copy(theta, a) + self.copy(theta, b)
        self.same("sum", "gradients of two batches add up to", self.copy(theta, rows), added)

    def _mean(self, theta: AnyArray, a: Rows, b: Rows) -> float:
        means = len(a) * self.loss(theta, a) + len(b) * self.loss(theta, b)
        return means / (len(a) + len(b))

    def check_scale(self, theta: AnyArray, rows: Rows) -> None:
        """Check that scale multiplies the gradient."""
        g = self.copy(theta, rows)
        for scale in (0.25, -2.0, 0.0):
            scaled = self.copy(theta, rows, scale)
            self.same("scale", f"scale={scale:g} times the gradient is", scaled, scale * g)

    def check_inputs(self, theta: AnyArray, rows: Rows) -> None:
        """Check that the model leaves its arguments alone, and keeps none of them."""
        buffer = theta.copy()
        given = Rows(rows.X.copy(), rows.y.copy(), rows.Y.copy())
        returned = self.gradient(buffer, given)
        first, loss = returned.copy(), self.loss(buffer, given)
        for name, now, was in (
            ("theta", buffer, theta),
            ("X", given.X, rows.X),
            ("Y", given.Y, rows.Y),
        ):
            if not np.array_equal(now, was):
                raise self.place.broken(
                    "inputs", f"the model changes {np.count_nonzero(now != was)} entries of {name}"
                )
        buffer += 1  # the next message arrives
        again = self.copy(theta, rows), self.loss(theta, rows)
        if not np.array_equal(again[0], first) or again[1] != loss:
            raise self.place.broken(
                "inputs",
                "the model gives another gradient or loss for the same theta after an array that "
                "it was given has changed; theta may be a view of a buffer: copy what is kept",
            )
        self.gradient(theta + 1, rows)
        if not np.array_equal(returned, first):
            raise self.place.broken(
                "result",
                "the gradient that was returned changes with the next call or with theta: return "
                "a new array",
            )

    def check_parts(self, theta: AnyArray, rows: Rows) -> None:
        """Check `weighted_parts`, where the model has it."""
        if not hasattr(self.own, "weighted_parts") or self.draws:
            return
        rng = np.random.default_rng([self.seed, 4])
        each = np.stack([self.copy(theta, rows[[i]]) for i in range(len(rows))])
        d = len(theta)
        for m in (1, 2, 3, 7, 50):
            weights = rng.normal(size=(m, len(rows)))
            expected = np.zeros((m, m * message_length(d, m)))
            expected[:, :d] = weights @ each.astype(np.float64)
            expected = expected.reshape(m, m, -1)[np.arange(m), np.arange(m)]
            parts = np.asarray(
                self.own.weighted_parts(theta, rows.X, rows.Y, weights.astype(self.dtype))
            )
            if parts.shape != expected.shape:
                raise self.place.at(f"m={m}").broken(
                    "parts",
                    f"weighted_parts must be (m, ceil(d / m)) = {expected.shape}, not "
                    f"{parts.shape}",
                )
            for u in range(m):
                self.same("parts", f"part {u} of {m} of weighted_parts is", parts[u], expected[u])

    def check_accuracy(self, theta: AnyArray, rows: Rows) -> None:
        """Check `accuracy`, where the model has it."""
        if not hasattr(self.own, "accuracy"):
            return
        said = self.own.accuracy(theta, rows.X, rows.y)
        try:
            number = float(said)
        except (TypeError, ValueError) as error:
            raise self.place.broken(
                "accuracy", f"accuracy(theta, X, y) must be a number, not {said!r:.60}"
            ) from error
        metric = getattr(self.own, "metric", "accuracy")
        if metric == "accuracy" and not (0 <= number <= 1 or math.isnan(number)):
            raise self.place.broken(
                "accuracy",
                f"accuracy(theta, X, y) is {number:.6g}, not within 0 and 1; give the model a "
                "metric, the name of what it returns, if this is no accuracy",
            )


def _check_float32(wide: Model, narrow: Model, theta: AnyArray, X: AnyArray, y: AnyArray) -> None:
    """Compare the gradients of the same model in float32 and float64."""
    if narrow.dtype != np.float32 or wide.draws:
        return
    exact = wide.gradient(theta, wide.data(X, y), 0.5)
    rounded = narrow.gradient(theta.astype(np.float32), narrow.data(X, y), 0.5)
    if getattr(narrow.own, "dtype", None) is not None and rounded.dtype != np.float32:
        raise narrow.place.broken(
            "float32", f"the gradient of the float32 model is {rounded.dtype}"
        )
    off = np.abs(rounded - exact)
    allowed = 1e-4 * np.abs(exact) + 1e-5 * max(1.0, float(np.abs(exact).max()))
    if (off > allowed).any():
        i = int((off - allowed).argmax())
        raise narrow.place.broken(
            "float32", f"gradient[{i}] = {rounded[i]:.6g} in float32, {exact[i]:.6g} in float64"
        )
