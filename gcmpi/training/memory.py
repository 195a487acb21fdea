"""Decoding with memory: the server remembers what it has learnt of the subset gradients.

Z are the true parts of the subset gradients, Zh the server's estimate of them. From the messages
Y_S = Z B_S of the survivors S and the decoding matrix R,

    E = Y_S - Zh B_S,   g = Zh F + E R_S,   Zh += eta E B_S^+,

so that the gradient g is wrong by (Z - Zh)(F - B_S R_S): by what the code loses of how far
gradients have moved, not of the gradients. docs/memory.md has what is promised. Zh is kept in
coordinates of the space that the messages can span (`gcmpi.codes.spaces`), no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.messages import Replies
from gcmpi.codes.code import Code, combine, message_length
from gcmpi.codes.decoders.least_squares import pseudo_inverse
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.spaces import Space, spaces
from gcmpi.stateful import NOTHING, Arrays, need

AUTO = "auto"
NONE = "0"
LEAST = 0.1
"""The least eta of ``auto``."""
CACHE = 1 << 18
"""Bytes that a block of columns and what comes of it may take."""


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
    numbers
        How many numbers are kept.
    """

    state: Arrays

    @property
    def numbers(self) -> int: ...  # noqa: D102

    def gradient(self, code: Code, R: Array, replies: Replies, d: int) -> AnyArray:
        """Return the decoded gradient (d,), and learn from the messages."""
        ...

    def recall(self, code: Code, R: Array, d: int) -> Recalled | None:
        """Return what it would add to a gradient that R decodes; None for nothing ever."""
        ...


class Nothing:
    """Nothing is remembered: the gradient is what R makes of the messages."""

    state = NOTHING
    numbers = 0

    def gradient(self, code: Code, R: Array, replies: Replies, d: int) -> AnyArray:
        """Return Y'R as a gradient, (d,)."""
        return combine(R, replies.Y, d)

    def recall(self, code: Code, R: Array, d: int) -> None:
        """Return nothing."""


class Estimate:
    """The estimate Zh in coordinates of the space that messages can span.

    Parameters
    ----------
    ensembles
        The codes of the run, by m. Where m may change, whole subset gradients are kept.
    eta
        How much of what is new is believed, in (0, 1].
    d
        Length of a gradient.
    dtype
        The type of messages.
    eps
        The ridge of the decoder: B_S^+ has the same.
    """

    def __init__(
        self,
        ensembles: Mapping[int, Ensemble],
        eta: float,
        d: int,
        dtype: npt.DTypeLike,
        eps: float = 0.0,
    ) -> None:
        self._eta, self._eps = eta, eps
        changes = len(ensembles) > 1
        self._blocks = {m: list(_blocks(codes, whole=changes)) for m, codes in ensembles.items()}
        width = max(m * message_length(d, m) for m in ensembles)
        if not changes:
            width //= max(ensembles)
        last = next(iter(self._blocks.values()))[-1]
        self._kept = np.zeros((last.rows.stop, width), dtype)

    @property
    def numbers(self) -> int:
        """How many numbers are kept."""
        return self._kept.size

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
        """Return Zh F + E R_S, shape (d,), and add eta E B_S^+ to Zh.

        One pass over the messages, in blocks of columns that fit in the cache.
        """
        Y = replies.Y
        g = np.zeros((code.m, Y.shape[1]), Y.dtype)
        for block in self._blocks[code.m]:
            kept = block.of(self._kept, Y.shape[1])
            answered = replies.survivors[block.space.workers]
            survivors = block.space.workers[answered]
            B = block.space.columns(code)[:, answered]
            update = self._eta * pseudo_inverse(B, self._eps)
            F, R_S, B_S, learnt = (
                np.ascontiguousarray(M.T, Y.dtype)
                for M in (block.space.target, R[survivors], B, update)
            )
            for columns in _slices(Y.shape[1], Y.itemsize * sum(B.shape)):
                Z = kept[:, :, columns].reshape(B.shape[0], -1)
                g[:, columns] += F @ Z
                if survivors.size:
                    E = Y[survivors, columns] - B_S @ Z
                    g[:, columns] += R_S @ E
                    kept[:, :, columns] = (Z + learnt @ E).reshape(kept[:, :, columns].shape)
        return g.ravel()[:d]

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


@dataclass(frozen=True)
class _Block:
    """One component, and where its coordinates are among the rows that are kept.

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


def _blocks(codes: Ensemble, *, whole: bool) -> Iterator[_Block]:
    """Yield the components of a code; `whole` keeps whole subset gradients."""
    first = 0
    for space in spaces(codes, whole=whole):
        count = space.subsets.size if whole else space.dimension
        yield _Block(space, slice(first, first + count), codes.m if whole else 1)
        first += count


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
