"""Straggler models: how late each worker is in each iteration.

A model is a pure function of the seed and the iteration: every rank computes the same delays,
and nothing here sleeps. A delay counts from the end of the worker's own computation. It is in
seconds, or with ``unit=compute`` in units of the time that the worker's computation took. An
infinite delay means that the worker stays silent in this iteration: it never answers.

Every model takes `rates`, one number a worker (``rates=1+1+5``): a worker's delay, or its
probability to straggle, is multiplied by its rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import Array, BoolArray
from gcmpi.registry import STRAGGLERS, called_by_name

Unit = Literal["seconds", "compute"]


class StragglerModel(Protocol):
    """What the transports ask of a model."""

    @property
    def unit(self) -> Unit:
        """Of the delays: seconds, or the time that the worker's own computation took."""
        ...

    @property
    def odds(self) -> Array | None:
        """Each worker's probability to have a delay above 0, (n,); None if not known.

        The probability is over seeds, and the same in every iteration. A model knows it only where
        a worker with a delay is late in any case, such as a silent or a slow one; whom the server
        finds late among workers with other delays depends on its wait rule and on the machine.
        """
        ...

    def delays(self, t: int) -> Array:
        """Return the workers' delays in iteration t, shape (n,); infinite for silent workers."""
        ...


class _Model:
    """A model whose odds are not known."""

    @property
    def odds(self) -> Array | None:
        """None: not known."""
        return None


class OwnModel:
    """A user's model, a user's function of t, or a table of delays.

    Parameters
    ----------
    made
        An object with ``delays(t)``, a function ``(t) -> (n,)``, or delays (iterations, n) that
        start again after the last row. `unit` (seconds) and `odds` (None) may be left out.
    n
        The number of workers.
    """

    def __init__(self, made: Any, n: int) -> None:
        self.unit: Unit = getattr(made, "unit", "seconds")
        if self.unit not in ("seconds", "compute"):
            raise ValueError(f"must have the unit seconds or compute, not {self.unit!r}")
        known = getattr(made, "odds", None)
        self.odds: Array | None = None if known is None else np.asarray(known, dtype=np.float64)
        if self.odds is not None and (
            self.odds.shape != (n,) or not ((self.odds >= 0) & (self.odds <= 1)).all()
        ):
            raise ValueError(f"must have odds of shape (n,) = ({n},) in [0, 1], not {known!r:.60}")
        self._delays = getattr(made, "delays", made)
        self._n = n

    def delays(self, t: int) -> Array:
        """Return the workers' delays in iteration t, shape (n,); refuse what is no delay."""
        delays = np.asarray(called_by_name(self._delays, t=t), dtype=np.float64)
        if delays.shape != (self._n,):
            raise ValueError(
                f"delays must be of shape (n,) = ({self._n},), not {delays.shape} (iteration {t})"
            )
        if not (delays >= 0).all():
            wrong = int(np.flatnonzero(~(delays >= 0))[0])
            raise ValueError(
                f"delays must be at least 0 (inf: silent), not {delays[wrong]} for worker {wrong} "
                f"in iteration {t}"
            )
        return delays


def complete(made: object, n: int) -> StragglerModel:
    """Return what a user's straggler model made with the members that it may leave out.

    Raises
    ------
    ValueError
        If it says no delays; the message follows the model's name.
    """
    if callable(getattr(made, "delays", made)):
        return OwnModel(made, n)
    try:
        table = np.asarray(made, dtype=np.float64)
    except (TypeError, ValueError):
        table = np.zeros(0)
    if table.ndim != 2 or table.shape[1] != n or not table.size:
        raise ValueError(
            "must give an object with delays(t), a function of t, or delays of shape "
            f"(iterations, {n}), not {_shown(made)}"
        )
    if not (table >= 0).all():
        raise ValueError(f"must give delays >= 0 (inf: silent), not {table[~(table >= 0)][0]}")
    return Table(table)


def _shown(made: object) -> str:
    shape = getattr(made, "shape", None)
    return f"{made!r:.60}" if shape is None else f"an array of shape {shape}"


@STRAGGLERS.register("none")
@dataclass(frozen=True)
class NoStragglers(_Model):
    """No delay at all: what the machine does by itself."""

    n: int
    unit: Unit = field(default="seconds", init=False)

    def delays(self, t: int) -> Array:
        """Return zeros, shape (n,)."""
        return np.zeros(self.n)


