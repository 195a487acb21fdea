"""Run files (HDF5): the only module that imports h5py.

Schema
------
``/``                attributes: format, gcmpi_version, status (running, complete, interrupted,
                     failed), created (ISO 8601, UTC), valid (1 or 0)
``/experiment``      toml: everything that fixes the run (`gcmpi.experiment.Experiment`);
                     attribute hash, also in the default file name
``/environment``     attributes: command, commit, versions, MPI library, hosts, CPUs, SLURM job
``/code``            A (subset, worker); B (coded_row, worker), row u*k + j being part u of subset
                     j, or without B the attributes redrawn = 1 and seed; alpha_by_straggler_count
                     (straggler_count) and alpha, its mean over the iterations that were run;
                     attributes assignment, encoding, m
``/iterations``      what `FIELDS` lists, over the scales iteration and worker; NaN where missing
``/final``           theta (parameter); the optimizer's state; attributes iteration and seconds:
                     where a run can be resumed

Every data set has long_name and units, masks are uint8, and every dimension has a scale, so that
``xarray.open_dataset(path, group="iterations", engine="h5netcdf")`` works. The file is replaced as
a whole at every checkpoint: what has its name is always complete and readable.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gcmpi
from gcmpi.code import AnyArray, Array
from gcmpi.codebook import CodeBook
from gcmpi.registry import STRAGGLERS
from gcmpi.stragglers import Table, Unit, from_trace
from gcmpi.training import Iteration, State

FORMAT = "gcmpi run 1"


@dataclass(frozen=True)
class Field:
    """One data set of ``/iterations``."""

    long_name: str
    units: str = "1"
    dtype: str = "f8"
    by_worker: bool = False


FIELDS: Mapping[str, Field] = {
    "seconds": Field("training time up to the end of the iteration, without audits", "s"),
    "loss": Field("mean training loss after the iteration"),
    "accuracy": Field("test accuracy after the iteration"),
    "gradient_error": Field("relative error of the gradient, ||g_hat - g|| / ||g||"),
    "approximation_error": Field("||B R - F||_F^2, between 0 and m k"),
    "check": Field(
        "decoded gradient is what the code promises: 1 yes, 0 no, 255 not audited", dtype="u1"
    ),
    "survivors": Field("answer in time", dtype="u1", by_worker=True),
    "arrival_seconds": Field("answer's arrival, from the iteration's start", "s", by_worker=True),
    "late_seconds": Field("arrival of an answer that was too late", "s", by_worker=True),
    "compute_seconds": Field("worker's gradients", "s", by_worker=True),
    "encode_seconds": Field("worker's encoding", "s", by_worker=True),
    "delay_seconds": Field("worker's delay by the straggler model", "s", by_worker=True),
    "exchange_seconds": Field("from the first send to the end of waiting", "s"),
    "decode_seconds": Field("drawing the code and decoding", "s"),
    "update_seconds": Field("optimizer", "s"),
    "bytes_up": Field("received from workers", "byte", "i8"),
    "bytes_down": Field("sent to workers", "byte", "i8"),
    "stale_messages": Field("answers to earlier iterations, dropped", dtype="i8"),
    "warmup": Field("left out of timing tables", dtype="u1"),
}


class Record:
    """The rows of a run in memory.

    Parameters
    ----------
    n
        The number of workers.
    earlier
        Columns of the run that this one resumes.
    """

    def __init__(self, n: int, earlier: Mapping[str, AnyArray] | None = None) -> None:
        self.n = n
        self._earlier = earlier
        self._rows: list[Iteration] = []

    def append(self, row: Iteration) -> None:
        """Add the next iteration."""
        self._rows.append(row)

    @property
    def columns(self) -> dict[str, AnyArray]:
        """The data sets of ``/iterations`` with the scale `iteration`, by name."""
        columns: dict[str, AnyArray] = {
            "iteration": np.array([row.iteration for row in self._rows], dtype="i8")
        }
        for name, field in FIELDS.items():
            shape = (len(self._rows), self.n) if field.by_worker else (len(self._rows),)
            if name == "late_seconds":
                columns[name] = np.full(shape, np.nan)
                continue
            values = [getattr(row, name) for row in self._rows]
            columns[name] = np.array(values, dtype=field.dtype).reshape(shape)
        if self._earlier is not None:
            columns = {
                name: np.concatenate([self._earlier[name], new]) for name, new in columns.items()
            }
        position = {int(t): row for row, t in enumerate(columns["iteration"])}
        for row in self._rows:
            for t, worker, seconds in row.late:
                columns["late_seconds"][position[t], worker] = seconds
        return columns


@dataclass(frozen=True)
class Description:
    """What a run file says besides its iterations."""

    experiment: str
    digest: str
    assignment: str
    encoding: str
    codes: CodeBook
    alpha: Array
    environment: Mapping[str, str]
    created: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )


def write(
    path: Path,
    description: Description,
    record: Record,
    state: State,
    optimizer_state: Mapping[str, AnyArray],
    *,
    status: str,
    valid: bool,
) -> None:
    """Write a run file, in place of an earlier one only when it is complete on the disk.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import h5py

    temporary = path.with_name(path.name + ".tmp")
    try:
        # the newest format that both HDF5 1.14 and 2.0 read
        with h5py.File(temporary, "w", libver=("v108", "v110")) as file:
            file.attrs["format"] = FORMAT
            file.attrs["gcmpi_version"] = gcmpi.__version__
            file.attrs["status"] = status
            file.attrs["created"] = description.created
            file.attrs["valid"] = int(valid)
            _write_experiment(file, description)
            columns = record.columns
            _write_code(file.create_group("code"), description, columns)
            _write_iterations(file.create_group("iterations"), columns, record.n)
            _write_final(file.create_group("final"), state, optimizer_state)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_experiment(file: Any, description: Description) -> None:
    experiment = file.create_group("experiment")
    _dataset(experiment, "toml", description.experiment, "all that fixes the run, as TOML")
    experiment.attrs["hash"] = description.digest
    environment = file.create_group("environment")
    for name, value in description.environment.items():
        environment.attrs[name] = value


