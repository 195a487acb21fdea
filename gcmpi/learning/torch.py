"""Train a torch network: ``problem(build, loss)``.

A network travels as a recipe: each rank builds its own. Nothing of torch is imported before it is
needed, and parameters are one flat numpy vector everywhere outside this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gcmpi import environment
from gcmpi.arrays import AnyArray
from gcmpi.codes.code import message_length
from gcmpi.learning.problem import determination

if TYPE_CHECKING:
    import torch

AT_ONCE = 1000
"""So many rows go through a network at once when a loss or an accuracy is computed."""
SUM = 'give it reduction="sum", as in nn.CrossEntropyLoss(reduction="sum")'
INSTALL = "pip install torch==2.13.0 where pip finds it (a CPU build), or see pytorch.org"


class TorchProblem:
    """A torch network and its loss, as a problem; made by `problem`.

    The gradients have the seam of a device: a GPU where this rank has one, else the CPU.

    Parameters
    ----------
    build
        Returns a new network.
    loss
        Of (outputs, targets): the SUM over the rows.
    dtype
        float32 or float64.
    """

    def __init__(
        self,
        build: Callable[[], torch.nn.Module],
        loss: Callable[[Any, Any], Any],
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.build, self.sum_of_losses, self.dtype = build, loss, np.dtype(dtype)
        self.metric = "accuracy"
        self._network: _Network | None = None

    def __repr__(self) -> str:
        """Return the name of the recipe."""
        return f"torch problem {getattr(self.build, '__name__', self.build)} in {self.dtype}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the recipe, without the network that was built of it."""
        return {**self.__dict__, "_network": None}

    def __call__(self, dtype: npt.DTypeLike = np.float32) -> TorchProblem:
        """Return the problem in another type."""
        return self.astype(dtype)

    def astype(self, dtype: npt.DTypeLike) -> TorchProblem:
        """Return the problem in another type."""
        if np.dtype(dtype) == self.dtype:
            return self
        return TorchProblem(self.build, self.sum_of_losses, dtype)

    @property
    def d(self) -> int:
        """The number of parameters."""
        return int(self._built.d)

    @property
    def draws(self) -> bool:
        """Whether the network draws in training (dropout); known when it has seen a row."""
        return self._built.draws

    def initial(self, rng: np.random.Generator) -> AnyArray:
        """Return the parameters of a new network, (d,); torch's generator is seeded from `rng`."""
        return _flat(_module(self.build, self.dtype, int(rng.integers(2**63))))

    def targets(self, y: AnyArray) -> AnyArray:
        """Return labels as int64, other targets as floats."""
        y = np.asarray(y)
        if np.issubdtype(y.dtype, np.integer):
            return y.astype(np.int64, copy=False)
        self.metric = "R2"
        return y.astype(self.dtype, copy=False)

    def rows(self, X: AnyArray, y: AnyArray) -> tuple[Any, Any]:
        """Put rows and targets on the device."""
        network = self._built
        rows = network.tensor(X), network.tensor(self.targets(y))
        if not network.tried:
            network.examine(self.sum_of_losses, rows[0][:1], rows[1][:1])
        return rows

    def take(self, rows: tuple[Any, Any], indices: AnyArray) -> tuple[Any, Any]:
        """Return some of the rows on the device."""
        chosen = self._built.tensor(indices)
        return rows[0][chosen], rows[1][chosen]

    def load(self, theta: AnyArray) -> None:
        """Put parameters into the network."""
        self._built.load(theta)

    def gradient(self, rows: tuple[Any, Any], rng: np.random.Generator | None = None) -> Any:
        """Return the gradient of the SUM of the losses as a tensor, (d,)."""
        seed = int(rng.integers(2**63)) if rng is not None and self.draws else None
        return self._built.gradient(self.sum_of_losses, *rows, seed)

    def add(self, total: Any, g: Any, weights: AnyArray) -> Any:
        """Return the message `total` (None: zeros) plus the parts of g, each with its weight."""
        length = message_length(self.d, len(weights))
        total = g.new_zeros(length) if total is None else total
        for part, weight in zip(g.split(length), weights, strict=False):  # in place: no memory
            total[: len(part)].add_(part, alpha=float(weight))
        return total

    def host(self, array: Any) -> AnyArray:
        """Return a tensor as a numpy array."""
        on_host: AnyArray = array.cpu().numpy()
        return on_host

    def loss(self, theta: AnyArray, X: AnyArray, Y: AnyArray) -> float:
        """Return the sum of the losses of the rows, without dropout."""
        total = 0.0
        for outputs, start in self._outputs(theta, X):
            Y_ = self._built.tensor(Y[start : start + len(outputs)])
            total += float(self.sum_of_losses(outputs, Y_))
        return total

    def accuracy(self, theta: AnyArray, X: AnyArray, y: AnyArray) -> float:
        """Return the fraction of labels for which the largest output speaks.

        With one output a row the label is 1 where it is positive. Of float targets it is R2, and
        NaN where outputs have another shape.
        """
        outputs = np.concatenate([self.host(part) for part, _ in self._outputs(theta, X)])
        if np.issubdtype(y.dtype, np.integer):
            one = outputs.size == len(outputs)
            predicted = outputs.reshape(len(outputs)) > 0 if one else outputs.argmax(axis=1)
            return float(np.mean(predicted == y)) if predicted.shape == y.shape else float("nan")
        if outputs.size != y.size:
            return float("nan")
        return determination(outputs.reshape(y.shape), y)

    def module(self, theta: AnyArray) -> torch.nn.Module:
        """Return a network with these parameters, on the CPU and in evaluation mode."""
        theta = np.asarray(theta)
        if theta.shape != (self.d,):
            raise ValueError(f"theta must have shape (d,) = ({self.d},), not {theta.shape}")
        module = _module(self.build, theta.dtype, 0)
        _fill(module, theta)
        return module.eval()

    @property
    def _built(self) -> _Network:
        if self._network is None:
            self._network = _Network(self.build, self.dtype)
        return self._network

    def _outputs(self, theta: AnyArray, X: AnyArray) -> Iterator[tuple[Any, int]]:
        """Yield the outputs of some rows after the other, and where they start."""
        network = self._built
        network.load(theta)
        for start in range(0, len(X), AT_ONCE):
            yield network.outputs(network.tensor(X[start : start + AT_ONCE])), start


