"""Gradients over the subsets of a worker, and the coded message that is made of them.

There are three ways to a message. A model with ``weighted_parts`` makes it in one pass over all
rows. Otherwise there is one gradient a subset, multiplied by the worker's coefficients and added
as it comes; where the coefficients of each part are the same for all subsets of the worker, one
gradient over all of its rows serves. With a model on a device all that happens in the model's own
arrays, and only the message is copied to the host.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.code import encode, message_length
from gcmpi.learning.batches import Sampling
from gcmpi.learning.problem import DeviceModel, HostModel, Problem, Ready
from gcmpi.learning.rows import given, made, prepare, prepared
from gcmpi.learning.stored import AnyRows, Lazy, in_memory


class Gradients(Protocol):
    """Gradients over some subsets: of the scaled SUM of the losses of their rows or batches.

    Batches are scaled up to their subset, so that their gradients are unbiased estimates.
    """

    rows: Rows

    def begin(self, t: int, theta: AnyArray) -> None:
        """Take the parameters of iteration t, which are copied where they are kept."""
        ...

    def message(self, coefficients: Array) -> tuple[AnyArray, float]:
        """Return the message with coefficients (m, subsets), and the seconds spent on encoding."""
        ...

    def keep(self, position: int) -> None:
        """Compute the gradient over one subset and keep it."""
        ...

    def combine(self, coefficients: Array) -> AnyArray:
        """Return the message of the kept gradients over the first subsets, (m, kept)."""
        ...

    def exact(self, position: int, *, whole: bool = False) -> AnyArray:
        """Return the gradient over one subset, shape (d,); of all its rows where `whole`."""
        ...


class Rows:
    """The rows of some subsets, one subset after the other.

    Parameters
    ----------
    X, y : (r, *shape), (r,) or (r, c)
        Rows and labels, as in the data set.
    sizes
        How many rows each subset has.
    subsets
        The subsets, by which batches and generators are drawn.
    scale
        What every loss is multiplied by.
    """

    def __init__(
        self,
        X: AnyArray | Lazy,
        y: AnyArray | Lazy,
        sizes: Sequence[int],
        subsets: Sequence[int],
        scale: float,
        sampling: Sampling,
    ) -> None:
        self.X, self.y, self.scale, self.sampling = X, y, scale, sampling
        self.sizes, self.subsets = tuple(sizes), tuple(subsets)
        ends = [0, *itertools.accumulate(sizes)]
        self.slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        batches = [sampling.size(size) for size in sizes]
        self.counts = tuple(batches)
        self.factors = np.array([r / b for r, b in zip(sizes, batches, strict=True)])

    def chosen(self, t: int, position: int) -> IntArray | None:
        """Return the batch's rows of one subset, counted from its first row; None for all."""
        return self.sampling.rows(t, self.subsets[position], self.sizes[position])

    def all_chosen(self, t: int) -> IntArray | None:
        """Return the batches' rows of all subsets; None if they are all rows."""
        drawn = [self.chosen(t, position) for position in range(len(self.sizes))]
        if all(rows is None for rows in drawn):
            return None
        return np.concatenate(
            [
                np.arange(rows.start, rows.stop) if some is None else rows.start + some
                for rows, some in zip(self.slices, drawn, strict=True)
            ]
        )

    def of(self, t: int, position: int, *, whole: bool = False) -> slice | IntArray:
        """Return where the rows of one subset, or of its batch, are."""
        rows = self.slices[position]
        some = None if whole else self.chosen(t, position)
        return rows if some is None else rows.start + some

    def scale_of(self, position: int, *, whole: bool = False) -> float:
        """Return what the losses of one subset's rows are multiplied by."""
        return self.scale if whole else self.scale * float(self.factors[position])

    def generator(self, t: int, position: int) -> np.random.Generator:
        """Return the generator of one subset in iteration t."""
        return self.sampling.generator(t, self.subsets[position])


