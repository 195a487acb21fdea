"""Going on with a run: exactly as if it had not stopped, or with a word on what is not."""

from __future__ import annotations

from dataclasses import replace

from gcmpi.experiments.run import Run
from gcmpi.records import RunFile
from gcmpi.training import Exchange, State

MAY_DIFFER = "the resumed run may differ from an uninterrupted one"


def check(run: Run, earlier: RunFile, exchange: Exchange | None = None) -> None:
    """Refuse a state that the parts of a run do not take.

    Parameters
    ----------
    exchange
        The exchange on the virtual clock; over MPI there is none before the workers are ready.

    Raises
    ------
    ValueError
        With what does not fit.
    """
    d, found = run.shared.problem.d, earlier.state.theta.shape
    if found != (d,):
        raise ValueError(
            f"the run has parameters of shape {found}, but problem {run.experiment.problem} has "
            f"d={d}: use the problem and the data that the run was started with"
        )
    if exchange is not None:
        run.moving(exchange).restore(start(run, earlier, exchange))
    elif earlier.whole and earlier.state.t:
        run.optimizer.state, run.switch.state = earlier.state.optimizer, earlier.state.switch
        run.rule.state = earlier.state.wait


def start(run: Run, earlier: RunFile, exchange: Exchange) -> State:
    """Return the state from which a run goes on.

    Over MPI the first iterations are a warm-up again. Of a run file without the whole state the
    rule for m is told the stragglers that were recorded; all else but the optimizer begins anew.
    """
    state = earlier.state
    if not earlier.simulated:
        state = replace(state, timed_from=state.t + run.experiment.warmup)
    if earlier.whole:
        return state
    switch = run.switch
    for answered in earlier.columns["survivors"]:
        switch.observe(int((answered == 0).sum()))
    exchanged = dict(exchange.state)
    return replace(state, switch=switch.state, wait=run.rule.state, exchange=exchanged)


def notes(run: Run, earlier: RunFile | None) -> list[str]:
    """Say why a resume may not be exact, a sentence each; nothing where it is."""
    if earlier is None or not earlier.state.t:
        return []
    if not earlier.whole:
        return [
            "an older version wrote the run file, and kept neither what wait rule and compression "
            f"remembered nor the answers that were on their way: {MAY_DIFFER}"
        ]
    if earlier.status == "failed":
        return [
            f"the run failed, and workers may have done a part of iteration {earlier.state.t}, "
            f"which is done again: {MAY_DIFFER}"
        ]
    e, wire = run.experiment, run.shared.wire
    parts = {
        f"optimizer {e.optimizer}": run.optimizer,
        f"wait rule {e.wait}": run.rule,
        f"compression {e.compression}": wire,
    }
    said = [
        f"{name} shows no `state`: unless it remembers nothing, {MAY_DIFFER}"
        for name, part in parts.items()
        if not getattr(part, "restorable", True)
    ]
    if wire.remembers and not earlier.simulated:
        known = {name.partition("_")[0] for name in earlier.state.exchange}
        lost = [i for i in range(run.A.shape[1]) if f"worker{i}" not in known]
        if lost:
            said.append(
                f"what compression left out on workers {', '.join(map(str, lost))} is not in the "
                f"file, because they were busy: {MAY_DIFFER}"
            )
    return said
