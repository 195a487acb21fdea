"""What a run comes to, computed once from its columns: for tables, programs, `run.figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import AnyArray, BoolArray

TIMED = ("exchange_seconds", "decode_seconds", "update_seconds")


@dataclass(frozen=True)
class Target:
    """What ends a run before its last iteration; nothing by default.

    Attributes
    ----------
    accuracy
        An audited test accuracy at or above it; 0 for none.
    loss
        An audited training loss at or below it; 0 for none.
    optimum
        The smallest training loss, where it is known.
    """

    accuracy: float = 0.0
    loss: float = 0.0
    optimum: float = math.nan

    def __bool__(self) -> bool:
        """Say whether there is a target."""
        return bool(self.accuracy or self.loss)

    def reached(self, loss: AnyArray | float, accuracy: AnyArray | float) -> BoolArray:
        """Say which of these audits end a run; never one without numbers."""
        if self.accuracy:
            return np.asarray(accuracy) >= self.accuracy
        return np.asarray(loss) <= (self.loss or -math.inf)

    def excess(self, loss: float) -> float:
        """Return by which part of the optimum a loss is above it; NaN where it is not known."""
        return (loss - self.optimum) / self.optimum


NO_TARGET = Target()


@dataclass(frozen=True)
class Figures:
    """What one run comes to; NaN where there is nothing to tell.

    Attributes
    ----------
    iterations
        How many there were.
    seconds
        Training time, without audits.
    iteration_ms
        Time of an iteration after the warm-up, median.
    loss, accuracy
        The last audited ones.
    gradient_error
        Relative error of the audited gradients, median.
    survivors
        Workers that answered in time, mean.
    load
        Subsets held by the worker that holds most, over the k subsets: its part of the data.
    kilobytes_up
        Received by the server in an iteration, median.
    bytes_up, bytes_down
        Received and sent by the server, in all.
    stale_messages
        Answers that came too late and were dropped.
    seconds_to_target
        Training time until an audit found the target; infinite if none did, NaN without a target.
    iterations_to_target, bytes_to_target
        The same in iterations, and in bytes that the server received.
    excess
        By which part of the smallest training loss the last audited one is above it; NaN where
        the smallest one is not known.
    """

    iterations: int
    seconds: float
    iteration_ms: float
    loss: float
    accuracy: float
    gradient_error: float
    survivors: float
    load: float
    kilobytes_up: float
    bytes_up: int
    bytes_down: int
    stale_messages: int
    seconds_to_target: float
    iterations_to_target: float
    bytes_to_target: float
    excess: float


def audited(columns: Mapping[str, AnyArray]) -> BoolArray:
    """Return which iterations were audited, (iterations,).

    An audit always finds a loss, infinite if it is not a number; older files hold NaN there, but
    always an accuracy.
    """
    found: BoolArray = ~np.isnan(columns["loss"]) | np.isfinite(columns["accuracy"])
    return found


def figures(columns: Mapping[str, AnyArray], load: float, target: Target) -> Figures:
    """Return the figures of a run.

    Parameters
    ----------
    columns
        The data sets of ``/iterations``.
    load
        The part of the data that the worker with most of it holds.
    target
        What ends the run early.
    """
    timed = columns["warmup"] == 0
    seen = audited(columns)
    reached = seen & target.reached(columns["loss"], columns["accuracy"])

    def to_target(values: AnyArray) -> float:
        return _first(values[reached]) if target else math.nan

    iteration = np.sum([columns[name] for name in TIMED], axis=0)
    survivors = columns["survivors"].sum(axis=1)
    loss = _last(columns["loss"][seen])
    return Figures(
        iterations=len(columns["iteration"]),
        seconds=float(columns["seconds"][-1]) if len(columns["seconds"]) else 0.0,
        iteration_ms=1e3 * median(iteration[timed]),
        loss=loss,
        accuracy=_last(columns["accuracy"][seen]),
        gradient_error=median(columns["gradient_error"]),
        survivors=float(survivors.mean()) if survivors.size else math.nan,
        load=load,
        kilobytes_up=median(columns["bytes_up"]) / 1e3,
        bytes_up=int(columns["bytes_up"].sum()),
        bytes_down=int(columns["bytes_down"].sum()),
        stale_messages=int(columns["stale_messages"].sum()),
        seconds_to_target=to_target(columns["seconds"]),
        iterations_to_target=to_target(columns["iteration"] + 1),
        bytes_to_target=to_target(np.cumsum(columns["bytes_up"])),
        excess=target.excess(loss),
    )


def problems(columns: Mapping[str, AnyArray]) -> list[str]:
    """Return what makes a run invalid, in words; an empty list for a valid one."""
    wrong = []
    losses = columns["loss"][audited(columns)]
    if losses.size and not np.isfinite(losses).all():
        wrong.append("the loss is not finite (a smaller rate may help)")
    failed = columns["iteration"][columns["check"] == 0]
    if failed.size and not wrong:  # what is not finite cannot be compared
        wrong.append(
            f"the decoded gradient broke the code's promise in {failed.size} audit(s), first in "
            f"iteration {failed[0]}"
        )
    if columns["survivors"].size and not columns["survivors"].any():
        wrong.append("no answer ever came in time (wait longer)")
    return wrong


def warnings(columns: Mapping[str, AnyArray]) -> list[str]:
    """Return what deserves a look although the run is valid, in words."""
    losses = columns["loss"][audited(columns)]
    if losses.size > 1 and np.isfinite(losses).all() and losses[-1] >= losses[0]:
        return [
            f"the loss has not fallen ({losses[0]:.4g} after the first audit, {losses[-1]:.4g} "
            "after the last): a smaller rate, a longer wait or a code with a smaller error may help"
        ]
    return []


def median(values: AnyArray) -> float:
    """Return the median of the finite values, NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else math.nan


def _first(values: AnyArray) -> float:
    return float(values[0]) if values.size else math.inf


def _last(values: AnyArray) -> float:
    return float(values[-1]) if values.size else math.nan