def _write_code(group: Any, description: Description, columns: Mapping[str, AnyArray]) -> None:
    codes = description.codes
    k, n = codes.A.shape
    group.attrs["assignment"] = description.assignment
    group.attrs["encoding"] = description.encoding
    group.attrs["m"] = codes.m
    group.attrs["redrawn"] = int(codes.fixed is None)
    group.attrs["seed"] = str(codes.seed)
    subset, worker = _scale(group, "subset", np.arange(k)), _scale(group, "worker", np.arange(n))
    _dataset(group, "A", codes.A, "assignment matrix", scales=(subset, worker))
    if codes.fixed is not None:
        coded_row = _scale(group, "coded_row", np.arange(codes.m * k))
        _dataset(group, "B", codes.fixed, "encoding matrix", scales=(coded_row, worker))
    count = _scale(group, "straggler_count", np.arange(n + 1))
    name = "the gradient decoded with so many stragglers is divided by it"
    _dataset(group, "alpha_by_straggler_count", description.alpha, name, scales=(count,))
    stragglers = n - columns["survivors"].sum(axis=1, dtype=int)
    alpha = float(description.alpha[stragglers].mean()) if stragglers.size else float("nan")
    _dataset(group, "alpha", alpha, "mean shrinkage of the decoded gradient, divided out")


def _write_iterations(group: Any, columns: Mapping[str, AnyArray], n: int) -> None:
    iteration = _scale(group, "iteration", columns["iteration"])
    worker = _scale(group, "worker", np.arange(n))
    for name, field in FIELDS.items():
        scales = (iteration, worker) if field.by_worker else (iteration,)
        _dataset(group, name, columns[name], field.long_name, field.units, scales)


def _write_final(group: Any, state: State, optimizer_state: Mapping[str, AnyArray]) -> None:
    group.attrs["iteration"] = state.t
    group.attrs["seconds"] = state.seconds
    parameter = _scale(group, "parameter", np.arange(state.theta.size))
    _dataset(group, "theta", state.theta, "parameters", scales=(parameter,))
    for name, value in optimizer_state.items():
        title = f"state of the optimizer: {name}"
        _dataset(group, f"optimizer_{name}", value, title, scales=(parameter,))