@STRAGGLERS.register("bernoulli", {"q": 0.25})
@dataclass(frozen=True)
class Bernoulli:
    """Each worker is silent in an iteration with probability q, independently (paper section 5)."""

    n: int
    seed: int
    q: float = 0.25
    rates: tuple[float, ...] = ()
    unit: Unit = field(default="seconds", init=False)

    def __post_init__(self) -> None:
        _probabilities("bernoulli", self.q, self.rates, self.n)

    @property
    def odds(self) -> Array:
        """Each worker's probability to straggle, (n,)."""
        return _probabilities("bernoulli", self.q, self.rates, self.n)

    def delays(self, t: int) -> Array:
        """Return 0 or infinity for each worker, shape (n,)."""
        return np.where(_uniform(self.seed, t, self.n) < self.odds, np.inf, 0.0)


@STRAGGLERS.register("shifted-exponential", {"mean": 0.02, "shift": 0.01})
@dataclass(frozen=True)
class ShiftedExponential(_Model):
    """Delay shift + Exp(mean), the model of Ye and Abbe (2018) and of many others."""

    n: int
    seed: int
    mean: float = 0.05
    shift: float = 0.0
    unit: Unit = "seconds"
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _not_negative("shifted-exponential", mean=self.mean, shift=self.shift)
        _rates("shifted-exponential", self.rates, self.n)

    def delays(self, t: int) -> Array:
        """Return the delays of iteration t, shape (n,)."""
        exponential = -np.log1p(-_uniform(self.seed, t, self.n))
        scale = _rates("shifted-exponential", self.rates, self.n)
        return scale * (self.shift + self.mean * exponential)


@STRAGGLERS.register("lognormal", {"median": 0.02, "sigma": 0.5})
@dataclass(frozen=True)
class Lognormal(_Model):
    """Delay median * exp(sigma * normal)."""

    n: int
    seed: int
    median: float = 0.05
    sigma: float = 1.0
    unit: Unit = "seconds"
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _not_negative("lognormal", median=self.median, sigma=self.sigma)
        _rates("lognormal", self.rates, self.n)

    def delays(self, t: int) -> Array:
        """Return the delays of iteration t, shape (n,)."""
        normal = seeds.generator(self.seed, seeds.STRAGGLERS, t).standard_normal(self.n)
        scale = _rates("lognormal", self.rates, self.n)
        with np.errstate(over="ignore"):  # what no float holds is never
            return scale * self.median * np.exp(self.sigma * normal)


@STRAGGLERS.register("pareto", {"scale": 0.02, "shape": 2.0})
@dataclass(frozen=True)
class Pareto(_Model):
    """Delay scale * (U^(-1/shape) - 1): a heavy tail that starts at zero (Lomax)."""

    n: int
    seed: int
    scale: float = 0.05
    shape: float = 2.0
    unit: Unit = "seconds"
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _not_negative("pareto", scale=self.scale)
        if not self.shape > 0:
            raise ValueError(f"stragglers pareto needs shape > 0, not shape={self.shape}")
        _rates("pareto", self.rates, self.n)

    def delays(self, t: int) -> Array:
        """Return the delays of iteration t, shape (n,)."""
        tail = (1 - _uniform(self.seed, t, self.n)) ** (-1 / self.shape) - 1
        return _rates("pareto", self.rates, self.n) * self.scale * tail


@STRAGGLERS.register("markov", {"q": 0.25, "stay": 0.8})
@dataclass(frozen=True)
class Markov:
    """Persistent slow phases: a worker is slow a fraction q of the time, in runs.

    A slow worker stays slow with probability `stay` in the next iteration, so that a slow phase
    lasts 1 / (1 - stay) iterations on average; while it lasts the worker is late by `delay`
    (in units of its own computation unless ``unit=seconds``; ``delay=inf`` is silent).
    """

    n: int
    seed: int
    q: float = 0.25
    stay: float = 0.9
    delay: float = 9.0
    unit: Unit = "compute"
    rates: tuple[float, ...] = ()
    _phases: list[BoolArray] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        q = _probabilities("markov", self.q, self.rates, self.n)
        _not_negative("markov", delay=self.delay)
        if not 0 <= self.stay < 1:
            raise ValueError(f"stragglers markov needs stay in [0, 1), not stay={self.stay}")
        if (q * (1 - self.stay) > 1 - q).any():
            raise ValueError(
                f"stragglers markov: workers slow q={q.max():g} of the time must stay slow with "
                f"stay >= {2 - 1 / q.max():.3g}, not {self.stay:g}"
            )

    @property
    def odds(self) -> Array:
        """Each worker's probability to be slow, (n,)."""
        return _probabilities("markov", self.q, self.rates, self.n)

    def delays(self, t: int) -> Array:
        """Return the delays of iteration t, shape (n,)."""
        q = self.odds
        # P(fast -> slow) that makes q the stationary fraction of slow workers
        enter = np.divide(q * (1 - self.stay), 1 - q, out=np.zeros(self.n), where=q < 1)
        while len(self._phases) <= t:
            u = _uniform(self.seed, len(self._phases), self.n)
            slow = self._phases[-1] if self._phases else None
            self._phases.append(u < (q if slow is None else np.where(slow, self.stay, enter)))
        return np.where(self._phases[t], self.delay, 0.0)


