"""What the commands print and draw: tables that line up, JSON, curves, progress."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gcmpi.codes.errors import Curve, Summary
from gcmpi.commands.codes.arguments import Choice
from gcmpi.sentences import left, words

EVERY = 10.0
"""Seconds between progress lines where nobody watches."""


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print columns: numbers with six digits to the right, text to the left, ``-`` for None."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    left = [not _is_number(value) for value in (texts[0] if texts else headings)]
    for number, row in enumerate([headings, *texts]):
        cells = [
            f"{cell:<{width}}" if is_left else f"{cell:>{width}}"
            for cell, width, is_left in zip(row, widths, left, strict=True)
        ]
        print(("# " if number == 0 else "  ") + "  ".join(cells).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True


def print_json(objects: Iterable[dict[str, Any]]) -> None:
    """Print a JSON list, one object a line."""
    print("[" + ",\n ".join(json.dumps(x, allow_nan=False) for x in objects) + "]")


def curve_objects(curve: Curve) -> list[dict[str, Any]]:
    """Return the points of a curve with the keys s, mean, stderr, max, bound, lower_bound."""
    return [
        {
            "s": p.s,
            **statistics(p.error),
            "bound": p.bound.mean if p.bound else None,
            "lower_bound": p.lower_bound,
        }
        for p in curve.points
    ]


def statistics(found: Summary) -> dict[str, float | None]:
    """Return mean, stderr (null if there is but one error) and max."""
    stderr = None if math.isnan(found.stderr) else found.stderr
    return {"mean": found.mean, "stderr": stderr, "max": found.maximum}


def plot(path: str, curves: Sequence[tuple[Choice, Curve]]) -> None:
    """Draw mean errors against the share of stragglers; for one code its bounds too.

    Raises
    ------
    ValueError
        If matplotlib is missing or the file cannot be written.
    """
    figure = new_figure(7.0, 4.5)
    axes = figure.add_subplot()
    for choice, curve in curves:
        alone = len(curves) == 1
        x = [p.s if alone else p.s / choice.n for p in curve.points]
        scale = 1 if alone else choice.total
        label = "mean" if alone else choice.name
        axes.plot(x, [p.error.mean / scale for p in curve.points], "o-", ms=3, label=label)
        if alone:
            axes.set_title(f"{choice.name} ($mk$ = {choice.total})", fontsize="medium")
            axes.plot(x, [p.error.maximum for p in curve.points], "v:", ms=3, label="maximum")
            upper = [p.bound.mean for p in curve.points if p.bound]
            if upper:
                axes.plot(x, upper, "--", label=f"upper bound ({curve.theorem})")
            axes.plot(x, [p.lower_bound for p in curve.points], "-.", label="lower bound on means")
    axes.set_xlabel("stragglers $s$" if len(curves) == 1 else "share of stragglers $s/n$")
    axes.set_ylabel("$\\mathrm{Err}_S$" if len(curves) == 1 else "mean $\\mathrm{Err}_S / (mk)$")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    save(figure, path)


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure, sizes in inches.

    Raises
    ------
    ValueError
        If matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("--plot needs matplotlib: pip install 'gcmpi[analysis]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_plot(path: str) -> None:
    """Find out before the work whether a figure can be written.

    Raises
    ------
    ValueError
        If matplotlib is missing, does not know the format, or the file cannot be written.
    """
    formats = new_figure(1.0, 1.0).canvas.get_supported_filetypes()
    file = Path(path)
    if file.suffix.removeprefix(".").lower() not in formats:
        known = ", .".join(formats)
        raise ValueError(f"cannot write --plot {path}: its name must end in one of .{known}")
    writable = file if file.exists() else file.parent
    if file.is_dir() or not os.access(writable, os.W_OK):
        why = "it is a directory" if file.is_dir() else f"{writable} cannot be written"
        raise ValueError(f"cannot write --plot {path}: {why}")


def save(figure: Any, path: str) -> None:
    """Write a figure.

    Raises
    ------
    ValueError
        If the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot write --plot {path}: {words(error, path)}") from error


class Progress:
    """Says on standard error how far the work is: live on a terminal, else every ten seconds."""

    def __init__(self, what: str) -> None:
        self._what, self._live = what, sys.stderr.isatty()
        self._began = self._last = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        """Say that `done` of `of` steps are done, if it is time to."""
        now = time.monotonic()
        if now - self._last < (0.2 if self._live else EVERY) and not (self._live and done == of):
            return
        self._last = now
        line = f"{self._what}: {left(self._began, now, done, of)}"
        end = "\n" if not self._live else ("\r" + " " * len(line) + "\r" if done == of else "")
        print(f"\r{line}" if self._live else f"# {line}", end=end, file=sys.stderr, flush=True)
