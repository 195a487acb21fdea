"""Stochastic descent on the mean error of a code over random straggler sets."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from gcmpi.arrays import Array
from gcmpi.codes.encodings.search.objective import Stragglers, mean_and_gradient

FIRST, SECOND = 0.9, 0.999
"""How much of the running means of gradient and squared gradient is kept in a step (Adam)."""

Parameters = list[Array]
Backward = Callable[[Array], Parameters]
"""Turns the derivative by B (m * k, n) into those by the parameters."""
Draw = Callable[[Array, np.random.Generator], Stragglers]
"""Gives the straggler sets of a step for the B of that step."""


@dataclass(frozen=True)
class Schedule:
    """How to descend.

    Attributes
    ----------
    steps
        The number of steps.
    rate
        Size of the first steps, relative to the root mean square of each parameter; it falls to
        zero along a cosine.
    ridge
        First and last eps of the ridge decoding that is assumed; it falls geometrically.
    """

    steps: int
    rate: float
    ridge: tuple[float, float]


def descend(
    parameters: Parameters,
    encode: Callable[[Parameters], tuple[Array, Backward]],
    m: int,
    draw: Draw,
    schedule: Schedule,
    rng: np.random.Generator,
    tell: Callable[[int, float], None],
) -> Parameters:
    """Return parameters of a code with a small mean error over the straggler sets of `draw`.

    Parameters
    ----------
    parameters
        Where to start.
    encode
        Makes B (m * k, n) of parameters.
    m
        Communication reduction factor.
    draw
        Gives the straggler sets of each step.
    schedule
        How long and how fast.
    rng
        Source of the straggler sets.
    tell
        Told the number of steps done and the mean error, after each step.
    """
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    for step in range(schedule.steps):
        done = step / schedule.steps
        start, end = schedule.ridge
        eps = start * (end / start) ** done
        B, backward = encode(parameters)
        mean, gradient = mean_and_gradient(B, m, draw(B, rng), eps)
        rate = schedule.rate * (1 + np.cos(np.pi * done)) / 2
        moved = []
        for i, (p, g) in enumerate(zip(parameters, backward(gradient), strict=True)):
            first[i] = FIRST * first[i] + (1 - FIRST) * g
            second[i] = SECOND * second[i] + (1 - SECOND) * g**2
            slope = first[i] / (1 - FIRST ** (step + 1))
            size = np.sqrt(second[i] / (1 - SECOND ** (step + 1)))
            scale = float(np.sqrt(np.mean(p**2))) or 1.0
            moved.append(p - rate * scale * slope / np.where(size > 0, size, 1.0))
        parameters = moved
        tell(step + 1, mean)
    return parameters


class TooLongError(ValueError):
    """Training would take longer than `patience` allows.

    Attributes
    ----------
    seconds
        The CPU time that it would take, estimated from the first steps.
    """

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} would take about {seconds:.0f} s")
        self.seconds = seconds


_patience: ContextVar[float | None] = ContextVar("patience", default=None)


@contextmanager
def patience(seconds: float | None) -> Iterator[None]:
    """Let training inside the block raise `TooLongError` after so much CPU time.

    Parameters
    ----------
    seconds
        The time; None lets training end.
    """
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


class Progress:
    """Says on standard error how far training is: one line that changes, or one in 10 seconds.

    Parameters
    ----------
    what
        What is trained.
    steps
        The number of steps in all.
    """

    def __init__(self, what: str, steps: int) -> None:
        self._what, self._steps, self._before = what, steps, 0
        self._live = sys.stderr.isatty()
        self._began = time.process_time()
        self._next = time.monotonic() + (0.5 if self._live else 10.0)

    def __call__(self, done: int, mean: float) -> None:
        """Tell that `done` steps of this phase are done.

        Raises
        ------
        TooLongError
            If training takes longer than `patience` allows.
        """
        now = time.monotonic()
        allowed, spent = _patience.get(), time.process_time() - self._began
        if allowed is not None and spent > allowed:
            raise TooLongError(self._what, spent * self._steps / (self._before + done))
        if now < self._next:
            return
        self._next = now + (0.5 if self._live else 10.0)
        text = f"gcmpi: {self._what}: step {self._before + done} of {self._steps}, error {mean:.3g}"
        print(text, end="\r" if self._live else "\n", file=sys.stderr, flush=True)

    def phase(self, steps: int) -> None:
        """Count `steps` as done: another phase begins."""
        self._before += steps

    def close(self) -> None:
        """Clear the line."""
        if self._live:
            print(" " * 79, end="\r", file=sys.stderr, flush=True)
