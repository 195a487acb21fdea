"""The laws of a straggler model: how late each of n workers is in iteration t."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.stragglers import Table
from gcmpi.registry import STRAGGLERS
from gcmpi.testing.parts import Own, Place, part

SEEDS = 2000
"""Models with different seeds, over which the frequency of late workers is taken."""
LOOKED_AT = (3, 4)
"""Iterations in which it is taken: an odd one and an even one."""
FALSE_ALARM = 1e-6
"""Probability that odds are blamed that are right."""
UNITS = ("seconds", "compute")


def check_stragglers(
    stragglers: object, *, n: int = 12, seed: int = 0, iterations: int = 30
) -> None:
    """Check the laws of a straggler model.

    ============== ============================================================================
    shape          delays(t) are n numbers
    delays         they are at least 0, infinite for a silent worker, never NaN
    pure           they depend on seed and t alone: a second model that is asked in another
                   order says the same, and so does the same model when it is asked again
    seed           another seed gives other delays, unless all delays are the same
    unit           seconds or compute
    odds           where the model has them: n probabilities, the same in every iteration. Where
                   a worker is late by 0 or by one other delay, and the model takes a seed, they
                   are the frequencies over 2,000 seeds, in an odd iteration and in an even one;
                   right ones are blamed with a probability of 1e-6
    ============== ============================================================================

    Parameters
    ----------
    stragglers
        A class or function of n, seed and options; a function of t; an object with ``delays(t)``;
        a table (iterations, workers) of delays; or a name with options, ``"bernoulli:q=0.1"``.
    n
        The number of workers; a table has as many as it has columns.
    seed
        The seed of the model.
    iterations
        How many iterations to look at.

    Raises
    ------
    AssertionError
        If a law is broken: which, where and by how much.
    ValueError, TypeError
        If there is no such model, or it is nothing that says delays.
    """
    own = _part(stragglers)
    n = _workers(own, n)
    place = Place(own.what, f"n={n}, seed={seed}")
    model = _make(own, n, seed)
    unit = getattr(model, "unit", "seconds")
    if unit not in UNITS:
        raise place.broken("unit", f"the unit is {unit!r}, and must be 'seconds' or 'compute'")
    forward = [_delays(place, model, t, n) for t in range(iterations)]
    _check_pure(place, own, forward, seed)
    rebuilt = "seed" in own.takes
    if rebuilt and np.ptp(_finite(forward)) > 0:
        other = _make(own, n, seed + 1)
        if all(np.array_equal(_said(other, t), d) for t, d in enumerate(forward)):
            raise place.broken(
                "seed", f"seed={seed + 1} gives the same delays in {iterations} iterations"
            )
    odds = getattr(model, "odds", None)
    if odds is not None:
        _check_odds(place, own, np.asarray(odds), n, seed)


def _part(stragglers: object) -> Own:
    if isinstance(stragglers, np.ndarray):
        if stragglers.ndim != 2 or not stragglers.size:
            raise ValueError(
                f"a table of delays must be (iterations, workers), not of shape {stragglers.shape}"
            )
        own = part(STRAGGLERS, Table(stragglers), ready=["delays"])
        return Own("straggler model from a table", own.function, {}, own.promises, False)
    return part(STRAGGLERS, stragglers, ready=["delays"])


def _is_ready(own: Own) -> bool:
    return not own.takes and own.spec is None


def _workers(own: Own, n: int) -> int:
    """Return the number of workers of a model that is ready, else n."""
    if not _is_ready(own):
        return n
    made = own()
    table = made.table if isinstance(made, Table) else made
    if isinstance(table, np.ndarray) and table.ndim == 2:
        return int(table.shape[1])
    return int(getattr(made, "n", n))


def _make(own: Own, n: int, seed: int) -> Any:
    """Return an object with ``delays(t)``, or a function of t."""
    if "t" in own.takes:
        return lambda t: own(t=t, n=n, seed=seed)
    model = own(n=n, seed=seed)
    if isinstance(model, np.ndarray) and model.ndim == 2 and model.size:
        return Table(model)
    if not callable(getattr(model, "delays", model)):
        raise TypeError(
            f"{own.what} must have delays(t), or be a function of t or a table of delays; it gave "
            f"{model!r:.60}"
        )
    return model


def _said(model: Any, t: int) -> Array:
    """Return the delays of a model in iteration t, shape (n,)."""
    said = getattr(model, "delays", model)
    return np.array(said(t), dtype=np.float64)


def _delays(place: Place, model: Any, t: int, n: int) -> Array:
    """Return the delays of iteration t, as they were when they were said."""
    try:
        delays = _said(model, t)
    except (TypeError, ValueError) as error:
        if _raised_inside(error):
            raise
        raise place.broken("shape", f"delays({t}) are no numbers: {error}") from error
    if delays.shape != (n,):
        raise place.broken(
            "shape", f"delays({t}) must be of shape (n,) = ({n},), not {delays.shape}"
        )
    wrong = np.flatnonzero(~(delays >= 0))
    if wrong.size:
        raise place.broken(
            "delays",
            f"worker {wrong[0]} has the delay {delays[wrong[0]]:g} in iteration {t}; a delay is at "
            "least 0, and inf for a worker that never answers",
        )
    return delays


def _raised_inside(error: BaseException) -> bool:
    """Say whether an error comes from the user's function rather than from reading its answer."""
    trace = error.__traceback__
    depth = 0
    while trace is not None:
        depth += 1
        trace = trace.tb_next
    return depth > 2