def problem(build: Callable[[], torch.nn.Module], loss: Callable[[Any, Any], Any]) -> TorchProblem:
    """Return a torch network and its loss as a problem to train.

    Parameters
    ----------
    build
        Returns a new network, whose random initial weights follow from torch's generator. Each
        rank calls it; it must be importable where the problem is sent to other processes.
    loss
        Of (outputs, targets), the SUM over the rows: ``nn.CrossEntropyLoss(reduction="sum")``.
        Labels come as int64, other targets as floats.

    Returns
    -------
    problem
        Its ``module(theta)`` is the network with the parameters of a run.

    Raises
    ------
    ValueError
        When it is used: if torch is not installed, the network has buffers or mixes rows, or the
        loss is a mean.
    """
    return TorchProblem(build, loss)


class _Network:
    """A network on this rank's device, with flat parameters."""

    def __init__(self, build: Callable[[], Any], dtype: np.dtype[Any]) -> None:
        torch = _torch()
        torch.set_num_threads(1)  # one a rank
        # the audit on the server computes what workers compute, to the last bits of float32
        torch.backends.cudnn.allow_tf32 = False
        local = environment.local_rank()
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        self.device = torch.device("cuda", local % gpus) if gpus else torch.device("cpu")
        self.module = _module(build, dtype, 0).to(self.device)
        self._parameters = _trained(self.module)
        self.d = sum(p.numel() for p in self._parameters)
        self.tried = self.draws = False

    def tensor(self, array: AnyArray) -> Any:
        """Return an array on the device."""
        # torch warns of arrays that cannot be written, though it only reads them
        return _torch().from_numpy(np.require(array, requirements=("C", "W"))).to(self.device)

    def load(self, theta: AnyArray) -> None:
        """Put parameters into the module."""
        _fill(self.module, self.tensor(theta))

    def outputs(self, X: Any) -> Any:
        """Return the module's outputs in evaluation mode."""
        self.module.eval()
        with _torch().no_grad():
            return self.module(X)

    def gradient(self, loss: Callable[[Any, Any], Any], X: Any, Y: Any, seed: int | None) -> Any:
        """Return the gradient in training mode, (d,)."""
        torch = _torch()
        if not self.module.training:
            self.module.train()
        if seed is None:
            value = loss(self.module(X), Y)
        else:
            devices = [] if self.device.type == "cpu" else [self.device]
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                value = loss(self.module(X), Y)
        pieces = torch.autograd.grad(value, self._parameters, allow_unused=True)
        filled = (
            torch.zeros_like(p) if g is None else g
            for p, g in zip(self._parameters, pieces, strict=True)
        )
        return torch.cat([g.reshape(-1) for g in filled])

    def examine(self, loss: Callable[[Any, Any], Any], X: Any, Y: Any) -> None:
        """Find out on one row whether the module draws, and refuse a loss that is no sum."""
        torch = _torch()
        self.tried = True
        cuda = self.device.type != "cpu"
        with torch.random.fork_rng(devices=[self.device] if cuda else []), torch.no_grad():
            states = [torch.get_rng_state()]
            states += [torch.cuda.get_rng_state(self.device)] if cuda else []
            self.module.train()
            self.module(X)
            after = [torch.get_rng_state()]
            after += [torch.cuda.get_rng_state(self.device)] if cuda else []
        self.draws = any(not torch.equal(a, b) for a, b in zip(states, after, strict=True))
        outputs = self.outputs(X)
        if isinstance(loss, type):
            made = f"{loss.__name__}(reduction='sum')"
            raise ValueError(f"the loss is a class: give an object of it, {made}")
        once = loss(outputs, Y)
        twice = loss(torch.cat([outputs, outputs]), torch.cat([Y, Y]))
        if twice.numel() != 1:
            raise ValueError(
                "the loss of a torch problem must be one number, not shape "
                f"{tuple(twice.shape)} for two rows: {SUM}"
            )
        size, excess = abs(float(twice)), abs(float(twice - 2 * once))
        if Y.is_floating_point() and outputs.shape != Y.shape and excess > 1e-3 * size:
            raise ValueError(
                f"for a row the network gives outputs of shape {tuple(outputs.shape[1:])}, but its "
                f"target has shape {tuple(Y.shape[1:])}, and the loss mixes rows: end the network "
                "with nn.Flatten(0), or give targets of the shape of the outputs"
            )
        if 0 < abs(float(twice)) and abs(float(twice - once)) <= 1e-3 * abs(float(twice)):
            raise ValueError(
                "the loss of a torch problem must be the SUM over the rows, but it is the same, "
                f"{float(twice):.4g}, for one row and for the row twice: {SUM}"
            )


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"a torch problem needs torch, and it cannot be imported ({error}): {INSTALL}"
        ) from error
    return torch


