"""A run in this process on a virtual clock: what it records, without a run file."""

from __future__ import annotations

from typing import Any

from gcmpi import report
from gcmpi.code import AnyArray
from gcmpi.experiment import Experiment
from gcmpi.recording import Record
from gcmpi.run import assignment_matrix, build
from gcmpi.training import Iteration, State, serve


def simulate(**settings: Any) -> dict[str, AnyArray]:
    """Train; return what `gcmpi.recording` lists under ``/iterations``.

    Parameters
    ----------
    **settings
        Those of the experiment.

    Raises
    ------
    ValueError
        If a setting is wrong.
    RuntimeError
        If an audit found the decoded gradient to be another one than the code promises.
    """
    e = Experiment.from_settings(settings)
    run = build(e, assignment_matrix(e))
    record = Record(run.A.shape[1])

    def keep(row: Iteration, _: State) -> bool:
        record.append(row)
        return False

    serve(
        run.simulate(),
        State(0, run.theta),
        iterations=e.iterations,
        warmup=e.warmup,
        family=run.family,
        switch=run.switch,
        rule=run.rule,
        optimizer=run.optimizer,
        auditor=run.auditor,
        record=keep,
    )
    if problems := report.problems(record.columns):
        raise RuntimeError(f"{e.encoding} on {e.assignment}: {problems}")
    return record.columns