def _check_pure(place: Place, own: Own, forward: list[Array], seed: int) -> None:
    n, iterations = len(forward[0]), len(forward)
    ready = _is_ready(own)
    second = _make(own, n, seed)
    for t in reversed(range(iterations)):
        said = _delays(place, second, t, n)
        if not np.array_equal(said, forward[t]):
            i = int(np.flatnonzero(said != forward[t])[0])
            whose = "the same model" if ready else "a second model with the same seed"
            raise place.broken(
                "pure",
                f"worker {i} has the delay {forward[t][i]:g} in iteration {t}, and {said[i]:g} "
                f"from {whose} that is asked for the last iteration first; delays must follow "
                "from seed and t, as in np.random.default_rng([seed, t])",
            )
    for t in range(iterations):
        if not np.array_equal(_delays(place, second, t, n), forward[t]):
            raise place.broken(
                "pure", f"the delays of iteration {t} differ when the same model is asked again"
            )


def _finite(delays: list[Array]) -> Array:
    """Return all delays with infinity as a number."""
    return np.nan_to_num(np.concatenate(delays), posinf=np.finfo(np.float64).max / 4)


def _check_odds(place: Place, own: Own, odds: AnyArray, n: int, seed: int) -> None:
    if odds.shape != (n,) or odds.dtype.kind not in "biuf":
        raise place.broken("odds", f"odds must be n={n} probabilities, not of shape {odds.shape}")
    wrong = np.flatnonzero(~((odds >= 0) & (odds <= 1)))
    if wrong.size:
        raise place.broken("odds", f"worker {wrong[0]} has the odds {odds[wrong[0]]:g}")
    if "seed" not in own.takes:
        return
    for t in LOOKED_AT:  # over seeds: what follows in time may depend on what was before
        said = np.stack([_said(_make(own, n, seed + 1 + i), t) for i in range(SEEDS)])
        if len(np.unique(said[said > 0])) > 1:
            return  # who is late is decided by the wait rule, not by the model
        late = (said > 0).sum(axis=0)
        for i in range(n):
            if not plausible(int(late[i]), float(odds[i]), n * len(LOOKED_AT)):
                raise place.broken(
                    "odds",
                    f"worker {i} has the odds {odds[i]:.4g}, but is late with {late[i]} of {SEEDS} "
                    f"seeds ({late[i] / SEEDS:.4g}) in iteration {t}; odds are over seeds, the "
                    "same in every iteration",
                )


def plausible(count: int, p: float, n: int) -> bool:
    """Say whether `count` of `SEEDS` may come of probability p: Chernoff's bound, n such counts."""
    q = count / SEEDS
    distance = 0.0
    for seen, said in ((q, p), (1 - q, 1 - p)):
        if seen > 0:
            distance += math.inf if said <= 0 else seen * math.log(seen / said)
    return SEEDS * distance <= math.log(2 * n / FALSE_ALARM)