class HostGradients:
    """Gradients that are numpy arrays."""

    def __init__(self, problem: HostModel, rows: Rows) -> None:
        self.problem, self.rows = problem, rows
        self.X, self.Y = rows.X, made(rows.y, problem.targets)
        self._t, self._theta = 0, np.empty(0)
        self._kept: AnyArray | None = None

    def begin(self, t: int, theta: AnyArray) -> None:
        """Take the parameters of iteration t; a model gets a copy."""
        self._t, self._theta = t, theta

    def exact(self, position: int, *, whole: bool = False) -> AnyArray:
        """Return the gradient over one subset, shape (d,)."""
        chosen = self.rows.of(self._t, position, whole=whole)
        scale = self.rows.scale_of(position, whole=whole)
        drawn = {"rng": self.rows.generator(self._t, position)} if _draws(self.problem) else {}
        return self.problem.gradient(self._theta, self.X[chosen], self.Y[chosen], scale, **drawn)

    def keep(self, position: int) -> None:
        """Compute the gradient over one subset and keep it."""
        if self._kept is None:
            self._kept = np.empty((len(self.rows.sizes), self.problem.d), self.problem.dtype)
        self._kept[position] = self.exact(position)

    def combine(self, coefficients: Array) -> AnyArray:
        """Return the message of the kept gradients over the first subsets."""
        if self._kept is None:
            raise RuntimeError("combine() follows keep()")
        return encode(coefficients, self._kept[: coefficients.shape[1]])

    def message(self, coefficients: Array) -> tuple[AnyArray, float]:
        """Return the message, and the seconds spent on encoding."""
        column = same_for_all(coefficients * self.rows.factors)
        if column is not None and not _draws(self.problem):
            g = self._over_all()
            started = time.perf_counter()
            y = encode(column, g[None])
            return y, time.perf_counter() - started
        encoding, y = 0.0, np.zeros(self._length(coefficients), self.problem.dtype)
        for position in range(len(self.rows.sizes)):
            g = self.exact(position)
            started = time.perf_counter()
            y += encode(coefficients[:, position, None], g[None])
            encoding += time.perf_counter() - started
        return y, encoding

    def _over_all(self) -> AnyArray:
        """Return the gradient of the scaled sum over all rows, or all batches."""
        chosen = self.rows.all_chosen(self._t)
        everything = slice(None) if chosen is None else chosen
        X, Y = self.X[everything], self.Y[everything]
        return self.problem.gradient(self._theta, X, Y, self.rows.scale)

    def _length(self, coefficients: Array) -> int:
        return message_length(self.problem.d, len(coefficients))


class PartGradients(HostGradients):
    """Gradients of a model that makes all parts of a message in one pass over all rows."""

    def message(self, coefficients: Array) -> tuple[AnyArray, float]:
        """Return the message: part u is computed with the rows of subset j weighted by c[u, j]."""
        rows = self.rows
        weights = rows.scale * np.repeat(coefficients * rows.factors, rows.counts, axis=1)
        chosen = rows.all_chosen(self._t)
        everything = slice(None) if chosen is None else chosen
        X, Y = self.X[everything], self.Y[everything]
        parts = self.problem.weighted_parts(self._theta, X, Y, weights)
        started = time.perf_counter()
        y: AnyArray = parts.sum(axis=0)
        return y, time.perf_counter() - started


class DeviceGradients:
    """Gradients that stay on a device: they are sliced, multiplied by floats and added there.

    Parameters
    ----------
    remember
        Whether rows stay on the device from one iteration to the next.
    """

    def __init__(self, problem: DeviceModel, rows: Rows, *, remember: bool = True) -> None:
        self.problem, self.rows = problem, rows
        self._remember = remember
        self._t = 0
        self._on_device: dict[int | None, Any] = {}
        self._kept: list[Any] = [None] * len(rows.sizes)
        problem.meet(rows.X[:1], rows.y[:1])

    def begin(self, t: int, theta: AnyArray) -> None:
        """Put the parameters of iteration t on the device."""
        self._t = t
        self.problem.load(theta)

    def exact(self, position: int, *, whole: bool = False) -> AnyArray:
        """Return the gradient over one subset on the host, shape (d,)."""
        g = self._gradient(position, whole=whole) * self.rows.scale_of(position, whole=whole)
        return self.problem.host(g, self.problem.d)

    def keep(self, position: int) -> None:
        """Compute the gradient over one subset and keep it on the device."""
        self._kept[position] = self._gradient(position) * self.rows.scale_of(position)

    def combine(self, coefficients: Array) -> AnyArray:
        """Return the message of the kept gradients over the first subsets."""
        total = _sum(self.problem, len(coefficients))
        for g, column in zip(self._kept, coefficients.T, strict=False):
            total.add(g, column)
        return total.on_host()

    def message(self, coefficients: Array) -> tuple[AnyArray, float]:
        """Return the message, and the seconds spent on encoding."""
        total = _sum(self.problem, len(coefficients))
        weights = self.rows.scale * coefficients * self.rows.factors
        encoding = 0.0
        column = same_for_all(weights)
        if column is not None and not self.problem.draws:
            g = self.problem.gradient(self._put(None, slice(None), self.rows.all_chosen(self._t)))
            started = time.perf_counter()
            total.add(g, column[:, 0])
            encoding = time.perf_counter() - started
            return total.on_host(), encoding
        for position in range(len(self.rows.sizes)):
            g = self._gradient(position)
            started = time.perf_counter()
            total.add(g, weights[:, position])
            encoding += time.perf_counter() - started
        return total.on_host(), encoding

    def _gradient(self, position: int, *, whole: bool = False) -> Any:
        chosen = None if whole else self.rows.chosen(self._t, position)
        rows = self._put(position, self.rows.slices[position], chosen)
        drawn = self.rows.generator(self._t, position) if self.problem.draws else None
        return self.problem.gradient(rows, drawn)

    def _put(self, key: int | None, where: slice, chosen: IntArray | None) -> Any:
        """Return rows on the device, `chosen` ones of those that are `where`."""
        if chosen is not None and not (self._remember and self.problem.takes):
            return self.problem.rows(self.rows.X[where][chosen], self.rows.y[where][chosen])
        rows = self._on_device.get(key)
        if rows is None:
            rows = self.problem.rows(self.rows.X[where], self.rows.y[where])
            if self._remember:
                self._on_device[key] = rows
        return rows if chosen is None else self.problem.take(rows, chosen)


