"""Decoding with memory: the server remembers what it has learnt of the subset gradients.

Z are the true parts of the subset gradients, Zh the server's estimate of them. From the messages
Y_S = Z B_S of the survivors S and the decoding matrix R,

    E = Y_S - Zh B_S,   g = Zh F + E R_S,   Zh += eta E B_S^+,

so that the gradient g is wrong by (Z - Zh)(F - B_S R_S): by what the code loses of how far
gradients have moved, not of the gradients. docs/memory.md has what is promised. Zh is kept in
coordinates of the space that the messages can span (`gcmpi.codes.spaces`), no more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray, Array, BoolArray
from gcmpi.cluster.messages import Late, Replies
from gcmpi.codes.code import Code, combine, message_length
from gcmpi.codes.decoders.least_squares import pseudo_inverse
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.spaces import Space, spaces
from gcmpi.stateful import NOTHING, Arrays, need
from gcmpi.training.scheme import Scheme

AUTO = "auto"
NONE = "0"
PART, LEAST = 0.25, 0.01
"""Eta of ``auto`` with mini-batches: so much of the part of the rows in a batch, and at least."""
CACHE = 1 << 19
"""Bytes that a block of columns may take."""
TOGETHER = 16
"""Workers of small components that are taken together: many small products cost more than one."""


class Recalled(NamedTuple):
    """What memory adds to a decoded gradient, Zh (F - B_S R_S), for an audit.

    Attributes
    ----------
    gradient : (d,)
        What it adds.
    size
        The sum of the norms of its terms, which says how much rounding is to be expected.
    """

    gradient: AnyArray
    size: float


class Memory(Protocol):
    """What the server remembers of the subset gradients.

    Attributes
    ----------
    state
        It as it is now, not a copy; a state that is given is copied.
    """

    state: Arrays

    def gradient(self, code: Code, R: Array, replies: Replies, d: int) -> AnyArray:
        """Return the decoded gradient (d,), and learn from the messages."""
        ...

    def catch_up(self, schemes: Mapping[int, Scheme], late: Sequence[Late]) -> None:
        """Learn from answers to earlier iterations, before those of this one."""
        ...

    def recall(self, code: Code, R: Array, d: int) -> Recalled | None:
        """Return what it would add to a gradient that R decodes; None for nothing ever."""
        ...


class Nothing:
    """Nothing is remembered: the gradient is what R makes of the messages."""

    state = NOTHING

    def gradient(self, code: Code, R: Array, replies: Replies, d: int) -> AnyArray:
        """Return Y'R as a gradient, (d,)."""
        return combine(R, replies.Y, d)

    def catch_up(self, schemes: Mapping[int, Scheme], late: Sequence[Late]) -> None:
        """Learn nothing."""

    def recall(self, code: Code, R: Array, d: int) -> None:
        """Return nothing."""


@dataclass(frozen=True)
class Block:
    """Components, and where their coordinates are among the rows that are kept.

    Attributes
    ----------
    parts
        In how many parts a row is cut: m where a row is a whole subset gradient.
    """

    space: Space
    rows: slice
    parts: int

    def of(self, kept: AnyArray, length: int) -> AnyArray:
        """Return its rows, (rows, parts, length), a view."""
        mine: AnyArray = kept[self.rows, : self.parts * length]
        return mine.reshape(-1, self.parts, length)


@dataclass(frozen=True)
class Layout:
    """What is kept of Zh: the least that the codes allow.

    Where B stays the same it is what B and F span: c d numbers for c groups, and no more than about
    n d/m for any code. Where B changes, but not m, it is all of Zh; where m changes, whole subset
    gradients: k d numbers.

    Attributes
    ----------
    blocks
        By m.
    shape
        Of the array that is kept.
    """

    blocks: Mapping[int, Sequence[Block]]
    shape: tuple[int, int]

    @classmethod
    def of(cls, ensembles: Mapping[int, Ensemble], d: int) -> Layout:
        """Return the layout for the codes of a run, by m, and gradients of d numbers."""
        changes = len(ensembles) > 1
        blocks = {m: list(_blocks(codes, whole=changes)) for m, codes in ensembles.items()}
        width = max((m if changes else 1) * message_length(d, m) for m in ensembles)
        return cls(blocks, (next(iter(blocks.values()))[-1].rows.stop, width))

    @property
    def numbers(self) -> int:
        """How many numbers are kept."""
        return math.prod(self.shape)


def _blocks(codes: Ensemble, *, whole: bool) -> Iterator[Block]:
    """Yield the parts of a code's space; `whole` keeps whole subset gradients."""
    first = 0
    for space in spaces(codes, whole=whole, together=TOGETHER):
        count = space.subsets.size if whole else space.dimension
        yield Block(space, slice(first, first + count), codes.m if whole else 1)
        first += count