def _module(build: Callable[[], Any], dtype: np.dtype[Any], seed: int) -> Any:
    """Build a network with torch's generator seeded, and leave the generator as it was."""
    torch = _torch()
    if isinstance(build, torch.nn.Module):
        name = type(build).__name__
        raise ValueError(  # as all wrong input
            f"a torch problem needs something that builds the network, not the network itself: "
            f"give the class ({name}), or lambda: {name}(...), without calling it"
        )
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        module = build()
    if not isinstance(module, torch.nn.Module):
        raise ValueError(  # as all wrong input
            f"build() must return a torch.nn.Module, not {type(module).__name__}"
        )
    _refuse_mixing(module)
    module.to(getattr(torch, dtype.name))
    if not _trained(module):
        raise ValueError("build() must return a network with parameters to train, and it has none")
    return module


def _refuse_mixing(module: Any) -> None:
    """Refuse what makes a gradient depend on more than parameters and a row."""
    kinds = _torch().nn.modules.batchnorm._BatchNorm
    norms = [name for name, child in module.named_modules() if isinstance(child, kinds)]
    if norms:
        raise ValueError(
            f"the network has BatchNorm ({norms[0] or 'the module itself'}), which mixes the rows "
            "it is given: holders of a subset would compute other gradients. Use GroupNorm or "
            "LayerNorm"
        )
    buffers = [name for name, _ in module.named_buffers()]
    if buffers:
        raise ValueError(
            f"the network has buffers ({', '.join(buffers[:3])}), which are not among the "
            "parameters that the server sends: ranks would disagree. Make a constant of it in "
            "forward(), or a parameter with requires_grad=False"
        )


def _trained(module: Any) -> list[Any]:
    return [p for p in module.parameters() if p.requires_grad]


def _flat(module: Any) -> AnyArray:
    pieces = [p.detach().reshape(-1).numpy() for p in _trained(module)]
    return np.concatenate(pieces)


def _fill(module: Any, theta: Any) -> None:
    """Write flat parameters into a module."""
    torch = _torch()
    source = torch.from_numpy(theta.copy()) if isinstance(theta, np.ndarray) else theta
    parameters = _trained(module)
    with torch.no_grad():
        for p, piece in zip(parameters, source.split([p.numel() for p in parameters]), strict=True):
            p.copy_(piece.view_as(p))
