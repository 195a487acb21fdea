"""Gradients against central differences of the loss."""

from __future__ import annotations

import math

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.testing.models import Model, Rows

COORDINATES, DIRECTIONS = 200, 5
"""Single parameters, and random directions, along which a gradient is compared."""


def check_gradient(model: Model, theta: AnyArray, rows: Rows, tolerance: float | None) -> None:
    """Compare the gradient with central differences of the loss."""
    if model.draws:  # the loss has no dropout
        return
    g = model.copy(theta, rows).astype(np.float64)
    rng = np.random.default_rng([model.seed, 3])
    d = len(theta)
    tolerance = np.cbrt(model.precision) if tolerance is None else tolerance
    scale = float(np.sqrt(np.mean(g**2)))
    for v in rng.normal(size=(DIRECTIONS, d)):
        unit = v / np.linalg.norm(v)
        found, off, allowed = _difference(model, theta, rows, unit, g, tolerance, scale)
        if off > allowed:
            raise model.place.broken(
                "gradient",
                f"along a random direction the gradient is {g @ unit:.9g}, but the loss "
                f"changes by {found:.9g} (off by {off:.2g}, allowed are {allowed:.2g}); "
                f"{_worst(model, theta, rows, g, tolerance)}",
            )
    for i in np.sort(rng.permutation(d)[:COORDINATES]):
        unit = np.zeros(d)
        unit[i] = 1
        found, off, allowed = _difference(model, theta, rows, unit, g, tolerance, scale)
        if off > allowed:
            raise model.place.broken(
                "gradient",
                f"gradient[{i}] = {g[i]:.9g}, but the loss changes by {found:.9g} with "
                f"theta[{i}] (off by {off:.2g}, allowed are {allowed:.2g})",
            )


def _difference(
    model: Model,
    theta: AnyArray,
    rows: Rows,
    unit: Array,
    g: Array,
    tolerance: float,
    scale: float,
) -> tuple[float, float, float]:
    """Return the change of the loss along a direction, by how much g is off, and what may be.

    Steps of three sizes: one suffices, because a loss with kinks has some within a step.
    """
    best = (math.nan, math.inf, 0.0)
    size = np.cbrt(model.precision) * max(1.0, float(np.abs(theta[unit != 0]).max(initial=0)))
    for step in (size, size / 10, size * 10):
        ahead = (theta + step * unit).astype(model.dtype)
        behind = (theta - step * unit).astype(model.dtype)
        width = float((ahead.astype(np.float64) - behind) @ unit)  # as far as floats go
        one, other = model.loss(ahead, rows), model.loss(behind, rows)
        found = (one - other) / width
        noise = 20 * model.precision * max(abs(one), abs(other)) / width
        allowed = tolerance * max(abs(float(g @ unit)), abs(found), scale) + noise
        off = abs(float(g @ unit) - found)
        if off - allowed < best[1] - best[2]:
            best = (found, off, allowed)
        if off <= allowed:
            break
    return best


def _worst(model: Model, theta: AnyArray, rows: Rows, g: Array, tolerance: float) -> str:
    """Name the first parameters whose derivative is wrong."""
    wrong = []
    for i in range(min(len(theta), COORDINATES)):
        unit = np.zeros(len(theta))
        unit[i] = 1
        found, off, allowed = _difference(model, theta, rows, unit, g, tolerance, 0.0)
        if off > allowed:
            wrong.append(f"gradient[{i}] = {g[i]:.6g} for {found:.6g}")
    return f"wrong are {len(wrong)} of the first {i + 1} parameters" + (
        f", {', '.join(wrong[:3])}" if wrong else ""
    )
