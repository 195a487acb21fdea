"""A model as the checks see it: of both seams, with what it may leave out."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.testing.parts import Place

NEEDED = ("d", "initial", "loss", "gradient")
"""The members of a model that the library asks for."""
ON_DEVICE = ("rows", "load", "gradient", "host")
"""The members that a model on a device has in place of the gradient above."""


@dataclass(frozen=True)
class Rows:
    """Example rows X (r, *shape), their labels y, and their targets Y."""

    X: AnyArray
    y: AnyArray
    Y: AnyArray

    def __getitem__(self, index: Any) -> Rows:
        """Return some of the rows."""
        return Rows(self.X[index], self.y[index], self.Y[index])

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.X)


class Model:
    """A model of your own with the members that it may leave out."""

    def __init__(self, place: Place, own: Any, dtype: str, seed: int) -> None:
        self.place, self.own, self.seed = place, own, seed
        given = getattr(own, "dtype", None)
        if given is not None and np.dtype(given) != np.dtype(dtype) and hasattr(own, "astype"):
            self.own, given = own.astype(np.dtype(dtype)), dtype
        self.dtype = np.dtype(given or dtype)
        self.on_device = hasattr(own, "rows")

    @property
    def precision(self) -> float:
        """The precision of the model's numbers."""
        return float(np.finfo(self.dtype).eps)

    def check_members(self) -> None:
        """Refuse a model that lacks a member."""
        needed = (*NEEDED[:3], *ON_DEVICE) if self.on_device else NEEDED
        missing = [name for name in needed if not hasattr(self.own, name)]
        if missing:
            raise self.place.broken(
                "members", f"it needs {', '.join(needed)}, and has no {' nor '.join(missing)}"
            )
        d = self.own.d
        if isinstance(d, bool) or not isinstance(d, int | np.integer) or d < 1:
            raise self.place.broken("members", f"d must be a whole number from 1, not {d!r:.60}")

    def data(self, X: AnyArray, y: AnyArray) -> Rows:
        """Return rows in the model's type with their targets."""
        return Rows(X.astype(self.dtype), y, self.targets(y))

    def targets(self, y: AnyArray) -> AnyArray:
        """Return what the loss compares with."""
        if hasattr(self.own, "targets"):
            return np.asarray(self.own.targets(y))
        return y if y.dtype.kind in "iu" else y.astype(self.dtype)

    @property
    def draws(self) -> bool:
        """Whether the gradient depends on a generator, as with dropout."""
        takes = "rng" in inspect.signature(self.own.gradient).parameters
        return takes and bool(getattr(self.own, "draws", True))

    def gradient(self, theta: AnyArray, rows: Rows, scale: float = 1.0) -> AnyArray:
        """Return what the model's gradient returns, of scale times the sum of the losses."""
        takes = "rng" in inspect.signature(self.own.gradient).parameters
        drawn = {"rng": np.random.default_rng(self.seed)} if takes else {}
        if not self.on_device:
            g = self.own.gradient(theta, rows.X, rows.Y, scale, **drawn)
        else:
            self.own.load(theta)
            g = self.own.host(self.own.gradient(self.own.rows(rows.X, rows.y), **drawn) * scale)
        g = np.asarray(g)
        if g.shape != (self.own.d,) or g.dtype.kind not in "fiu":
            raise self.place.broken(
                "gradient",
                f"gradient(theta, X, Y, scale) must be d = {self.own.d} numbers, not {g.dtype} of "
                f"shape {g.shape}",
            )
        return g

    def loss(self, theta: AnyArray, rows: Rows) -> float:
        """Return the model's loss as a float."""
        loss = self.own.loss(theta, rows.X, rows.Y)
        try:
            number = float(loss)
        except (TypeError, ValueError) as error:
            raise self.place.broken(
                "sum", f"loss(theta, X, Y) must be one number, not {loss!r:.80}"
            ) from error
        if not math.isfinite(number):
            raise self.place.broken("sum", f"loss(theta, X, Y) is {number}, and must be finite")
        return number

    def copy(self, theta: AnyArray, rows: Rows, scale: float = 1.0) -> AnyArray:
        """Return a gradient that a model which uses its array again cannot change."""
        return np.array(self.gradient(theta, rows, scale))

    def same(self, law: str, what: str, got: AnyArray, wanted: AnyArray) -> None:
        """Refuse numbers that differ by more than rounding."""
        close = 1e4 * self.precision * max(float(np.abs(wanted).max(initial=0)), 1e-6)
        off = np.abs(got.astype(np.float64) - wanted)
        if not (off <= close).all():
            i = int(np.nan_to_num(off, nan=np.inf).argmax())
            raise self.place.broken(
                law,
                f"{what} {wanted[i]:.9g} in place {i}, but the model gives {got[i]:.9g} (off by "
                f"{off[i]:.2g})",
            )
