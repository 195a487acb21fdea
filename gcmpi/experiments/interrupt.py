"""Ending a run early: after the iteration that it is in, with a checkpoint."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcmpi.arrays import AnyArray, BoolArray
    from gcmpi.cluster.waiting import StopRule
    from gcmpi.stateful import Arrays
    from gcmpi.training import Exchange, Replies


class Interrupt:
    """Remembers that somebody wants the run to end: the server stops after the iteration it is in.

    SIGUSR1 is for batch scripts; SIGINT is Ctrl-C under MPICH, SIGTERM what Open MPI's launcher
    makes of it. Launchers pass them on to every rank; rank 0 alone decides. A second SIGINT ends
    it at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {
            number: signal.signal(number, self._note) for number in self.SIGNALS
        }

    def _note(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    @staticmethod
    def leave_to_server() -> None:
        """Ignore the signals in this rank from now on."""
        for number in Interrupt.SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        """Handle the signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Interrupted(Exception):
    """The run is to end, in the middle of waiting."""


class WatchedExchange:
    """An exchange that gives up the iteration, however long its wait, when the run is to end.

    Nothing of an abandoned iteration is kept: a resumed run does it again from its start.
    """

    def __init__(self, exchange: Exchange, interrupt: Interrupt) -> None:
        self._exchange, self._interrupt = exchange, interrupt

    @property
    def state(self) -> Arrays:
        """What the exchange remembers."""
        return self._exchange.state

    @state.setter
    def state(self, arrays: Arrays) -> None:
        self._exchange.state = arrays

    def exchange(self, t: int, m: int, theta: AnyArray, rule: StopRule) -> Replies:
        """Do one iteration; raise Interrupted when somebody wants the run to end."""
        return self._exchange.exchange(t, m, theta, _WatchedRule(rule, self._interrupt))


class _WatchedRule:
    """A stop rule that raises Interrupted when the run is to end."""

    def __init__(self, rule: StopRule, interrupt: Interrupt) -> None:
        self._rule, self._interrupt = rule, interrupt
        self.state: Arrays = {}  # the rule itself has it
        self.begin, self.observe = rule.begin, rule.observe

    def remaining(self, answered: BoolArray, elapsed: float) -> float:
        """Return what the rule says; raise Interrupted when somebody wants the run to end."""
        if self._interrupt.asked:
            raise Interrupted
        return self._rule.remaining(answered, elapsed)
