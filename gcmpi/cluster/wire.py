"""How a coded vector travels: the numbers' type, and lossy compression on top of it.

A `Wire` turns a worker's coded vector y into the elements of a message and back. Server and workers
each hold one; what is random follows from the run's seed, the iteration and the worker, so that it
need not be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import AnyArray
from gcmpi.formats import WireType, decode_numbers, encode_numbers, storage
from gcmpi.registry import COMPRESSORS
from gcmpi.stateful import NOTHING, Arrays, own_state, restore_own


class Wire(Protocol):
    """What the transports need to know of a message's body.

    Attributes
    ----------
    length
        Length of a coded vector.
    elements
        How many elements of the storage type a message's body has.
    exact
        Whether nothing but rounding is lost.
    remembers
        Whether what is left out of a message is added to the next one.
    stateful
        Whether `state` may hold anything.
    state
        What is remembered from one message to the next.
    dtype
        The type of the numbers.
    """

    length: int
    elements: int
    exact: bool
    remembers: bool
    stateful: bool
    state: Arrays
    dtype: WireType

    def pack(self, y: AnyArray, t: int, worker: int, out: AnyArray) -> float:
        """Write the message for y (length,) into `out` (elements,); return the scale."""
        ...

    def unpack(self, sent: AnyArray, scale: float, t: int, worker: int, out: AnyArray) -> None:
        """Write the coded vector of a message into `out` (length,)."""
        ...


def remembered(wires: Mapping[str, Mapping[int, Wire]]) -> dict[str, AnyArray]:
    """Return what wires remember, by owner and m: ``worker5_m2_memory``."""
    return {
        f"{owner}_m{m}_{name}": value
        for owner, by_m in wires.items()
        for m, wire in by_m.items()
        for name, value in wire.state.items()
    }


def restore(wires: Mapping[str, Mapping[int, Wire]], arrays: Arrays) -> None:
    """Give wires what `remembered` returned, among other arrays."""
    for owner, by_m in wires.items():
        for m, wire in by_m.items():
            start = f"{owner}_m{m}_"
            wire.state = {
                name.removeprefix(start): value
                for name, value in arrays.items()
                if name.startswith(start)
            }


class OwnWire:
    """A user's compression, with defaults for what it may leave out.

    Without `elements` a message has as many elements as a coded vector; without `exact` and
    `remembers` something is lost and nothing is remembered.

    Attributes
    ----------
    restorable
        Whether a resumed run can be the uninterrupted one: what remembers must show its `state`.
    """

    def __init__(self, made: Any, length: int, dtype: WireType) -> None:
        self.length, self.dtype = length, dtype
        self.elements = int(getattr(made, "elements", length))
        self.exact = bool(getattr(made, "exact", False))
        self.remembers = bool(getattr(made, "remembers", False))
        self.stateful = hasattr(made, "state")
        self.restorable = self.stateful or not self.remembers
        self._made = made

    @property
    def state(self) -> Arrays:
        """Copies of the user's `state`, arrays by name; empty where there is none."""
        return own_state(self._made)

    @state.setter
    def state(self, arrays: Arrays) -> None:
        restore_own(self._made, arrays, "compression")

    def pack(self, y: AnyArray, t: int, worker: int, out: AnyArray) -> float:
        """Let the user's compression write the message for y into `out`; return the scale."""
        scale = self._made.pack(y, t, worker, out)
        return 1.0 if scale is None else float(scale)

    def unpack(self, sent: AnyArray, scale: float, t: int, worker: int, out: AnyArray) -> None:
        """Let the user's compression write the coded vector of a message into `out`."""
        self._made.unpack(sent, scale, t, worker, out)


def complete(made: object, length: int, dtype: WireType) -> Wire:
    """Return a user's compression with the members that it may leave out.

    Raises
    ------
    ValueError
        If it cannot pack and unpack; the message follows the compression's name.
    """
    for member in ("pack", "unpack"):
        if not callable(getattr(made, member, None)):
            raise ValueError(
                "must have pack(y, t, worker, out) -> scale and unpack(sent, scale, t, worker, "
                f"out), but {made!r:.60} has no {member}"
            )
    wire = OwnWire(made, length, dtype)
    if wire.elements < 1:
        raise ValueError(f"must have elements >= 1, not {wire.elements}")
    return wire


@COMPRESSORS.register("none")
@dataclass
class Dense:
    """All of the coded vector, rounded to the wire type."""

    length: int
    dtype: WireType
    exact: bool = field(default=True, init=False)
    remembers: bool = field(default=False, init=False)
    stateful: bool = field(default=False, init=False)
    state: Arrays = field(default_factory=dict, init=False, compare=False)
    elements: int = field(init=False)

    def __post_init__(self) -> None:
        self.elements = self.length

    def pack(self, y: AnyArray, t: int, worker: int, out: AnyArray) -> float:
        """Write y / scale, rounded, into `out`."""
        return encode_numbers(y, self.dtype, out)

    def unpack(self, sent: AnyArray, scale: float, t: int, worker: int, out: AnyArray) -> None:
        """Write the numbers of the message into `out`."""
        decode_numbers(sent, self.dtype, scale, out)


