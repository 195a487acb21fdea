"""Run files (HDF5): the only package that imports h5py.

Schema
------
``/``                attributes: format, gcmpi_version, status (running, complete, interrupted,
                     failed), created (ISO 8601, UTC), valid (1 or 0), writer (who may replace the
                     file: another token for every run and every resume)
``/experiment``      toml: everything that fixes the run (`gcmpi.Experiment`);
                     attributes hash, also in the default file name, target_loss and optimum
``/environment``     attributes: command, commit, versions, MPI library, hosts, CPUs, SLURM job
                     of the run's start; groups resumed_1, resumed_2, ...: the same of every
                     resume, and iteration: where it began
``/own``             where parts of the user's own exist: for each setting, attributes module, file
                     and sha256 of the file; script: the text of the script that made some
``/code``            A (subset, worker); B (coded_row, worker), row u*k + j being part u of subset
                     j, or without B the attributes redrawn = 1 and seed; placement (worker), the
                     column of the assignment that each worker holds, where hosts or odds placed
                     them, as A and B have it already; alpha_by_straggler_count
                     (straggler_count) and alpha, its mean over the iterations that were run;
                     attributes assignment, encoding, m, relabelled (1: workers and subsets of B
                     swapped roles in every iteration); all of the largest m, where it changed
``/iterations``      what `gcmpi.training.FIELDS` lists, over the scales iteration and worker; NaN
                     where missing
``/final``           where the run can be resumed: theta (parameter); attributes iteration, seconds
                     and timed_from (the first iteration after the warm-up); all arrays that a part
                     remembers, called part_name: optimizer_*, switch_*, wait_*, exchange_*
                     (exchange_owes, _due, _began, _m, _now: the virtual clock and what each worker
                     owes; exchange_worker3_m2_memory: what worker 3's compression left out) and
                     memory_*; attribute arrays lists them. Files of versions without that
                     attribute have the optimizer's arrays only

Every data set has long_name and units, masks are uint8, and every dimension has a scale, so that
``xarray.open_dataset(path, group="iterations", engine="h5netcdf")`` works. The file is replaced as
a whole at every checkpoint: what has its name is always complete and readable. A run has its file
from its start, and replaces no file of another run unless it is told to.
"""

from gcmpi.records.files import (
    FORMAT,
    Description,
    RunFile,
    TakenError,
    check,
    claim,
    free,
    probe,
    read,
    write,
)
from gcmpi.records.record import Record
from gcmpi.records.traces import replay, trace
from gcmpi.training import FIELDS, Field

__all__ = [
    "FIELDS",
    "FORMAT",
    "Description",
    "Field",
    "Record",
    "RunFile",
    "TakenError",
    "check",
    "claim",
    "free",
    "probe",
    "read",
    "replay",
    "trace",
    "write",
]
