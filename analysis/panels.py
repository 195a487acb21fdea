"""The panels of the figure that `analysis.show_run` draws of a run, one function each.

All take a run as `analysis.load.load` returns it and the axes to draw in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from gcmpi.arrays import AnyArray, Array
from gcmpi.decoders import ridge_of

# Okabe and Ito's colours, which colour-blind readers can tell apart
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
IN_TIME = LinearSegmentedColormap.from_list("in time", ["#D6E6F4", "#5BA3CF", "#08306B"])
LATE, SILENT = ORANGE, "#FFFFFF"
COLUMNS = 1000
"""Columns of the heat map that can be told apart."""


def curves(run: xr.Dataset, axes: AnyArray) -> None:
    """Draw loss (first row) and accuracy (second) against time (first column) and iteration."""
    audited = run["check"].values != 255
    loss, accuracy = run["loss"].values[audited], 100 * run["accuracy"].values[audited]
    target = 100 * run.attrs["target_accuracy"]
    for j, (x, label) in enumerate((("seconds", "training time [s]"), ("iteration", "iteration"))):
        axes[0, j].plot(run[x].values[audited], loss, "o-", color=BLUE, ms=3.5)
        axes[1, j].plot(run[x].values[audited], accuracy, "o-", color=GREEN, ms=3.5)
        axes[1, j].set_xlabel(label)
        if target:
            axes[1, j].axhline(target, color=GREY, ls="--", lw=1)
    last = (f": {loss[-1]:.4g}", f": {accuracy[-1]:.4g}%") if audited.any() else ("", "")
    dashed = f" (target {target:g}%, dashed)" if target else ""
    axes[0, 0].set(title=f"Training loss{last[0]}", ylabel="mean loss")
    axes[1, 0].set(title=f"Test accuracy{last[1]}{dashed}", ylabel="accuracy [%]")
    axes[1, 1].xaxis.set_major_locator(_whole_numbers())
    known = loss[np.isfinite(loss)]
    if known.size and known.min() > 0 and known.max() > 10 * known.min():
        _logarithmic(axes[0, 0], "y", known)


def matrix_error(run: xr.Dataset) -> Array:
    """Return ||B R / alpha - F||_F / sqrt(mk) of every iteration, shape (iteration,).

    It bounds the error of the gradient, ||g_hat - g|| <= ||Z||_2 ||B R / alpha - F||_F, and is its
    relative error when the subset gradients are uncorrelated and of one size. If R is the
    least-squares decoding, B R is a projection of F, so that B R - F is orthogonal to it,
    ||B R||_F^2 = mk - Err_S, and with e = Err_S / (mk)
    ||B R / alpha - F||_F^2 / (mk) = (1 / alpha - 1)^2 (1 - e) + e.
    Of any other decoding only ||B R - F||_F / sqrt(mk) is known, which is returned: see `divided`.
    """
    e = run["approximation_error"].values / (run["m"].values * run.sizes["subset"])
    alpha = run["divisor"].values if divided(run) else 1.0
    error: Array = np.sqrt((1 / alpha - 1) ** 2 * (1 - e) + e)
    return error


def divided(run: xr.Dataset) -> bool:
    """Say whether `matrix_error` can count the division by alpha: after least squares, or by 1."""
    plain = {"decoder": "least-squares", "wire": "float32"} | run.attrs
    return ridge_of(plain["decoder"], plain["wire"]) == 0 or bool((run["divisor"] == 1).all())


def error_against_error(run: xr.Dataset, ax: Axes) -> None:
    """Draw the gradient error over the matrix error of the same iteration."""
    matrix, gradient = _visible(matrix_error(run)), _visible(run["gradient_error"].values)
    audited = np.isfinite(gradient)
    low, high = _error_limits(ax, "xy", np.append(matrix, gradient[audited]))
    known = divided(run)
    label = "equal: as if subset gradients were uncorrelated" if known else "equal"
    symbol = r"\|BR/\alpha - F\|" if known else r"\|BR - F\|"
    missing = "" if known else ", not divided by alpha"
    ax.plot([low, high], [low, high], "--", color=GREY, lw=1, label=label)
    ax.plot(
        matrix,
        np.zeros_like(matrix),
        "|",
        color=GREY,
        ms=8,
        mew=0.6,
        alpha=0.6,
        transform=ax.get_xaxis_transform(),
        label="matrix errors of all iterations",
    )
    dots = ax.scatter(
        matrix[audited],
        gradient[audited],
        c=run["iteration"].values[audited],
        cmap="cividis",
        s=26,
        edgecolors="white",
        linewidths=0.4,
        clip_on=False,
        zorder=3,
    )
    ax.set(
        title="Gradient error against matrix error",
        xlabel=rf"matrix error ${symbol}_F\,/\sqrt{{mk}}${missing}",
        ylabel=r"gradient error $\|\hat g - g\|\,/\,\|g\|$",
    )
    bar = ax.figure.colorbar(dots, ax=ax, pad=0.02, aspect=25, label="audited iteration")
    bar.locator = _whole_numbers()
    ax.figure.legend(loc="outside lower center")


def errors(run: xr.Dataset, ax: Axes) -> None:
    """Draw the matrix error of every iteration and the gradient error where it was audited."""
    iteration, matrix = run["iteration"].values, _visible(matrix_error(run))
    gradient = _visible(run["gradient_error"].values)
    _error_limits(ax, "y", np.append(matrix, gradient[np.isfinite(gradient)]))
    label = "matrix error" if divided(run) else "matrix error, not divided by alpha"
    ax.plot(iteration, matrix, color=GREY, label=label, **_dots(iteration))
    look: dict[str, Any] = {"color": VERMILION, "ms": 4, "clip_on": False, "zorder": 3}
    ax.plot(iteration, gradient, "D", label="gradient error, audited", **look)
    ax.set(title="Errors of the decoded gradient", ylabel="relative error")
    _legend_above(ax)


def _visible(errors: Array) -> Array:
    """Return errors that a logarithmic axis can show: below a rounding error counts as one."""
    return np.maximum(errors, np.finfo(np.float64).eps)


def _error_limits(ax: Axes, which: str, errors: Array) -> tuple[float, float]:
    """Set the scale and the limits of an axis of relative errors, or of both; return the limits.

    Errors of one size are shown from zero, others (of an exact code, of a long run) in decades.
    """
    low, high = float(errors.min()), float(errors.max())
    decades = low < high / 30 or high < 1e-3
    limits = (low / 2, max(2 * high, 1.0)) if decades else (0.0, 1.08 * high)
    for axis in which:
        if decades:
            _logarithmic(ax, axis, np.array(limits))
        ax.set(**{f"{axis}lim": limits})
    return limits


def _legend_above(ax: Axes, **options: Any) -> None:
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(ncols=3, **place, **options)


def _dots(iteration: AnyArray) -> dict[str, Any]:
    """Return the look of a value an iteration: joined dots, or a cloud where there are many."""
    if len(iteration) > 400:
        return {"marker": ".", "ms": 1.5, "ls": "none"}
    return {"marker": ".", "ms": 4, "lw": 0.8}


def arrivals(run: xr.Dataset, ax: Axes) -> None:
    """Draw who answered when: worker over iteration."""
    arrival = 1e3 * run["arrival_seconds"].values.T
    in_time = run["survivors"].values.T == 1
    late = np.isfinite(run["late_seconds"].values.T)
    known = arrival[in_time]
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    if high - low < 1e-3 * high:  # all the same, as on a virtual clock
        low = 0.0
    norm = Normalize(low, high)
    image = np.empty((*arrival.shape, 3))
    image[:] = to_rgb(SILENT)
    image[late] = to_rgb(LATE)
    image[in_time] = IN_TIME(norm(known))[:, :3]
    n, T = arrival.shape
    first = int(run["iteration"][0]) if T else 0
    ax.grid(visible=False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    # no more columns than pixels: what is left out would depend on luck
    width = -(-T // COLUMNS)
    starts = np.arange(0, T, width)
    image = np.add.reduceat(image, starts, axis=1) / np.diff([*starts, T])[:, None]
    extent = (first - 0.5, first + T - 0.5, n - 0.5, -0.5)
    ax.imshow(image, aspect="auto", extent=extent, interpolation="nearest")
    mean = f" (a column is the mean colour of {width})" if width > 1 else ""
    ax.set(title="Arrival of the answers", xlabel=f"iteration{mean}", ylabel="worker")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(_whole_numbers())
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    outside = bool((known < low).any()), bool((known > high).any())
    ax.figure.colorbar(
        ScalarMappable(norm, IN_TIME),
        ax=ax,
        pad=0.01,
        aspect=18,
        extend=beyond.get(outside, "both"),
        label="arrival after the start\nof the iteration [ms]",
    )
    silent = ~in_time & ~late
    _legend_above(
        ax,
        handles=[
            Patch(facecolor=IN_TIME(0.55), label=f"in time {in_time.mean():.1%}"),
            Patch(facecolor=LATE, label=f"too late {late.mean():.1%}"),
            Patch(facecolor=SILENT, edgecolor=GREY, label=f"silent or busy {silent.mean():.1%}"),
        ],
    )


def iteration_times(run: xr.Dataset, ax: Axes) -> None:
    """Draw the server's time, part by part, over the iterations."""
    iteration, timed = run["iteration"].values, run["warmup"].values == 0
    for part, colour, what in (
        ("exchange", BLUE, "exchange"),
        ("decode", VERMILION, "draw and decode"),
        ("update", GREEN, "update"),
    ):
        milliseconds = 1e3 * run[f"{part}_seconds"].values
        label = _with_median(what, milliseconds[timed])
        ax.plot(iteration, milliseconds, color=colour, label=label, **_dots(iteration))
    if not timed.all():
        last = iteration[~timed].max() + 0.5
        ax.axvspan(iteration[0] - 0.5, last, color="#EEEEEE", zorder=0, label="warm-up")
    ax.set_yscale("log")
    ax.set(title="Time of an iteration", xlabel="iteration", ylabel="time [ms]")
    ax.xaxis.set_major_locator(_whole_numbers())
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, labelspacing=0.8)


