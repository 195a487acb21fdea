"""Small runs in this process, on a virtual clock, that end as run files."""

from dataclasses import dataclass

from gcmpi import records as recording
from gcmpi.environment import SIMULATED
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run, assignment_matrix, build
from gcmpi.learning.optimizers import Optimizer
from gcmpi.training import State, serve

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


@dataclass
class Trained:
    """A run and all that its file is written from."""

    experiment: Experiment
    run: Run
    rows: list  # of gcmpi.training.Iteration
    record: recording.Record
    state: State
    optimizer: Optimizer

    @property
    def description(self):
        e = self.experiment
        environment = {
            "command": "python -m gcmpi.train --simulate",
            "mpi_library": SIMULATED,
            "ranks": "1",
            "git_commit": "",
        }
        codes, alpha = self.run.shared.codes, self.run.alpha
        return recording.Description(
            e.toml, e.digest, e.assignment, e.encoding, codes, alpha, environment
        )

    def save(self, path, status="complete", valid=True):
        recording.write(
            path,
            self.description,
            self.record,
            self.state,
            self.optimizer.state,
            status=status,
            valid=valid,
        )
        return path


def train(earlier=None, stop_after=None, **settings):
    """Train; `earlier` is a run file's contents to go on from, `stop_after` interrupts."""
    e = Experiment.from_settings(SMALL | settings)
    run = build(e, assignment_matrix(e))
    record = recording.Record(run.A.shape[1], None if earlier is None else earlier.columns)
    optimizer, switch, state = run.optimizer, run.switch, State(0, run.theta)
    if earlier is not None:
        for answered in earlier.columns["survivors"]:
            switch.observe(int((answered == 0).sum()))
        state, optimizer.state = earlier.state, dict(earlier.optimizer_state)
    rows = []

    def keep(row, state):
        rows.append(row)
        record.append(row)
        return row.iteration == stop_after

    state = serve(
        run.simulate(),
        state,
        iterations=e.iterations,
        warmup=e.warmup,
        family=run.family,
        switch=switch,
        rule=run.rule,
        optimizer=optimizer,
        auditor=run.auditor,
        record=keep,
    )
    return Trained(e, run, rows, record, state, optimizer)