class _Sum:
    """A message in a model's own kind of array, cut where the last part of a gradient ends.

    The parts of a gradient have the same length, except the last ones, which end early unless m
    divides d. Head and tail of the message are summed apart, so that nothing is ever padded.
    """

    def __init__(self, problem: DeviceModel, m: int) -> None:
        self._problem = problem
        length = message_length(problem.d, m)
        full, rest = divmod(problem.d, length)
        head = [(u * length, u * length + rest) for u in range(full + 1)]
        tail = [(u * length + rest, (u + 1) * length) for u in range(full)]
        self._pieces = [piece for piece in (head, tail) if piece[0][0] < piece[0][1]]
        self._sums: list[Any] = [None] * len(self._pieces)

    def add(self, g: Any, column: Array) -> None:
        """Add the parts of a gradient, part u multiplied by ``column[u]``."""
        for index, piece in enumerate(self._pieces):
            for (a, b), c in zip(piece, column, strict=False):
                term = g[a:b] * float(c)
                sum_ = self._sums[index]
                self._sums[index] = term if sum_ is None else sum_ + term

    def on_host(self) -> AnyArray:
        """Return the message as a numpy array, shape (ceil(d / m),)."""
        lengths = [piece[0][1] - piece[0][0] for piece in self._pieces]
        ends = zip(self._sums, lengths, strict=True)
        host = [self._problem.host(sum_, length) for sum_, length in ends]
        return host[0] if len(host) == 1 else np.concatenate(host)


class _OwnSum:
    """A message that the model adds to itself."""

    def __init__(self, problem: DeviceModel, m: int) -> None:
        self._problem, self._length = problem, message_length(problem.d, m)
        self._total: Any = None

    def add(self, g: Any, column: Array) -> None:
        """Add the parts of a gradient, part u multiplied by ``column[u]``."""
        self._total = self._problem.add(self._total, g, column)

    def on_host(self) -> AnyArray:
        """Return the message as a numpy array, shape (ceil(d / m),)."""
        return self._problem.host(self._total, self._length)


def _sum(problem: DeviceModel, m: int) -> _Sum | _OwnSum:
    return _OwnSum(problem, m) if problem.adds else _Sum(problem, m)


def gradients(
    problem: Problem,
    X: AnyRows,
    y: AnyRows,
    sizes: Sequence[int],
    subsets: Sequence[int],
    scale: float,
    sampling: Sampling,
    *,
    remember: bool = True,
) -> Gradients:
    """Return the gradients of a problem over subsets; the parameters are those of `Rows`.

    Parameters
    ----------
    remember
        Whether a model on a device keeps the rows there.
    """
    rows = Rows(prepared(X, problem.dtype), given(y), sizes, subsets, scale, sampling)
    if isinstance(problem, DeviceModel):
        return DeviceGradients(problem, rows, remember=remember)
    host = cast(HostModel, problem)
    return (PartGradients if _in_parts(problem) else HostGradients)(host, rows)