def worker_times(run: xr.Dataset, ax: Axes) -> None:
    """Draw each worker's median times of the answers that came in time."""
    timed = run["warmup"].values == 0
    workers = run["worker"].values
    base, width = np.zeros(len(workers)), 0.85 if len(workers) <= 40 else 1.0
    for part, colour in (("compute", BLUE), ("encode", VERMILION), ("delay", ORANGE)):
        milliseconds = 1e3 * run[f"{part}_seconds"].values[timed]
        height = np.array([_median(worker) for worker in milliseconds.T])
        label = _with_median(part, milliseconds)
        ax.bar(workers, height, width, bottom=base, color=colour, label=label)
        base += np.nan_to_num(height)
    arrival = 1e3 * run["arrival_seconds"].values[timed]
    medians = np.array([_median(worker) for worker in arrival.T])
    known = medians[np.isfinite(medians)]
    ax.plot(
        workers, medians, "_", color="black", ms=7, mew=1.5, label=_with_median("arrival", arrival)
    )
    ax.set(title="Time of a worker, answers in time", xlabel="worker", ylabel="median time [ms]")
    ax.set(xlim=(-0.7, len(workers) - 0.3), ylim=(0, 1.08 * max([base.max(), *known]) or 1.0))
    ax.grid(visible=False, axis="x")
    ax.xaxis.set_major_locator(_whole_numbers())
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, labelspacing=0.8)


def _median(values: AnyArray) -> float:
    """Return the median of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _with_median(name: str, milliseconds: AnyArray) -> str:
    median = _median(milliseconds)
    return f"{name}\n" + (f"median {median:.3g} ms" if np.isfinite(median) else "never timed")


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def _logarithmic(ax: Axes, which: str, values: Array) -> None:
    """Make an axis logarithmic; 0.2, 0.5, 1, 2, ... rather than powers of ten if that suffices."""
    ax.set(**{f"{which}scale": "log"})
    if values.max() < 1e4 * values.min():
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
