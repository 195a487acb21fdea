"""What a run leaves: every column, the parameters, its figures, and a file on request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gcmpi import records as recording
from gcmpi.arrays import AnyArray
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run
from gcmpi.records.figures import Figures, problems, warnings
from gcmpi.training import State


@dataclass(frozen=True, eq=False)
class CompletedRun(Mapping[str, AnyArray]):
    """A run that is over: a mapping of its columns, one value an iteration.

    ``run["loss"]`` has shape (iterations,) and NaN where nothing was audited;
    ``run["survivors"]`` has shape (iterations, n). The names are those of the data sets of
    ``/iterations`` in a run file.

    Attributes
    ----------
    parts
        What the experiment was built into: code, problem, data.
    status
        complete, or interrupted.
    environment
        Command, commit, versions, MPI library, hosts.
    path
        Its run file; None without one.
    """

    parts: Run
    record: recording.Record
    state: State
    description: recording.Description
    status: str
    path: Path | None = None

    @property
    def experiment(self) -> Experiment:
        """What fixed the run."""
        return self.parts.experiment

    @property
    def environment(self) -> Mapping[str, str]:
        """Where it ran: command, commit, versions, MPI library, hosts."""
        return self.description.environment

    @property
    def columns(self) -> dict[str, AnyArray]:
        """All columns by name."""
        return self.record.columns

    @property
    def theta(self) -> AnyArray:
        """The parameters after the last iteration, shape (d,)."""
        return self.state.theta

    @property
    def figures(self) -> Figures:
        """What the run comes to: times, last loss and accuracy, bytes."""
        return self.parts.figures(self.columns)

    @property
    def problems(self) -> list[str]:
        """What makes the run invalid, in words; empty for a valid one."""
        return problems(self.columns)

    @property
    def warnings(self) -> list[str]:
        """What deserves a look although the run is valid, in words."""
        return warnings(self.columns)

    @property
    def valid(self) -> bool:
        """Whether the run did not fail, every audit was passed, and the loss is finite."""
        return self.status != "failed" and not self.problems

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the run file (HDF5) and return its path.

        Parameters
        ----------
        path
            Missing folders are made.
        overwrite
            Replace a file that exists.

        Raises
        ------
        ValueError
            If the file exists and is not to be replaced.
        OSError
            If it cannot be written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        recording.write(
            target,
            self.description,
            self.record,
            self.state,
            status=self.status,
            valid=self.valid,
            overwrite=overwrite,
        )
        return target

    def __getitem__(self, name: str) -> AnyArray:
        """Return one column; a KeyError lists the names."""
        columns = self.columns
        if name not in columns:
            raise KeyError(f"a run has no column {name!r}; it has {', '.join(columns)}")
        return columns[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns."""
        return iter(self.columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.columns)

    def __repr__(self) -> str:
        """Return the run in one line."""
        e, f = self.experiment, self.figures
        metric = self.parts.shared.problem.metric
        loss = "not audited" if math.isnan(f.loss) else f"loss {f.loss:.4g}"
        quality = "" if math.isnan(f.accuracy) else f"{metric} {f.accuracy:.4g}, "
        verdict = "VALID" if self.valid else f"INVALID ({'; '.join(self.problems)})"
        return (
            f"Run: {e.assignment} + {e.encoding}, m={e.m}, seed {e.seed}: {f.iterations} "
            f"iterations ({self.status}), {loss}, {quality}{verdict}"
        )
