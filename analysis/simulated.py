"""A run in this process on a virtual clock: what it records, without a run file."""

from __future__ import annotations

from typing import Any

import gcmpi
from gcmpi.arrays import AnyArray


def simulate(*, share: bool = False, **settings: Any) -> dict[str, AnyArray]:
    """Train; return what `gcmpi.records` lists under ``/iterations``.

    Parameters
    ----------
    share
        Compute the gradient of a subset once for all workers that hold it.
    **settings
        Those of the experiment.

    Raises
    ------
    ValueError
        If a setting is wrong.
    RuntimeError
        If an audit found the decoded gradient to be another one than the code promises.
    """
    run = gcmpi.simulate(gcmpi.Experiment(**settings), share=share)
    if run.problems:
        raise RuntimeError(f"{run}")
    return run.columns
