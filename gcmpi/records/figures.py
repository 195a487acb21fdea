"""What a run comes to, computed once from its columns: for tables, programs, `run.figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import AnyArray, BoolArray

TIMED = ("exchange_seconds", "decode_seconds", "update_seconds")


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
        Training time until an audit found the target accuracy; infinite if none did, NaN
        without a target.
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


def audited(columns: Mapping[str, AnyArray]) -> BoolArray:
    """Return which iterations were audited, (iterations,).

    An audit always finds a loss, infinite if it is not a number; older files hold NaN there, but
    always an accuracy.
    """
    found: BoolArray = ~np.isnan(columns["loss"]) | np.isfinite(columns["accuracy"])
    return found


def figures(columns: Mapping[str, AnyArray], load: float, target: float) -> Figures:
    """Return the figures of a run.

    Parameters
    ----------
    columns
        The data sets of ``/iterations``.
    load
        The part of the data that the worker with most of it holds.
    target
        The target accuracy; 0 for none.
    """
    timed = columns["warmup"] == 0
    seen = audited(columns)
    reached = columns["seconds"][seen & (columns["accuracy"] >= target)]
    iteration = np.sum([columns[name] for name in TIMED], axis=0)
    survivors = columns["survivors"].sum(axis=1)
    return Figures(
        iterations=len(columns["iteration"]),
        seconds=float(columns["seconds"][-1]) if len(columns["seconds"]) else 0.0,
        iteration_ms=1e3 * median(iteration[timed]),
        loss=_last(columns["loss"][seen]),
        accuracy=_last(columns["accuracy"][seen]),
        gradient_error=median(columns["gradient_error"]),
        survivors=float(survivors.mean()) if survivors.size else math.nan,
        load=load,
        kilobytes_up=median(columns["bytes_up"]) / 1e3,
        bytes_up=int(columns["bytes_up"].sum()),
        bytes_down=int(columns["bytes_down"].sum()),
        stale_messages=int(columns["stale_messages"].sum()),
        seconds_to_target=_first(reached) if target else math.nan,
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
