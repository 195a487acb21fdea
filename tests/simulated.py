"""Small runs in this process, on a virtual clock, that end as run files."""

from dataclasses import dataclass, replace

from gcmpi import records as recording
from gcmpi.environment import SIMULATED
from gcmpi.experiments import resume
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run
from gcmpi.training import Exchange, Iteration, State
from gcmpi.training import train as gcmpi_train

SMALL = {
    "assignment": "projective-plane:order=2",
    "problem": "logistic",
    "dataset": "mixture:rows=200,features=5",
    "iterations": 8,
    "stragglers": "markov:delay=5",
    "wait": "deadline:0.02",
    "audit_every": 3,
    "warmup": 2,
}


class Rows:
    """A recorder that keeps rows and states, and ends the run after an iteration."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.over = stop_after, False
        self.rows: list[Iteration] = []

    def append(self, row: Iteration, state: State) -> None:
        self.rows.append(row)
        self.over = row.iteration == self.stop_after


def follow(
    run: Run, exchange: Exchange | None = None, state: State | None = None, stop_after=None
) -> tuple[State, list[Iteration]]:
    """Train; returns the state at the end and the iterations."""
    record = Rows(stop_after)
    parts = run.moving(exchange or run.simulate())
    state = gcmpi_train(run, parts, state or run.start, record)
    return state, record.rows


def describe(run: Run) -> recording.Description:
    """Return what the file of a run says besides its iterations."""
    e = run.experiment
    environment = {
        "command": "python -m gcmpi.train --simulate",
        "mpi_library": SIMULATED,
        "ranks": "1",
        "git_commit": "",
    }
    return recording.Description(
        e.toml, e.digest, e.assignment, e.encoding, run.shared.codes, run.alpha, environment
    )


@dataclass
class Trained:
    """A run and all that its file is written from."""

    experiment: Experiment
    run: Run
    rows: list[Iteration]
    record: recording.Record
    state: State

    @property
    def description(self):
        return describe(self.run)

    def save(self, path, status="complete", valid=True, **changes):
        recording.write(
            path,
            self.description,
            self.record,
            replace(self.state, **changes),
            status=status,
            valid=valid,
        )
        return path


def train(earlier=None, stop_after=None, **settings):
    """Train; `earlier` is a run file's contents to go on from, `stop_after` interrupts."""
    e = Experiment.from_settings(SMALL | settings)
    run = build(e, assignment_matrix(e))
    exchange, state, before = run.simulate(), run.start, None
    if earlier is not None:
        state, before = resume.start(run, earlier, exchange), earlier.columns
    state, rows = follow(run, exchange, state, stop_after)
    record = recording.Record(run.A.shape[1], before)
    for row in rows:
        record.append(row)
    return Trained(e, run, rows, record, state)
