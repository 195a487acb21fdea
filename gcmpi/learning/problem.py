"""What a model must have to be trained, and the defaults of what it may leave out.

A model of your own is an object with these members; no base class is needed. X are rows
(r, *shape), y their labels or targets as the data set has them, Y what `targets` makes of y.

============================  =====================================================================
``d``                         the number of parameters
``initial(rng)``              initial parameters (d,); all randomness comes from `rng`
``loss(theta, X, Y)``         the SUM of the losses of the rows, a float
``gradient(theta, X, Y,       the gradient (d,) of scale times the SUM of the losses of the rows,
scale)``                      scale a float
============================  =====================================================================

Optional members: ``dtype`` (float32 or float64; the run's otherwise) and ``astype(dtype)``, which
returns the model in another type; ``targets(y)``, indexable by rows (integers stay as they are,
floats become floats of the dtype); ``accuracy(theta, X, y)``, a float, and ``metric``, its name;
``weighted_parts(theta, X, Y, weights)``, part u of the gradient with the row weights
``weights[u]`` for every u, (m, ceil(d / m)), where a model can do it in one pass;
``strong_convexity``, a float above 0 where the mean loss minus this half of ||theta||^2 is convex,
so that there is one smallest loss, which ``--target-excess`` finds.

A model on a device has ``rows``, ``load``, ``gradient`` and ``host`` in place of that gradient, so
that only finished messages are copied to the host: ``rows(X, y)`` puts rows on the device, once
for a subset; ``load(theta)`` does so with the parameters, once an iteration; ``gradient(rows)``
returns the gradient of the SUM of the losses as an array of the model's own kind, which can be
sliced, multiplied by a float and added; ``host(array)`` makes a numpy array of it. Where a model
has ``take(rows, indices)``, a mini-batch is taken from rows that are on the device already. Where
it has ``add(total, g, weights)``, that replaces slicing and adding: it returns the message `total`
(None at first) plus the sum over u of ``weights[u]`` times part u of g, (ceil(d / m),), the last
parts padded with zeros.

A gradient with a parameter `rng` gets a generator that follows from the run's seed, the iteration
and the subset: all workers that hold a subset, and the audit, then draw the same. Such a gradient
is computed subset by subset, unless a member ``draws`` is false (a model on a device is asked when
it has seen a row).
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray
from gcmpi.codes.code import message_length

NEEDED = ("d", "initial", "loss", "gradient")
ON_DEVICE = ("rows", "load", "gradient", "host")


class Problem(Protocol):
    """What the library asks of every model, however its gradients are computed.

    Attributes
    ----------
    d
        The number of parameters.
    dtype
        float32 or float64.
    metric
        What `accuracy` returns.
    """

    @property
    def d(self) -> int: ...  # noqa: D102

    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102

    @property
    def metric(self) -> str: ...  # noqa: D102

    def initial(self, rng: np.random.Generator) -> AnyArray:
        """Return initial parameters, shape (d,)."""
        ...

    def targets(self, y: AnyArray) -> AnyArray:
        """Return what `loss` compares outputs with; its first axis is the rows of y."""
        ...

    def loss(self, theta: AnyArray, X: AnyArray, Y: AnyArray) -> float:
        """Return the sum of the losses of the rows."""
        ...

    def accuracy(self, theta: AnyArray, X: AnyArray, y: AnyArray) -> float:
        """Return how good predictions are, NaN where a model cannot say."""
        ...


class Ready:
    """A model of this package: all members are there, and theta is neither kept nor changed."""


class _Completed:
    """Members that models of both seams have, with their defaults."""

    def __init__(self, own: Any, dtype: np.dtype[Any]) -> None:
        self.own, self.dtype = own, dtype
        self.name = name_of(own)
        self.d = _parameters(own, self.name)
        self._takes_rng = "rng" in inspect.signature(own.gradient).parameters

    @property
    def metric(self) -> str:
        """What `accuracy` returns."""
        return str(getattr(self.own, "metric", "accuracy"))

    @property
    def draws(self) -> bool:
        """Whether a gradient depends on a generator (dropout)."""
        return self._takes_rng and bool(getattr(self.own, "draws", True))

    def initial(self, rng: np.random.Generator) -> AnyArray:
        """Return initial parameters, shape (d,)."""
        theta = self._vector(self.own.initial(rng), self.d, "initial(rng)")
        if not np.isfinite(theta).all():
            raise ValueError(
                f"problem {self.name}: initial(rng) must be finite, but holds "
                f"{int(np.count_nonzero(~np.isfinite(theta)))} infinities or NaNs"
            )
        return theta

    def targets(self, y: AnyArray) -> AnyArray:
        """Return what `loss` compares outputs with."""
        if hasattr(self.own, "targets"):
            return as_rows(self.own.targets(y), len(y), f"problem {self.name}: targets(y)")
        y = np.asarray(y)
        return y if np.issubdtype(y.dtype, np.integer) else y.astype(self.dtype, copy=False)

    def loss(self, theta: AnyArray, X: AnyArray, Y: AnyArray) -> float:
        """Return the sum of the losses of the rows."""
        return self._number(self.own.loss(theta.copy(), X, Y), "loss(theta, X, Y)")

    def accuracy(self, theta: AnyArray, X: AnyArray, y: AnyArray) -> float:
        """Return how good predictions are; NaN when the model does not say."""
        if not hasattr(self.own, "accuracy"):
            return float("nan")
        return self._number(self.own.accuracy(theta.copy(), X, y), "accuracy(theta, X, y)")

    def _number(self, value: Any, what: str) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"problem {self.name}: {what} must be a number, not {describe(value)}"
            ) from None

    def _vector(self, value: Any, length: int, what: str) -> AnyArray:
        vector = np.asarray(value)
        if vector.shape != (length,) or vector.dtype.kind not in "fiu":
            raise ValueError(
                f"problem {self.name}: {what} must be {length} numbers, shape ({length},), "
                f"not {describe(value)}"
            )
        return vector.astype(self.dtype, copy=False)


class HostModel(_Completed):
    """A model of your own that computes with numpy arrays."""

    def __init__(self, own: Any, dtype: np.dtype[Any]) -> None:
        super().__init__(own, dtype)
        self.in_parts = hasattr(own, "weighted_parts")

    def gradient(
        self,
        theta: AnyArray,
        X: AnyArray,
        Y: AnyArray,
        scale: float = 1.0,
        rng: np.random.Generator | None = None,
    ) -> AnyArray:
        """Return the gradient of scale times the sum of the losses, shape (d,).

        The model gets a copy of theta, which may be a view of a receive buffer.
        """
        drawn = {"rng": rng} if self._takes_rng else {}
        g = self.own.gradient(theta.copy(), X, Y, float(scale), **drawn)
        return self._vector(g, self.d, "gradient(theta, X, Y, scale)")

    def weighted_parts(
        self, theta: AnyArray, X: AnyArray, Y: AnyArray, weights: AnyArray
    ) -> AnyArray:
        """Return part u of the gradient with row weights ``weights[u]``, (m, ceil(d / m))."""
        parts = np.asarray(self.own.weighted_parts(theta.copy(), X, Y, weights))
        shape = (len(weights), message_length(self.d, len(weights)))
        if parts.shape != shape:
            raise ValueError(
                f"problem {self.name}: weighted_parts(theta, X, Y, weights) must have shape "
                f"(m, ceil(d / m)) = {shape}, not {parts.shape}"
            )
        return parts.astype(self.dtype, copy=False)


class DeviceModel(_Completed):
    """A model of your own with arrays of another kind; only `host` makes numpy arrays."""

    def rows(self, X: AnyArray, y: AnyArray) -> Any:
        """Put rows on the device."""
        return self.own.rows(X, y)

    def meet(self, X: AnyArray, y: AnyArray) -> None:
        """Show a row to a model that cannot say before whether its gradients draw."""
        if hasattr(self.own, "draws"):
            self.own.rows(X, y)

    @property
    def takes(self) -> bool:
        """Whether batches can be taken from rows on the device."""
        return hasattr(self.own, "take")

    def take(self, rows: Any, indices: AnyArray) -> Any:
        """Return some of the rows on the device."""
        return self.own.take(rows, indices)

    @property
    def adds(self) -> bool:
        """Whether the model adds to messages itself."""
        return hasattr(self.own, "add")

    def add(self, total: Any, g: Any, weights: AnyArray) -> Any:
        """Return a message plus the weighted parts of a gradient, on the device."""
        return self.own.add(total, g, weights)

    def load(self, theta: AnyArray) -> None:
        """Put parameters on the device; the model gets a copy."""
        self.own.load(theta.copy())

    def gradient(self, rows: Any, rng: np.random.Generator | None = None) -> Any:
        """Return the gradient of the sum of the losses in the model's own kind of array."""
        return self.own.gradient(rows, rng) if self._takes_rng else self.own.gradient(rows)

    def host(self, array: Any, length: int) -> AnyArray:
        """Return an array of the model's own kind as a numpy array, shape (length,)."""
        return self._vector(self.own.host(array), length, "host(array)")