class Estimate:
    """The estimate Zh in coordinates of the space that messages can span.

    Parameters
    ----------
    layout
        What is kept.
    eta
        How much of what is new is believed, in (0, 1].
    dtype
        The type of messages.
    eps
        The ridge of B_S^+: that of the decoder, and at least the noise power of the messages.
    """

    def __init__(self, layout: Layout, eta: float, dtype: npt.DTypeLike, eps: float = 0.0) -> None:
        self._blocks, self._eta, self._eps = layout.blocks, eta, eps
        self._kept = np.zeros(layout.shape, dtype)

    @property
    def state(self) -> Arrays:
        """The estimate as it is now, not a copy."""
        return {"estimate": self._kept}

    @state.setter
    def state(self, arrays: Arrays) -> None:
        need(arrays, ("estimate",), "--memory")
        if arrays["estimate"].shape != self._kept.shape:
            raise ValueError(
                f"the memory of the run has shape {arrays['estimate'].shape}, and this one "
                f"{self._kept.shape}: start the run anew"
            )
        self._kept[...] = arrays["estimate"]

    def gradient(self, code: Code, R: Array, replies: Replies, d: int) -> AnyArray:
        """Return Zh F + E R_S, shape (d,), and add eta E B_S^+ to Zh."""
        g = np.zeros((code.m, replies.Y.shape[1]), replies.Y.dtype)
        self._pass(code, replies.Y, replies.survivors, R, g)
        return g.ravel()[:d]

    def catch_up(self, schemes: Mapping[int, Scheme], late: Sequence[Late]) -> None:
        """Learn from late answers, the oldest first."""
        for (t, m), answers in itertools.groupby(sorted(late, key=_when), key=lambda a: a[:2]):
            code, length = schemes[m].codes.at(t), schemes[m].wire.length
            survivors = np.zeros(code.n, dtype=np.bool_)
            Y = np.zeros((code.n, length), self._kept.dtype)
            for answer in answers:
                survivors[answer.i], Y[answer.i] = True, answer.y
            self._pass(code, Y, survivors)

    def _pass(
        self,
        code: Code,
        Y: AnyArray,
        survivors: BoolArray,
        R: Array | None = None,
        g: AnyArray | None = None,
    ) -> None:
        """Go over the messages once, in blocks of columns that fit in the cache.

        Parameters
        ----------
        g : (m, ceil(d / m))
            What the decoded gradient is added to, if it is wanted.
        """
        for block in self._blocks[code.m]:
            kept = block.of(self._kept, Y.shape[1])
            answered = survivors[block.space.workers]
            workers = block.space.workers[answered]
            B = block.space.columns(code)[:, answered]
            weights = np.zeros((code.n, code.m)) if R is None else R
            update = self._eta * pseudo_inverse(B, self._eps)
            F, R_S, B_S, learnt = (
                np.ascontiguousarray(M.T, Y.dtype)
                for M in (block.space.target, weights[workers], B, update)
            )
            for columns in _slices(Y.shape[1], Y.itemsize * sum(B.shape)):
                old = kept[:, :, columns]
                Z = old.reshape(B.shape[0], -1)
                E = Y[workers, columns] - B_S @ Z
                if g is not None:
                    g[:, columns] += F @ Z + R_S @ E
                old[...] = (Z + learnt @ E).reshape(old.shape)

    def recall(self, code: Code, R: Array, d: int) -> Recalled:
        """Return Zh (F - B_S R_S) and the size of its terms."""
        g, size = np.zeros((code.m, message_length(d, code.m))), 0.0
        for block in self._blocks[code.m]:
            space = block.space
            weights = space.target - space.columns(code) @ R[space.workers]
            Z = block.of(self._kept, g.shape[1]).reshape(len(weights), -1)
            g += weights.T @ Z
            size += float(np.linalg.norm(weights, axis=1) @ np.linalg.norm(Z, axis=1))
        return Recalled(g.ravel()[:d], size)


def _when(answer: Late) -> tuple[int, int, int]:
    """Return what late answers are ordered by."""
    return answer[:3]


def _slices(length: int, bytes_each: int) -> Iterator[slice]:
    """Yield blocks of columns that fit in the cache."""
    step = max(64, CACHE // bytes_each)
    for first in range(0, length, step):
        yield slice(first, first + step)


def canonical(text: object) -> str:
    """Return the setting: 0, a number in (0, 1], or auto.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if text == AUTO:
        return AUTO
    try:
        eta = float(str(text))
    except ValueError:
        eta = np.nan
    if not 0 <= eta <= 1:
        raise ValueError(
            f"--memory must be 0 (none), a number up to 1 (how much of what is new is believed) "
            f"or auto, not {text!r}"
        )
    return f"{eta:g}"
