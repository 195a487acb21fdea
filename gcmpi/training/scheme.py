"""Everything that belongs to one m, and what all ranks of a run have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gcmpi.arrays import Array, BoolArray
from gcmpi.cluster.stragglers import StragglerModel
from gcmpi.cluster.wire import Wire
from gcmpi.codes.code import Code, message_length
from gcmpi.codes.decoders.least_squares import Decoder
from gcmpi.codes.ensemble import Ensemble
from gcmpi.learning import Problem
from gcmpi.learning.batches import EVERYTHING, Sampling
from gcmpi.registry import REGISTRIES, OwnPartError


def elsewhere(code: Code, survivors: BoolArray) -> Array:
    """Stand for the decoder on the workers, which have none."""
    late = int(np.count_nonzero(~survivors))
    raise RuntimeError(f"only the server decodes, not a worker: {late} of {code.n} late")


@dataclass(frozen=True)
class Scheme:
    """All that belongs to one m.

    Attributes
    ----------
    codes
        The code of each iteration.
    wire
        How coded vectors travel; None only on its way to a rank that makes its own.
    decoder
        What decodes; the server's alone.
    alpha : (n + 1,)
        A gradient decoded with s stragglers is divided by ``alpha[s]``; ones for ``rescale=none``
        and for codes that make no promise of unbiasedness.
    loss : (n + 1,) or None
        The mean of Err_S / (m k) with s stragglers; None where m never changes.
    """

    codes: Ensemble
    wire: Any
    decoder: Decoder
    alpha: Array
    loss: Array | None = None

    @property
    def m(self) -> int:
        """The communication reduction: messages of d/m numbers."""
        return self.codes.m

    def divisor(self, survivors: BoolArray) -> float:
        """Return what a gradient decoded from these workers is divided by."""
        return float(self.alpha[np.count_nonzero(~survivors)])


@dataclass(frozen=True)
class Recipe:
    """How every rank makes a user's own part for itself: nothing of a user's is pickled.

    Attributes
    ----------
    setting
        What it is of the experiment: problem, stragglers or compression.
    text
        Its name and options.
    supplied
        What it is built with besides.
    """

    setting: str
    text: str
    supplied: Mapping[str, Any]

    def make(self, **more: object) -> Any:
        """Return a new one.

        Raises
        ------
        OwnPartError
            If this rank cannot import or build it.
        """
        return REGISTRIES[self.setting].build(self.text, **self.supplied, **more)


@dataclass(frozen=True)
class Shared:
    """What the server and all workers have in common; sent to the workers at the start.

    Attributes
    ----------
    schemes
        By m; there is one, unless m may change from iteration to iteration.
    sampling
        The rows of mini-batches, and the generators of models that draw.
    recipes
        By setting, how each rank makes those parts that are a user's own.
    contents
        The user's own parts that workers use, and the SHA-256 of the file each comes from on the
        server: another content elsewhere is refused.
    """

    problem: Problem
    schemes: Mapping[int, Scheme]
    stragglers: StragglerModel
    sampling: Sampling = EVERYTHING
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    contents: Sequence[tuple[str, str, str]] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the recipes make, and the decoders."""
        state = {"d": self.problem.d, **self.__dict__}
        for name in self.recipes.keys() & {"problem", "stragglers"}:
            state[name] = None
        own = "compression" in self.recipes
        state["schemes"] = {
            m: replace(scheme, wire=None if own else scheme.wire, decoder=elsewhere)
            for m, scheme in self.schemes.items()
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make what was left out."""
        recipes, d = state["recipes"], state.pop("d")
        for setting, text, sha256 in state["contents"]:
            source = REGISTRIES[setting].source(text)
            if source is not None and source.sha256 != sha256:
                raise OwnPartError(
                    f"{setting} {text}: {source.file} has another content on this rank than on the "
                    "server: all ranks must import the same file"
                )
        for name in recipes.keys() & {"problem", "stragglers"}:
            state[name] = recipes[name].make()
        if state["problem"].d != d:
            raise OwnPartError(
                f"problem {recipes['problem'].text} has d={d} parameters on the server and "
                f"d={state['problem'].d} here: it must be the same on all ranks"
            )
        if "compression" in recipes:
            make = recipes["compression"].make
            state["schemes"] = {
                m: replace(scheme, wire=make(length=message_length(d, m)))
                for m, scheme in state["schemes"].items()
            }
        self.__dict__.update(state)

    @property
    def codes(self) -> Ensemble:
        """The codes of the largest m, that of the experiment."""
        return self.schemes[max(self.schemes)].codes

    @property
    def wire(self) -> Wire:
        """How their coded vectors travel."""
        wire: Wire = self.schemes[max(self.schemes)].wire
        return wire

    @property
    def wires(self) -> dict[int, Wire]:
        """How coded vectors travel, by m."""
        return {m: scheme.wire for m, scheme in self.schemes.items()}