def complete(own: Any, dtype: npt.DTypeLike) -> Problem:
    """Return a model of your own with the defaults of what it leaves out.

    Parameters
    ----------
    own
        An object with the members that the docstring of this module lists.
    dtype
        The type of parameters and gradients.

    Raises
    ------
    ValueError
        If a member is missing or is not what it must be.
    """
    wanted = np.dtype(dtype)
    if isinstance(own, _Completed) and own.dtype == wanted:
        return own
    own = own.own if isinstance(own, _Completed) else own
    name = name_of(own)
    device = hasattr(own, "rows")
    needed = ("d", "initial", "loss", *ON_DEVICE) if device else NEEDED
    missing = [member for member in needed if not hasattr(own, member)]
    missing += [f"{member}()" for member in needed[1:] if not callable(getattr(own, member, id))]
    if missing:
        kind = "with rows(X, y) needs" if device else "needs"
        raise ValueError(
            f"problem {name} {kind} {', '.join(needed)}, and has no {' nor '.join(missing)}: "
            "help(gcmpi.learning.problem) says what each is"
        )
    own = _in_dtype(own, wanted, name)
    if isinstance(own, Ready):
        return own  # type: ignore[return-value]  # a Ready model is a Problem by its contract
    return DeviceModel(own, wanted) if device else HostModel(own, wanted)


