"""Writing and reading run files; the schema is in the docstring of the package."""

from __future__ import annotations

import dataclasses
import datetime
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gcmpi import environment
from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.codes.ensemble import Ensemble
from gcmpi.importing import SCRIPT, Source
from gcmpi.records.figures import NO_TARGET, Target
from gcmpi.records.record import Record
from gcmpi.sentences import words
from gcmpi.training import FIELDS, State
from gcmpi.version import VERSION

FORMAT = "gcmpi run 1"


@dataclass(frozen=True)
class Description:
    """What a run file says besides its iterations.

    Attributes
    ----------
    environment
        Where the run was started, and by which command.
    own
        Where the user's own parts come from, by setting.
    target
        What ends the run early.
    resumed
        The same of every resume.
    writer
        Who may replace the file.
    """

    experiment: str
    digest: str
    assignment: str
    encoding: str
    codes: Ensemble
    alpha: Array
    environment: Mapping[str, str]
    own: Mapping[str, Source] = dataclasses.field(default_factory=dict)
    target: Target = NO_TARGET
    created: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )
    resumed: tuple[Mapping[str, str], ...] = ()
    writer: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def resume(self, earlier: RunFile) -> Description:
        """Return the description of a run that goes on here; it keeps where it was started."""
        here = {**self.environment, "iteration": str(earlier.state.t)}
        for setting, source in self.own.items():
            here[f"own_{setting}_sha256"] = source.sha256
        return dataclasses.replace(
            self,
            created=earlier.created,
            own=earlier.own or self.own,
            environment=earlier.environment,
            resumed=(*earlier.resumed, here),
        )


class TakenError(ValueError):
    """A run file that is another run's."""


