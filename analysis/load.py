"""Run files as labelled arrays: ``load("runs/....h5")``; all those of a sweep."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gcmpi import records as recording
from gcmpi.commands.sweep import read_sweep, run_sweep
from gcmpi.sentences import words


def load(path: str | Path) -> xr.Dataset:
    """Return the iterations of a run, its code, and everything that is known about it.

    Parameters
    ----------
    path
        A run file of ``gcmpi.train``.

    Returns
    -------
    run
        What `gcmpi.records` lists under ``/iterations``, with the dimensions `iteration` and
        `worker`, times in seconds; of ``/code`` ``A (subset, worker)``, ``B (coded_row, worker)``
        unless it was redrawn in every iteration, ``alpha`` and ``alpha_by_straggler_count``. The
        attributes are the settings of the experiment (``run.attrs["stragglers"]``), its ``hash``,
        the ``status`` and ``valid`` of the run, and the environment (``command``,
        ``mpi_library``, ``ranks``, ...). The parameters stay in the file, in the group `final`.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a run file.
    """
    path = Path(path)
    recording.check(path)
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            experiment, code = tree["experiment"].to_dataset(), tree["code"].to_dataset()
            attributes: dict[Any, Any] = {
                **code.attrs,
                **tree["environment"].attrs,
                **tomllib.loads(experiment["toml"].item()),
                **experiment.attrs,
                **tree.attrs,
            }
            run = xr.merge(
                [tree["iterations"].to_dataset(), code],
                join="exact",
                compat="no_conflicts",
                combine_attrs="override",
            )
            return _completed(run.load().assign_attrs(attributes))
    except (OSError, KeyError) as error:
        raise ValueError(f"cannot read run file {path}: {words(error, path)}") from error


def _completed(run: xr.Dataset) -> xr.Dataset:
    """Return the run with the m and the divisor of iterations of a version that recorded neither.

    They followed from the experiment and from the number of stragglers.
    """
    late = run.sizes["worker"] - run["survivors"].sum("worker", dtype=int)
    divisor = run["alpha_by_straggler_count"][late].drop_vars("straggler_count", errors="ignore")
    m = xr.full_like(late, run.attrs["m"])
    return run.assign(
        m=run["m"].where(run["m"] > 0, m) if "m" in run else m,
        divisor=run["divisor"].fillna(divisor) if "divisor" in run else divisor,
    )


def load_sweep(sweep: Path, directory: Path, launcher: str) -> dict[str, list[xr.Dataset]]:
    """Return the audited iterations of a sweep's runs by competitor, in the order of the seeds.

    What is not complete is run first.

    Parameters
    ----------
    sweep
        A file for ``gcmpi.sweep``.
    directory
        Where its run files are.
    launcher
        How to start {ranks} ranks.

    Raises
    ------
    ValueError
        If the file is wrong or a run failed.
    """
    jobs = read_sweep(sweep, directory)
    if run_sweep(jobs, launcher):
        raise ValueError("some runs failed: see the lines above")
    runs: dict[str, list[xr.Dataset]] = defaultdict(list)
    for job in jobs:
        run = load(job.output)
        runs[job.name].append(run.isel(iteration=np.isfinite(run["loss"].values)))
    return runs
