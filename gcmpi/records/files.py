"""Writing and reading run files; the schema is in the docstring of the package."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gcmpi import environment
from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.codebook import CodeBook
from gcmpi.importing import SCRIPT, Source
from gcmpi.records.record import FIELDS, Record
from gcmpi.sentences import words
from gcmpi.training import State
from gcmpi.version import VERSION

FORMAT = "gcmpi run 1"


@dataclass(frozen=True)
class Description:
    """What a run file says besides its iterations.

    Attributes
    ----------
    own
        Where the user's own parts come from, by setting.
    """

    experiment: str
    digest: str
    assignment: str
    encoding: str
    codes: CodeBook
    alpha: Array
    environment: Mapping[str, str]
    own: Mapping[str, Source] = dataclasses.field(default_factory=dict)
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
            file.attrs["gcmpi_version"] = VERSION
            file.attrs["status"] = status
            file.attrs["created"] = description.created
            file.attrs["valid"] = int(valid)
            _write_experiment(file, description)
            _write_own(file, description.own)
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
    surroundings = file.create_group("environment")
    for name, value in description.environment.items():
        surroundings.attrs[name] = value


def _write_own(file: Any, own: Mapping[str, Source]) -> None:
    """Write module, file and SHA-256 of every part of the user's own, and the script, if any."""
    if not own:
        return
    parts = file.create_group("own")
    for setting, source in own.items():
        part = parts.create_group(setting)
        for name, value in dataclasses.asdict(source).items():
            part.attrs[name] = value
    scripts = {source.file for source in own.values() if source.module == SCRIPT and source.file}
    for script in scripts:
        text = Path(script).read_text(encoding="utf-8", errors="replace")
        _dataset(parts, "script", text, "the script that made these parts")


def _write_code(group: Any, description: Description, columns: Mapping[str, AnyArray]) -> None:
    codes = description.codes
    k, n = codes.A.shape
    group.attrs["assignment"] = description.assignment
    group.attrs["encoding"] = description.encoding
    group.attrs["m"] = codes.m
    group.attrs["redrawn"] = int(codes.fixed is None)
    group.attrs["relabelled"] = int(codes.relabel)
    group.attrs["seed"] = str(codes.seed)
    subset, worker = _scale(group, "subset", np.arange(k)), _scale(group, "worker", np.arange(n))
    _dataset(group, "A", codes.A, "assignment matrix", scales=(subset, worker))
    if codes.fixed is not None:
        coded_row = _scale(group, "coded_row", np.arange(codes.m * k))
        _dataset(group, "B", codes.fixed, "encoding matrix", scales=(coded_row, worker))
    count = _scale(group, "straggler_count", np.arange(n + 1))
    name = "the gradient decoded with so many stragglers is divided by it"
    _dataset(group, "alpha_by_straggler_count", description.alpha, name, scales=(count,))
    divisors = columns["divisor"][np.isfinite(columns["divisor"])]
    alpha = float(divisors.mean()) if divisors.size else float("nan")
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
    """What is needed of an earlier run to replay or resume it.

    Attributes
    ----------
    columns
        The data sets of ``/iterations``; without those that an older version did not write.
    simulated
        Whether it ran on a virtual clock.
    loads : (n,)
        How many subsets each worker holds.
    """

    experiment: str
    status: str
    created: str
    simulated: bool
    loads: IntArray
    columns: Mapping[str, AnyArray]
    state: State
    optimizer_state: Mapping[str, AnyArray]
    command: str
    own: Mapping[str, Source]

    def changed(self, now: Mapping[str, Source]) -> list[str]:
        """Say of which own parts the file's content is another one now, a sentence each."""
        return [
            f"{setting} {source.module}: {source.file} has changed since the run (SHA-256 "
            f"{before.sha256[:12]} then, {source.sha256[:12]} now)"
            for setting, source in now.items()
            if (before := self.own.get(setting)) is not None
            and before.module == source.module
            and before.sha256 != source.sha256
        ]


def check(path: Path) -> None:
    """Refuse what is not a run file.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a run file.
    """
    import h5py

    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise ValueError(f"there is no run file {path}") from error
    except OSError as error:
        raise ValueError(f"cannot read run file {path}: {words(error, path)}") from error
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not a run file of gcmpi.train: it cannot be read as HDF5")
    try:
        with h5py.File(path, "r") as file:
            kind = file.attrs.get("format")
    except OSError as error:
        raise ValueError(f"cannot read run file {path}: {words(error, path)}") from error
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
            prefix, known = "optimizer_", file["iterations"]
            return RunFile(
                file["experiment/toml"].asstr()[()],
                str(file.attrs["status"]),
                str(file.attrs["created"]),
                file["environment"].attrs["mpi_library"] == environment.SIMULATED,
                file["code/A"][()].sum(axis=0, dtype=np.intp),
                {name: known[name][()] for name in ("iteration", *FIELDS) if name in known},
                state,
                {
                    name.removeprefix(prefix): final[name][()]
                    for name in final
                    if name.startswith(prefix)
                },
                str(file["environment"].attrs.get("command", "")),
                _read_own(file),
            )
    except (OSError, KeyError) as error:
        raise ValueError(f"cannot read run file {path}: {words(error, path)}") from error


def _read_own(file: Any) -> dict[str, Source]:
    """Return where the user's own parts came from, by setting."""
    parts = file.get("own", {})
    return {
        setting: Source(
            *(str(parts[setting].attrs[field.name]) for field in dataclasses.fields(Source))
        )
        for setting in parts
        if setting != "script"
    }
