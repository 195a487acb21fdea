"""Train a JAX model: ``problem(initial, loss)``.

A model travels as a recipe, and nothing of jax is imported before it is needed. Gradients are
compiled once for each number of rows. float64 turns on ``jax_enable_x64`` in this process.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gcmpi import environment
from gcmpi.arrays import AnyArray
from gcmpi.codes.code import message_length

INSTALL = "pip install jax"
SETTINGS = {
    # one thread a rank, and no rank that takes all memory of a GPU
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "PJRT_NPROC": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""Environment of jax unless the user has set it; it counts if jax has not run before."""


class JaxProblem:
    """A JAX model and its loss, as a problem; made by `problem`.

    The gradients have the seam of a device: a GPU where this rank has one, else the CPU.

    Parameters
    ----------
    recipe
        Initial parameters from a numpy generator, an array or a tree of arrays.
    loss
        Of (parameters, X, Y), or of (parameters, X, Y, key): the SUM over the rows.
    accuracy
        Of (parameters, X, y); None for a model without one.
    dtype
        float32 or float64.
    """

    def __init__(
        self,
        recipe: Callable[[np.random.Generator], Any],
        loss: Callable[..., Any],
        accuracy: Callable[[Any, Any, Any], Any] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.recipe, self.sum_of_losses, self.own_accuracy = recipe, loss, accuracy
        self.dtype = np.dtype(dtype)
        self._model: _Model | None = None

    def __repr__(self) -> str:
        """Return the name of the loss."""
        name = getattr(self.sum_of_losses, "__name__", self.sum_of_losses)
        return f"jax problem {name} in {self.dtype}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the recipe, without what was compiled of it."""
        return {**self.__dict__, "_model": None}

    def __call__(self, dtype: npt.DTypeLike = np.float32) -> JaxProblem:
        """Return the problem in another type."""
        return self.astype(dtype)

    def astype(self, dtype: npt.DTypeLike) -> JaxProblem:
        """Return the problem in another type."""
        if np.dtype(dtype) == self.dtype:
            return self
        return JaxProblem(self.recipe, self.sum_of_losses, self.own_accuracy, dtype)

    @property
    def d(self) -> int:
        """The number of parameters."""
        return self._built.d

    @property
    def draws(self) -> bool:
        """Whether the loss takes a key (dropout)."""
        return "key" in inspect.signature(self.sum_of_losses).parameters

    def initial(self, rng: np.random.Generator) -> AnyArray:
        """Return initial parameters, (d,)."""
        theta: AnyArray = np.array(_flatten(self.recipe(rng), self.dtype)[0])
        return theta

    def targets(self, y: AnyArray) -> AnyArray:
        """Return labels as int32, other targets as floats."""
        y = np.asarray(y)
        whole = np.issubdtype(y.dtype, np.integer)
        return y.astype(np.int32 if whole else self.dtype, copy=False)

    def rows(self, X: AnyArray, y: AnyArray) -> tuple[Any, Any]:
        """Put rows and targets on the device."""
        return self._built.put(X), self._built.put(self.targets(y))

    def take(self, rows: tuple[Any, Any], indices: AnyArray) -> tuple[Any, Any]:
        """Return some of the rows on the device."""
        chosen = self._built.put(indices.astype(np.int32))
        return rows[0][chosen], rows[1][chosen]

    def load(self, theta: AnyArray) -> None:
        """Put parameters on the device."""
        self._built.load(theta)

    def gradient(self, rows: tuple[Any, Any], rng: np.random.Generator | None = None) -> Any:
        """Return the gradient of the SUM of the losses as a jax array, (d,)."""
        seed = int(rng.integers(2**31)) if rng is not None and self.draws else None
        return self._built.gradient(*rows, seed)

    def add(self, total: Any, g: Any, weights: AnyArray) -> Any:
        """Return the message `total` (None: zeros) plus the parts of g, each with its weight."""
        length = message_length(self.d, len(weights))
        total = np.zeros(length, self.dtype) if total is None else total
        return self._built.add(total, g, weights.astype(self.dtype))

    def host(self, array: Any) -> AnyArray:
        """Return a jax array as a numpy array."""
        return np.asarray(array)

    def loss(self, theta: AnyArray, X: AnyArray, Y: AnyArray) -> float:
        """Return the sum of the losses of the rows; a key is None here."""
        model = self._built
        return float(model.value(self.parameters(theta), model.put(X), model.put(Y)))

    def accuracy(self, theta: AnyArray, X: AnyArray, y: AnyArray) -> float:
        """Return what the model's own accuracy says; NaN without one."""
        if self.own_accuracy is None:
            return float("nan")
        model = self._built
        return float(self.own_accuracy(self.parameters(theta), model.put(X), model.put(y)))

    def parameters(self, theta: AnyArray) -> Any:
        """Return flat parameters in the form that the model has them."""
        return self._built.unravel(self._built.put(theta))

    @property
    def _built(self) -> _Model:
        if self._model is None:
            self._model = _Model(self.recipe, self.sum_of_losses, self.dtype, draws=self.draws)
        return self._model


def problem(
    initial: Callable[[np.random.Generator], Any],
    loss: Callable[..., Any],
    accuracy: Callable[[Any, Any, Any], Any] | None = None,
) -> JaxProblem:
    """Return a JAX model and its loss as a problem to train.

    Parameters
    ----------
    initial
        ``initial(rng)`` returns initial parameters, an array or a tree of arrays; all randomness
        comes from `rng`, a numpy generator.
    loss
        ``loss(parameters, X, Y)``, the SUM of the losses of the rows. With a parameter `key` it
        gets a key that is the same on all ranks that hold a subset, and None in audits.
    accuracy
        ``accuracy(parameters, X, y)``, if there is one.

    Returns
    -------
    problem
        Its ``parameters(theta)`` are the parameters of a run in the form that `initial` gives.

    Raises
    ------
    ValueError
        When it is used: if jax is not installed, or the loss is a mean.
    """
    return JaxProblem(initial, loss, accuracy)


class _Model:
    """A model on this rank's device, with flat parameters."""

    def __init__(
        self,
        recipe: Callable[[np.random.Generator], Any],
        loss: Callable[..., Any],
        dtype: np.dtype[Any],
        *,
        draws: bool,
    ) -> None:
        jax = _jax(dtype)
        from jax.flatten_util import ravel_pytree

        flat, unravel = _flatten(recipe(np.random.default_rng(0)), dtype)
        self.d = int(flat.size)
        self.unravel = jax.jit(unravel)
        self._parameters = self.unravel(flat)
        devices = jax.local_devices()
        self._device = devices[environment.local_rank() % len(devices)]

        def value(parameters: Any, X: Any, Y: Any, seed: Any = None) -> Any:
            # the audit on the server computes what workers compute, to the last bits of float32
            with jax.default_matmul_precision("float32"):
                if not draws:
                    return loss(parameters, X, Y)
                key = None if seed is None else jax.random.key(seed)
                return loss(parameters, X, Y, key=key)

        def gradient(parameters: Any, X: Any, Y: Any, seed: Any = None) -> Any:
            return ravel_pytree(jax.grad(value)(parameters, X, Y, seed))[0]

        def add(total: Any, g: Any, weights: Any) -> Any:
            padded = jax.numpy.pad(g, (0, len(weights) * len(total) - len(g)))
            return total + weights @ padded.reshape(len(weights), len(total))

        self.value, self._gradient, self.add = map(jax.jit, (value, gradient, add))

    def put(self, array: AnyArray) -> Any:
        """Return an array on the device."""
        return _jax().device_put(array, self._device)

    def load(self, theta: AnyArray) -> None:
        """Put parameters on the device, in the form that the model has them."""
        self._parameters = self.unravel(self.put(theta))

    def gradient(self, X: Any, Y: Any, seed: int | None) -> Any:
        """Return the gradient, (d,)."""
        return self._gradient(self._parameters, X, Y, seed)


def _jax(dtype: np.dtype[Any] | None = None) -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import jax
    except ImportError as error:
        raise ValueError(
            f"a jax problem needs jax, and it cannot be imported ({error}): {INSTALL}"
        ) from error
    if dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    return jax


def _flatten(parameters: Any, dtype: np.dtype[Any]) -> tuple[Any, Callable[[Any], Any]]:
    """Return parameters as one vector, and what gives them their form back."""
    jax = _jax(dtype)
    from jax.flatten_util import ravel_pytree

    in_dtype = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype), parameters)
    flat, unravel = ravel_pytree(in_dtype)
    return flat, unravel
