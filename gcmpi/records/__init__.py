"""Run files (HDF5): the only package that imports h5py.

Schema
------
``/``                attributes: format, gcmpi_version, status (running, complete, interrupted,
                     failed), created (ISO 8601, UTC), valid (1 or 0)
``/experiment``      toml: everything that fixes the run (`gcmpi.Experiment`);
                     attribute hash, also in the default file name
``/environment``     attributes: command, commit, versions, MPI library, hosts, CPUs, SLURM job
``/own``             where parts of the user's own exist: for each setting, attributes module, file
                     and sha256 of the file; script: the text of the script that made some
``/code``            A (subset, worker); B (coded_row, worker), row u*k + j being part u of subset
                     j, or without B the attributes redrawn = 1 and seed; alpha_by_straggler_count
                     (straggler_count) and alpha, its mean over the iterations that were run;
                     attributes assignment, encoding, m, relabelled (1: workers and subsets of B
                     swapped roles in every iteration); all of the largest m, where it changed
``/iterations``      what `FIELDS` lists, over the scales iteration and worker; NaN where missing
``/final``           theta (parameter); the optimizer's state; attributes iteration and seconds:
                     where a run can be resumed

Every data set has long_name and units, masks are uint8, and every dimension has a scale, so that
``xarray.open_dataset(path, group="iterations", engine="h5netcdf")`` works. The file is replaced as
a whole at every checkpoint: what has its name is always complete and readable.
"""

from gcmpi.records.files import FORMAT, Description, RunFile, check, read, write
from gcmpi.records.record import FIELDS, Field, Record
from gcmpi.records.traces import replay, trace

__all__ = [
    "FIELDS",
    "FORMAT",
    "Description",
    "Field",
    "Record",
    "RunFile",
    "check",
    "read",
    "replay",
    "trace",
    "write",
]