def determination(predicted: AnyArray, y: AnyArray) -> float:
    """Return the coefficient of determination R2 of predictions of y; NaN if y is constant."""
    y = y.astype(np.float64)
    spread = float(np.sum((y - y.mean(axis=0)) ** 2))
    return 1 - float(np.sum((y - predicted) ** 2)) / spread if spread else float("nan")


def name_of(own: Any) -> str:
    """Return what messages call a model: the name of its class, or of a module."""
    return str(getattr(own, "__name__", type(own).__name__))


def describe(value: Any) -> str:
    """Return what was given, in few words."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    if isinstance(value, int | float | str | None):
        return repr(value)
    return f"{kind} of shape {tuple(shape)}" if shape is not None else kind


def as_rows(value: Any, count: int, what: str) -> AnyArray:
    """Return an array with `count` rows, or refuse it."""
    rows = np.asarray(value)
    if rows.ndim < 1 or len(rows) != count:
        raise ValueError(f"{what} must have {count} rows, one for each y, not shape {rows.shape}")
    return rows


def _parameters(own: Any, name: str) -> int:
    d = own.d
    if isinstance(d, bool) or not isinstance(d, int | np.integer) or d < 1:
        raise ValueError(f"problem {name}: d must be a whole number of at least 1, not {d!r}")
    return int(d)


def _in_dtype(own: Any, wanted: np.dtype[Any], name: str) -> Any:
    """Return a model that computes in that type."""
    given = getattr(own, "dtype", None)
    if given is None or np.dtype(given) == wanted:
        return own
    if hasattr(own, "astype"):
        return own.astype(wanted)
    raise ValueError(
        f"problem {name} computes in {np.dtype(given)} and has no astype(dtype), but the run is "
        f"in {wanted}: choose --dtype {np.dtype(given)}"
    )