def _scale(group: Any, name: str, values: AnyArray) -> Any:
    scale = group.create_dataset(name, data=values)
    scale.make_scale(name)
    scale.attrs["long_name"] = name.replace("_", " ")
    scale.attrs["units"] = "1"
    return scale


def _dataset(
    group: Any, name: str, data: Any, long_name: str, units: str = "1", scales: Sequence[Any] = ()
) -> None:
    # a filter needs chunks, and chunks a size above zero
    packed = {"compression": "gzip", "shuffle": True} if np.size(data) > 256 else {}
    dataset = group.create_dataset(name, data=data, **packed)
    dataset.attrs["long_name"] = long_name
    dataset.attrs["units"] = units
    for axis, scale in enumerate(scales):
        dataset.dims[axis].attach_scale(scale)


@dataclass(frozen=True)
class RunFile:
    """What is needed of an earlier run to replay or resume it."""

    experiment: str
    status: str
    created: str
    columns: Mapping[str, AnyArray]
    state: State
    optimizer_state: Mapping[str, AnyArray]


def check(path: Path) -> None:
    """Refuse what is not a run file.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a run file.
    """
    import h5py

    if not path.exists():
        raise ValueError(f"there is no run file {path}")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not a run file of gcmpi.train: it cannot be read as HDF5")
    try:
        with h5py.File(path, "r") as file:
            kind = file.attrs.get("format")
    except OSError as error:
        raise ValueError(f"cannot read run file {path}: {error}") from error
    if kind != FORMAT:
        raise ValueError(f"{path} is an HDF5 file, but not a run file of gcmpi.train")


def read(path: Path) -> RunFile:
    """Read a run file.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a run file.
    """
    import h5py

    check(path)
    try:
        with h5py.File(path, "r") as file:
            final = file["final"]
            state = State(
                int(final.attrs["iteration"]), final["theta"][()], float(final.attrs["seconds"])
            )
            prefix = "optimizer_"
            return RunFile(
                file["experiment/toml"].asstr()[()],
                str(file.attrs["status"]),
                str(file.attrs["created"]),
                {name: file["iterations"][name][()] for name in ("iteration", *FIELDS)},
                state,
                {
                    name.removeprefix(prefix): final[name][()]
                    for name in final
                    if name.startswith(prefix)
                },
            )
    except (OSError, KeyError) as error:
        raise ValueError(f"cannot read run file {path}: {error}") from error


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
    `gcmpi.stragglers.from_trace` for what becomes of the seconds.

    Raises
    ------
    ValueError
        If the file cannot be read or is not such a table.
    """
    return from_trace(_read_table(Path(path), dataset), n, scale, unit, rates)


@STRAGGLERS.register("replay", silent=True)
def replay(n: int, path: str) -> Table:
    """Replay the stragglers of a run: who did not answer in time there is silent here.

    Raises
    ------
    ValueError
        If the file is not a run file, or its run had another number of workers.
    """
    survivors = read(Path(path)).columns["survivors"]
    if survivors.shape[1] != n or not len(survivors):
        raise ValueError(
            f"stragglers replay: {path} has {survivors.shape[1]} workers and {len(survivors)} "
            f"iterations, but there are {n} workers"
        )
    return Table(np.where(survivors != 0, 0.0, np.inf))


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
        raise ValueError(f"cannot read trace {path}: {error}") from error


def _read_csv(path: Path) -> Array:
    lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8-sig").splitlines()]
    cells = [[cell.strip() for cell in line.split(",")] for line in lines if line]
    if len({len(row) for row in cells}) > 1:
        raise ValueError(f"trace {path} must have the same number of workers in every line")
    try:
        return np.array([[float(cell or "nan") for cell in row] for row in cells])
    except ValueError as error:
        raise ValueError(f"trace {path} must hold seconds separated by commas: {error}") from error