class Pool:
    """The gradients over all k subsets, each computed once for given parameters.

    Workers in one process that hold the same subset share its gradient. A message is then the same
    up to rounding: one pass over all rows of a worker adds them up in another order.

    Parameters
    ----------
    everything
        Gradients over all subsets, in order.
    problem
        Their model.
    """

    def __init__(self, everything: Gradients, problem: Problem) -> None:
        self._all, k = everything, len(everything.rows.sizes)
        self._t, self._theta = -1, np.empty(0)
        self._G, self._known = np.empty((k, problem.d), problem.dtype), np.zeros(k, np.bool_)

    def begin(self, t: int, theta: AnyArray) -> None:
        """Forget what was computed, if this is another iteration or these are other parameters."""
        if t != self._t or theta is not self._theta:
            self._t, self._theta = t, theta
            self._all.begin(t, theta)
            self._known[:] = False

    def of(self, subsets: IntArray) -> AnyArray:
        """Return the gradients over these subsets, (subsets, d)."""
        for j in subsets[~self._known[subsets]]:
            self._G[j] = self._all.exact(int(j))
            self._known[j] = True
        found: AnyArray = self._G[subsets]
        return found


class PooledGradients:
    """The gradients of one of the workers that share a pool."""

    def __init__(self, pool: Pool, subsets: Sequence[int]) -> None:
        self._pool, self._subsets = pool, np.array(subsets, dtype=np.intp)

    def begin(self, t: int, theta: AnyArray) -> None:
        """Take the parameters of iteration t."""
        self._pool.begin(t, theta)

    def message(self, coefficients: Array) -> tuple[AnyArray, float]:
        """Return the message, and the seconds spent on encoding."""
        G = self._pool.of(self._subsets)
        started = time.perf_counter()
        y = encode(coefficients, G)
        return y, time.perf_counter() - started


def same_for_all(weights: Array) -> Array | None:
    """Return the weights (m, 1) of a subset if all subsets of (m, subsets) have the same."""
    first = weights[:, :1]
    return first if bool((weights == first).all()) else None


def check(problem: Problem, X: AnyRows, y: AnyRows) -> None:
    """Try a model of your own on a row of the data, before anything starts.

    Parameters
    ----------
    X, y : (r, *shape), (r,) or (r, c)
        At least one row, as in the data set.

    Raises
    ------
    ValueError
        If its gradient or loss is not what it must be, or not the SUM over the rows.
    """
    if isinstance(problem, Ready):
        return
    theta = problem.initial(np.random.default_rng(0))
    name = getattr(problem, "name", type(problem).__name__)
    X, y = in_memory(X), in_memory(y)
    gradient = []
    for rows in ([0], [0, 0]):
        whole = gradients(problem, X[rows], y[rows], [len(rows)], [0], 1.0, Sampling())
        whole.begin(0, theta)
        gradient.append(whole.exact(0))
    one, two = (
        problem.loss(theta, prepare(X[rows], problem.dtype), problem.targets(y[rows]))
        for rows in ([0], [0, 0])
    )
    if not (np.isfinite(one) and np.isfinite(gradient[0]).all()):
        raise ValueError(
            f"problem {name}: loss and gradient must be finite, but the loss of the first row is "
            f"{one:g} with initial parameters"
        )
    if not _twice(two, one):
        raise ValueError(
            f"problem {name}: loss must be the SUM of the losses of the rows, but the loss of a "
            f"row is {one:.4g} and {two:.4g} for the same row twice: divide by no number of rows"
        )
    if not _draws(problem) and not _twice(gradient[1], gradient[0]):
        raise ValueError(
            f"problem {name}: gradient must be of the SUM of the losses of the rows, but the norm "
            f"for a row is {np.linalg.norm(gradient[0]):.4g}, and "
            f"{np.linalg.norm(gradient[1]):.4g} for the same row twice: divide by no number of rows"
        )


def _twice(two: AnyArray | float, one: AnyArray | float) -> bool:
    """Say whether `two` is twice `one`, up to rounding."""
    size = 2 * float(np.linalg.norm(np.atleast_1d(one)))
    return float(np.linalg.norm(np.atleast_1d(two - 2 * one))) <= 1e-2 * size


def _draws(problem: Problem) -> bool:
    return bool(getattr(problem, "draws", False))


def _in_parts(problem: Problem) -> bool:
    """Say whether a model makes all parts of a message in one pass."""
    own_way = isinstance(problem, Ready) or bool(getattr(problem, "in_parts", False))
    return own_way and not _draws(problem)