class _Sparse:
    """Keeps some entries of y, and what it leaves out for the next message (error feedback).

    The memory takes for granted that a message was used. One that came too late is lost, as it is
    without compression.
    """

    exact = False

    def __init__(self, name: str, length: int, dtype: WireType, fraction: float, feedback: bool):
        if not 0 < fraction <= 1:
            raise ValueError(f"compression {name} needs fraction in (0, 1], not {fraction:g}")
        self.length, self.dtype, self.fraction, self.remembers = length, dtype, fraction, feedback
        self.stateful = feedback
        self._memory: AnyArray | None = None

    @property
    def state(self) -> Arrays:
        """What was left out of the messages so far, shape (length,); nothing before the first."""
        return NOTHING if self._memory is None else {"memory": self._memory}

    @state.setter
    def state(self, arrays: Arrays) -> None:
        self._memory = arrays.get("memory")

    def _with_memory(self, y: AnyArray) -> AnyArray:
        if not self.remembers:
            return y
        self._memory = y.copy() if self._memory is None else self._memory + y
        return self._memory

    def _forget(self, kept: AnyArray) -> None:
        """Take the entries that were sent out of the memory."""
        if self._memory is not None:
            self._memory[kept] = 0


@COMPRESSORS.register("rand-k", {"fraction": 0.5})
class RandK(_Sparse):
    """A random `fraction` of the entries; which ones follows from the seed and is not sent.

    Without error feedback the entries are scaled by 1 / fraction, so that the mean is y.

    References
    ----------
    Stich, Cordonnier and Jaggi, *Sparsified SGD with memory*, NeurIPS 2018.
    """

    def __init__(
        self, length: int, dtype: WireType, seed: int, fraction: float = 0.5, feedback: bool = True
    ) -> None:
        super().__init__("rand-k", length, dtype, fraction, feedback)
        self.elements = max(1, int(fraction * length))
        self._seed = seed

    def pack(self, y: AnyArray, t: int, worker: int, out: AnyArray) -> float:
        """Write the kept entries into `out`."""
        kept = self._kept(t, worker)
        y = self._with_memory(y)
        values = y[kept] if self.remembers else y[kept] * y.dtype.type(y.size / kept.size)
        self._forget(kept)
        return encode_numbers(values, self.dtype, out)

    def unpack(self, sent: AnyArray, scale: float, t: int, worker: int, out: AnyArray) -> None:
        """Write the kept entries to their places in `out`, zeros elsewhere."""
        values = np.empty(self.elements, out.dtype)
        decode_numbers(sent, self.dtype, scale, values)
        out[...] = 0
        out[self._kept(t, worker)] = values

    def _kept(self, t: int, worker: int) -> AnyArray:
        rng = seeds.generator(self._seed, seeds.COMPRESSION, t, worker)
        return rng.choice(self.length, self.elements, replace=False, shuffle=False)


@COMPRESSORS.register("top-k", {"fraction": 0.5})
class TopK(_Sparse):
    """The largest entries and their places, 4 bytes each: `fraction` of the bytes, not entries.

    References
    ----------
    Alistarh et al., *The convergence of sparsified gradient methods*, NeurIPS 2018.
    """

    def __init__(
        self, length: int, dtype: WireType, fraction: float = 0.5, feedback: bool = True
    ) -> None:
        super().__init__("top-k", length, dtype, fraction, feedback)
        size = storage(dtype).itemsize
        self._count = max(1, int(fraction * length * size / (size + 4)))
        # places travel behind the numbers, as elements of the same size
        self._places = -(-4 * self._count // size)
        self.elements = self._count + self._places

    def pack(self, y: AnyArray, t: int, worker: int, out: AnyArray) -> float:
        """Write the largest entries and their places into `out`."""
        y = self._with_memory(y)
        kept = np.argpartition(np.abs(y), -self._count)[-self._count :].astype(np.uint32)
        scale = encode_numbers(y[kept], self.dtype, out[: self._count])
        out[self._count :].view(np.uint8)[: kept.nbytes] = kept.view(np.uint8)
        self._forget(kept)
        return scale

    def unpack(self, sent: AnyArray, scale: float, t: int, worker: int, out: AnyArray) -> None:
        """Write the kept entries to their places in `out`, zeros elsewhere."""
        values = np.empty(self._count, out.dtype)
        decode_numbers(sent[: self._count], self.dtype, scale, values)
        places = sent[self._count :].view(np.uint8)[: 4 * self._count].copy().view(np.uint32)
        out[...] = 0
        out[places] = values
