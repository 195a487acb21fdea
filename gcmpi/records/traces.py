"""Straggler models that are read from files: measured seconds, and earlier runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gcmpi.arrays import Array
from gcmpi.cluster.stragglers import Table, Unit, from_trace
from gcmpi.records.files import read
from gcmpi.registry import STRAGGLERS
from gcmpi.sentences import words


@STRAGGLERS.register("trace")
def trace(
    n: int,
    path: str,
    dataset: str = "",
    scale: float = 1.0,
    unit: Unit = "seconds",
    rates: tuple[float, ...] = (),
) -> Table:
    """Delay workers as measured: a CSV or HDF5 table (iterations, workers) of seconds.

    `dataset` names the table in an HDF5 file. A CSV file has one iteration a line and no heading
    but comments (#); an empty cell or nan is a worker that never answered. See
    `gcmpi.cluster.stragglers.from_trace` for what becomes of the seconds.

    Raises
    ------
    ValueError
        If the file cannot be read or is not such a table.
    """
    return from_trace(_read_table(Path(path), dataset), n, scale, unit, rates)


@STRAGGLERS.register("replay")
def replay(n: int, path: str) -> Table:
    """Replay the stragglers of a run: who did not answer in time there is silent here.

    So is who had finished only a part of its subsets, with a code that makes use of such parts.

    Raises
    ------
    ValueError
        If the file is not a run file, or its run had another number of workers.
    """
    run = read(Path(path))
    survivors = run.columns["survivors"]
    if survivors.shape[1] != n or not len(survivors):
        raise ValueError(
            f"stragglers replay: {path} has {survivors.shape[1]} workers and {len(survivors)} "
            f"iterations, but there are {n} workers"
        )
    finished = run.columns.get("finished", np.zeros(survivors.shape))  # 0 where not known
    in_time = (survivors != 0) & ((finished == 0) | (finished >= run.loads))
    return Table(np.where(in_time, 0.0, np.inf))


def _read_table(path: Path, dataset: str) -> Array:
    import h5py

    try:
        if not h5py.is_hdf5(path):
            return _read_csv(path)
        with h5py.File(path, "r") as file:
            tables: list[str] = []
            file.visititems(
                lambda name, item: (
                    tables.append(name)
                    if getattr(item, "ndim", 0) == 2 and item.dtype.kind in "fiu"
                    else None
                )
            )
            if not tables:
                raise ValueError(f"trace {path} has no table of numbers (iterations, workers)")
            if dataset not in tables:
                raise ValueError(
                    f"trace {path} has no table {dataset!r}; dataset= must be one of "
                    f"{', '.join(tables[:12])}{', ...' if len(tables) > 12 else ''}"
                )
            table: Array = file[dataset][()].astype(np.float64)
            return table
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read trace {path}: {words(error, path)}") from error


def _read_csv(path: Path) -> Array:
    lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8-sig").splitlines()]
    cells = [[cell.strip() for cell in line.split(",")] for line in lines if line]
    if len({len(row) for row in cells}) > 1:
        raise ValueError(f"trace {path} must have the same number of workers in every line")
    try:
        return np.array([[float(cell or "nan") for cell in row] for row in cells])
    except ValueError as error:
        raise ValueError(f"trace {path} must hold seconds separated by commas: {error}") from error
