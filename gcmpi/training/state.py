"""Where training stands, as one value: a run that is given it goes on as if it had not stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gcmpi.arrays import AnyArray
from gcmpi.cluster.messages import Exchange
from gcmpi.cluster.waiting import StopRule
from gcmpi.learning.optimizers import Optimizer
from gcmpi.stateful import Arrays
from gcmpi.training.memory import Memory
from gcmpi.training.switching import Switch


@dataclass(frozen=True)
class State:
    """Everything that changes from iteration to iteration.

    Attributes
    ----------
    t
        The next iteration.
    theta : (d,)
        The parameters.
    seconds
        The training time so far.
    timed_from
        The first iteration after the warm-up.
    optimizer, switch, wait
        What optimizer, rule for m and stop rule remember.
    exchange
        What server and workers remember between iterations: compressors' memories, and on the
        virtual clock what each worker owes and when it is due. Gathered at checkpoints and at the
        end only (`Moving.gathered`), because over MPI the workers are asked for it.
    memory
        What the server remembers of the subset gradients. Gathered at checkpoints and at the end
        only, because it is large and changes in place.
    """

    t: int
    theta: AnyArray
    seconds: float = 0.0
    timed_from: int = 0
    optimizer: Arrays = field(default_factory=dict)
    switch: Arrays = field(default_factory=dict)
    wait: Arrays = field(default_factory=dict)
    exchange: Arrays = field(default_factory=dict)
    memory: Arrays = field(default_factory=dict)

    PARTS = ("optimizer", "switch", "wait", "exchange", "memory")

    def arrays(self) -> Iterator[tuple[str, AnyArray]]:
        """Yield the arrays of all parts with their names, ``part_name``."""
        for part in self.PARTS:
            for name, value in getattr(self, part).items():
                yield f"{part}_{name}", value

    @property
    def warming_up(self) -> bool:
        """Whether iteration t is left out of timing tables."""
        return self.t < self.timed_from


@dataclass(frozen=True)
class Moving:
    """The parts of a run that remember something, as they are between two iterations."""

    optimizer: Optimizer
    switch: Switch
    rule: StopRule
    exchange: Exchange
    memory: Memory

    def restore(self, state: State) -> Moving:
        """Give new parts what they remembered in a state; nothing at the start of a run.

        Raises
        ------
        ValueError
            If a part does not take its state.
        """
        if state.t:
            self.optimizer.state, self.switch.state = state.optimizer, state.switch
            self.rule.state, self.exchange.state = state.wait, state.exchange
            self.memory.state = state.memory
        return self

    def after(self, state: State, theta: AnyArray, seconds: float) -> State:
        """Return the state that follows on `state`, before anything is gathered."""
        return State(
            state.t + 1,
            theta,
            state.seconds + seconds,
            state.timed_from,
            self.optimizer.state,
            self.switch.state,
            self.rule.state,
        )

    def gathered(self, state: State) -> State:
        """Return the state between the iterations with what exchange and memory remember.

        The memory is no copy: the next iteration changes it.
        """
        return replace(state, exchange=dict(self.exchange.state), memory=dict(self.memory.state))