@STRAGGLERS.register("slow-set", {"workers": (0,), "factor": 5.0})
@dataclass(frozen=True)
class SlowSet(_Model):
    """The same workers are slower by a factor in every iteration."""

    n: int
    workers: tuple[int, ...] = (0,)
    factor: float = 10.0
    rates: tuple[float, ...] = ()
    unit: Unit = field(default="compute", init=False)

    def __post_init__(self) -> None:
        outside = [i for i in self.workers if not 0 <= i < self.n]
        if outside:
            raise ValueError(
                f"stragglers slow-set: workers are 0 to {self.n - 1}, not {outside[0]}"
            )
        if not 1 <= self.factor < np.inf:
            raise ValueError(f"stragglers slow-set needs factor >= 1, not factor={self.factor}")
        _rates("slow-set", self.rates, self.n)

    def delays(self, t: int) -> Array:
        """Return factor - 1 for the slow workers and 0 for the others, shape (n,)."""
        delays = np.zeros(self.n)
        delays[list(self.workers)] = self.factor - 1
        return delays * _rates("slow-set", self.rates, self.n)


@dataclass(frozen=True)
class Table(_Model):
    """Delays from a table that was measured; built by the file readers in `gcmpi.records`.

    Parameters
    ----------
    table : (iterations, n)
        Delays; infinite where a worker was silent. It starts again after its last row.
    """

    table: Array
    unit: Unit = "seconds"

    def delays(self, t: int) -> Array:
        """Return row t of the table, shape (n,)."""
        row: Array = self.table[t % len(self.table)]
        return row


def from_trace(
    seconds: Array,
    n: int,
    scale: float = 1.0,
    unit: Unit = "seconds",
    rates: tuple[float, ...] = (),
) -> Table:
    """Make delays for n workers of a trace of response times.

    The fastest entry of the trace stands for a worker that is not late at all: the delay is
    ``scale * (seconds - fastest)``, or with ``unit="compute"`` ``scale * (seconds / fastest - 1)``
    times the worker's own computation. Missing entries (NaN) are silent. When n exceeds the
    trace's workers, its columns are used again with their iterations rotated.

    Parameters
    ----------
    seconds : (iterations, workers)
        Response times, positive, NaN where a worker never answered.

    Raises
    ------
    ValueError
        If the trace is not a table of positive numbers.
    """
    if seconds.ndim != 2 or seconds.size == 0:
        raise ValueError(
            f"a trace must be a table (iterations, workers), not of shape {seconds.shape}"
        )
    known = seconds[np.isfinite(seconds)]
    if known.size == 0 or known.min() <= 0:
        raise ValueError("a trace must hold positive seconds (NaN where a worker never answered)")
    fastest = known.min()
    delay = seconds - fastest if unit == "seconds" else seconds / fastest - 1
    delay = np.where(np.isfinite(delay), scale * delay, np.inf)
    iterations, workers = delay.shape
    copies = -(-n // workers)
    turned = [np.roll(delay, -(c * iterations) // copies, axis=0) for c in range(copies)]
    return Table(np.concatenate(turned, axis=1)[:, :n] * _rates("trace", rates, n), unit)


def _uniform(seed: int, t: int, n: int) -> Array:
    return seeds.generator(seed, seeds.STRAGGLERS, t).random(n)


def _rates(name: str, rates: tuple[float, ...], n: int) -> Array:
    """Return the workers' rates, shape (n,); ones when none are given."""
    if not rates:
        return np.ones(n)
    if len(rates) != n or not all(0 <= rate < np.inf for rate in rates):
        raise ValueError(
            f"stragglers {name}: rates must be n = {n} numbers >= 0, one a worker, "
            f"not {len(rates)} from {min(rates):g} to {max(rates):g}"
        )
    return np.array(rates)


def _probabilities(name: str, q: float, rates: tuple[float, ...], n: int) -> Array:
    """Return each worker's probability to straggle, shape (n,)."""
    p = q * _rates(name, rates, n)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            f"stragglers {name} needs probabilities in [0, 1], not q={q:g} (largest {p.max():g})"
        )
    return p


def _not_negative(name: str, **values: float) -> None:
    for key, value in values.items():
        if not value >= 0:
            raise ValueError(f"stragglers {name} needs {key} >= 0, not {key}={value:g}")