def write(
    path: Path,
    description: Description,
    record: Record,
    state: State,
    *,
    status: str,
    valid: bool,
    overwrite: bool = True,
) -> None:
    """Write a run file, in place of an earlier one only when it is complete on the disk.

    Parameters
    ----------
    overwrite
        Replace a file that exists, whoever's it is.

    Raises
    ------
    TakenError
        If the file exists and is not to be replaced.
    OSError
        If the file cannot be written.
    """
    import h5py

    temporary = _temporary(path)
    try:
        # the newest format that both HDF5 1.14 and 2.0 read
        with h5py.File(temporary, "w", libver=("v108", "v110")) as file:
            file.attrs["format"] = FORMAT
            file.attrs["gcmpi_version"] = VERSION
            file.attrs["status"] = status
            file.attrs["created"] = description.created
            file.attrs["valid"] = int(valid)
            file.attrs["writer"] = description.writer
            _write_experiment(file, description)
            _write_own(file, description.own)
            columns = record.columns
            _write_code(file.create_group("code"), description, columns)
            _write_iterations(file.create_group("iterations"), columns, record.n)
            _write_final(file.create_group("final"), state)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            claim(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def claim(temporary: Path, path: Path) -> None:
    """Give a file its name, if no file has that name; both are in one directory.

    Raises
    ------
    TakenError
        If a file has that name.
    OSError
        If it cannot be done.
    """
    taken = TakenError(f"{path} exists: give another name, or overwrite=True (--overwrite)")
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise taken from None
    except OSError:  # a file system without hard links
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise taken from None
        temporary.replace(path)


def probe(path: Path) -> None:
    """Find out whether a file can be written there; nothing is left.

    Raises
    ------
    OSError
        If it cannot.
    """
    temporary = _temporary(path)
    temporary.touch()
    temporary.unlink()


def free(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate


def writer(path: Path) -> str | None:
    """Return the token of the run whose file it is; None if it is gone or no run file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("writer", ""))
    except OSError:
        return None


def _temporary(path: Path) -> Path:
    """Return a name beside `path` that no other run uses."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _write_experiment(file: Any, description: Description) -> None:
    experiment = file.create_group("experiment")
    _dataset(experiment, "toml", description.experiment, "all that fixes the run, as TOML")
    experiment.attrs["hash"] = description.digest
    experiment.attrs["target_loss"] = description.target.loss
    experiment.attrs["optimum"] = description.target.optimum
    surroundings = file.create_group("environment")
    for name, value in description.environment.items():
        surroundings.attrs[name] = value
    for number, later in enumerate(description.resumed, 1):
        group = surroundings.create_group(f"resumed_{number}")
        for name, value in later.items():
            group.attrs[name] = value


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
    if codes.placement is not None:
        placed = "the column of the assignment that the worker holds"
        _dataset(group, "placement", codes.placement, placed, scales=(worker,))
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


def _write_final(group: Any, state: State) -> None:
    group.attrs["iteration"] = state.t
    group.attrs["seconds"] = state.seconds
    group.attrs["timed_from"] = state.timed_from
    scales = {state.theta.size: _scale(group, "parameter", np.arange(state.theta.size))}

    def scale(length: int) -> Any:
        if length not in scales:
            scales[length] = _scale(group, f"entry_of_{length}", np.arange(length))
        return scales[length]

    _dataset(group, "theta", state.theta, "parameters", scales=(scales[state.theta.size],))
    arrays = dict(state.arrays())
    for name, value in arrays.items():
        title = f"state of {name.replace('_', ': ', 1)}"
        _dataset(group, name, value, title, scales=[scale(length) for length in value.shape])
    group.attrs["arrays"] = "\n".join(arrays)


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
    whole
        Whether it has all that the parts remember; older versions wrote the optimizer's only.
    environment, resumed
        Where it was started, and the same of every resume.
    loads : (n,)
        How many subsets each worker holds.
    target
        Its loss and the optimum; the target accuracy is a setting.
    placement : (n,) or None
        The column of the assignment that each worker holds, where it is not its own.
    """

    experiment: str
    status: str
    created: str
    simulated: bool
    loads: IntArray
    columns: Mapping[str, AnyArray]
    state: State
    whole: bool
    environment: Mapping[str, str]
    resumed: tuple[Mapping[str, str], ...]
    own: Mapping[str, Source]
    target: Target
    placement: IntArray | None = None

    @property
    def shares(self) -> bool:
        """Whether workers on a virtual clock shared gradients."""
        return self.environment.get(environment.SHARED) == "yes"

    @property
    def command(self) -> str:
        """The command that started it."""
        return self.environment.get("command", "")

    def changed(self, now: Mapping[str, Source]) -> list[str]:
        """Say of which own parts the file's content is another one now, a sentence a file."""
        files: dict[str, tuple[Source, Source, list[str]]] = {}
        for setting, source in now.items():
            before = self.own.get(setting)
            if before is None or before.module != source.module:
                continue
            if before.sha256 != source.sha256:
                files.setdefault(source.file, (before, source, []))[2].append(setting)
        return [
            f"{file} ({', '.join(settings)}) has changed since the run (SHA-256 "
            f"{before.sha256[:12]} then, {after.sha256[:12]} now)"
            for file, (before, after, settings) in files.items()
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
            known, surroundings = file["iterations"], file["environment"]
            state, whole = _read_final(file["final"])
            return RunFile(
                file["experiment/toml"].asstr()[()],
                str(file.attrs["status"]),
                str(file.attrs["created"]),
                surroundings.attrs["mpi_library"] == environment.SIMULATED,
                file["code/A"][()].sum(axis=0, dtype=np.intp),
                {name: known[name][()] for name in ("iteration", *FIELDS) if name in known},
                state,
                whole,
                _texts(surroundings),
                tuple(
                    _texts(surroundings[f"resumed_{number}"])
                    for number in range(1, len(surroundings) + 1)
                ),
                _read_own(file),
                Target(
                    loss=float(file["experiment"].attrs.get("target_loss", 0.0)),
                    optimum=float(file["experiment"].attrs.get("optimum", np.nan)),
                ),
                file["code/placement"][()] if "placement" in file["code"] else None,
            )
    except (OSError, KeyError) as error:
        raise ValueError(f"cannot read run file {path}: {words(error, path)}") from error


def _read_final(group: Any) -> tuple[State, bool]:
    """Return the state, and whether it is all of it."""
    whole = "arrays" in group.attrs
    older = [name for name in group if name.startswith("optimizer_")]
    parts: dict[str, dict[str, AnyArray]] = {part: {} for part in State.PARTS}
    for full in str(group.attrs["arrays"]).splitlines() if whole else older:
        part, _, name = full.partition("_")
        parts[part][name] = group[full][()]
    t = int(group.attrs["iteration"])
    state = State(
        t,
        group["theta"][()],
        float(group.attrs["seconds"]),
        int(group.attrs.get("timed_from", 0)),
        **parts,
    )
    return state, whole


def _texts(group: Any) -> dict[str, str]:
    return {name: str(value) for name, value in group.attrs.items()}


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
