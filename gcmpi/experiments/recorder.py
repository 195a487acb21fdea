"""Keeping the iterations of a run: in memory, in its file, and for whoever looks on."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gcmpi import environment
from gcmpi import records as recording
from gcmpi.experiments.completed import CompletedRun
from gcmpi.experiments.interrupt import Interrupt
from gcmpi.experiments.run import Run
from gcmpi.records.files import writer
from gcmpi.training import Iteration, Moving, State

CHECKPOINT_SECONDS = 60.0
Observer = Callable[..., object]
"""Called after every iteration with its `Iteration`; with `last` too, if it takes that."""


@dataclass(frozen=True)
class Output:
    """The file of a run.

    Attributes
    ----------
    taken
        What to do if a file has its name: refuse the run, replace the file, or take the next free
        name.
    """

    path: Path
    taken: Literal["refuse", "replace", "rename"] = "refuse"


class RunRecorder:
    """Keeps every iteration, writes the run file at checkpoints and says when the run is over.

    Parameters
    ----------
    run, parts
        The experiment's parts, and those that a checkpoint asks for what they remember.
    description, record
        What the run file says besides, and the iterations so far.
    state
        Where training begins.
    output
        The run file, which is written at once: the run has its name from now on.
    observer
        Called after every iteration.
    interrupt
        Asked after every iteration whether the run is to end.

    Raises
    ------
    TakenError
        If the file is another run's.
    """

    def __init__(
        self,
        run: Run,
        parts: Moving,
        description: recording.Description,
        record: recording.Record,
        state: State,
        *,
        output: Output | None = None,
        observer: Observer | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self._run, self._parts, self._description = run, parts, description
        self._record, self._state = record, state
        self._observer, self._interrupt = observer, interrupt
        self.over = self.interrupted
        self.path = None if output is None else output.path
        if output is not None:
            self._begin(output)
        self._saved = time.monotonic()

    @property
    def interrupted(self) -> bool:
        """Whether somebody wants the run to end."""
        return self._interrupt is not None and self._interrupt.asked

    def append(self, row: Iteration, state: State) -> None:
        """Keep an iteration and tell the observer; write the file if it is time to."""
        self._state = state
        self._record.append(row)
        e = self._run.experiment
        reached = bool(self._run.target.reached(row.loss, row.accuracy))
        last = self.interrupted or reached or row.iteration == e.iterations - 1
        _tell(self._observer, row, last)
        self.over = last or self.interrupted
        if not self.over and time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save("running")
            self._saved = time.monotonic()

    def completed(self) -> CompletedRun:
        """Return the run as it ended."""
        reached_end = self._state.t == self._run.iterations or not self.interrupted
        return self.save("complete" if reached_end else "interrupted")

    def save(self, status: str) -> CompletedRun:
        """Return the run so far, and write its file if it has one."""
        self._state = self._parts.gathered(self._state)
        while self.path is not None:
            mine = writer(self.path) == self._description.writer
            try:
                self._so_far(status).save(self.path, overwrite=mine)
            except recording.TakenError:
                other, self.path = self.path, recording.free(self.path)
                environment.complain(f"{other} is another run's by now: this run is in {self.path}")
            else:
                break
        return self._so_far(status)

    def _so_far(self, status: str) -> CompletedRun:
        return CompletedRun(
            self._run, self._record, self._state, self._description, status, self.path
        )

    def _begin(self, output: Output) -> None:
        """Write the file for the first time, under a name that no run has."""
        while True:
            try:
                path = output.path if output.taken != "rename" else recording.free(output.path)
                self._so_far("running").save(path, overwrite=output.taken == "replace")
            except recording.TakenError:
                if output.taken != "rename":
                    raise
            else:
                self.path = path
                return


def _tell(observer: Observer | None, row: Iteration, last: bool) -> None:
    """Tell the observer about an iteration."""
    if observer is None:
        return
    if "last" in inspect.signature(observer).parameters:
        observer(row, last=last)
    else:
        observer(row)
