"""What the scripts of figures 3 to 5 share: options, results cached in HDF5, one look."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from gcmpi.arrays import Array

Columns = Mapping[str, Array]


def options(description: str | None, name: str) -> argparse.Namespace:
    """Read the command line: sizes, the cache and the picture."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--draws", type=int, default=100, help="encoding matrices (default %(default)s)")
    add("--sets", type=int, default=1000, help="straggler sets of each size for each matrix")
    add("--seed", type=int, default=0, help="of matrices and sets")
    add("--results", type=Path, default=Path("figures") / f"{name}.h5", help="cached results")
    add("--output", type=Path, default=Path("figures") / f"{name}.png", help="the picture")
    return parser.parse_args()


def cached(path: Path, setting: Mapping[str, Any], compute: Callable[[], Columns]) -> Columns:
    """Return the columns stored in `path` for this setting, after computing them if need be.

    Parameters
    ----------
    path
        HDF5 file: one data set a column, all over the dimension s; attribute ``setting``.
    setting
        What the columns depend on.
    compute
        Called if the file does not hold them; returns the columns, ``s`` among them.
    """
    text = json.dumps(setting, sort_keys=True)
    if path.exists():
        with h5py.File(path) as file:
            if file.attrs.get("setting") == text:
                return {name: file[name][...] for name in file}
    begun = time.perf_counter()
    with threadpool_limits(1):  # the matrices are small: more BLAS threads slow it down
        columns = compute()
    seconds = time.perf_counter() - begun
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    with h5py.File(draft, "w") as file:
        file.attrs["setting"], file.attrs["seconds"] = text, seconds
        for name, values in columns.items():
            file[name] = values
        file["s"].make_scale("s")
        for name in columns.keys() - {"s"}:
            file[name].dims[0].attach_scale(file["s"])
    draft.replace(path)
    print(f"computed in {seconds:.1f} s, stored in {path}")
    return columns


def progress(what: str) -> Callable[[int, int], None]:
    """Return a progress report on standard error."""
    shown = time.monotonic()

    def report(done: int, of: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"# {what}: {done} of {of}", file=sys.stderr, flush=True)

    return report


def axes(title: str) -> tuple[Figure, Axes]:
    """Return a figure with axes for Err_S against s/n."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.set_title(title, fontsize="medium")
    ax.set_xlabel("share of stragglers $s/n$")
    ax.set_ylabel(r"approximation error $\mathrm{Err}_S$")
    ax.grid(alpha=0.3)
    return figure, ax


def save(figure: Figure, ax: Axes, path: Path) -> None:
    """Add the legend and write the picture."""
    ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    ax.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"drawn to {path}")


def table(columns: Columns) -> None:
    """Print the columns."""
    names = ["s", *sorted(columns.keys() - {"s"})]
    print("# " + "  ".join(f"{name:>14}" for name in names))
    for row in zip(*(np.asarray(columns[name]) for name in names), strict=True):
        print("  " + "  ".join(f"{value:14.6g}" for value in row))
