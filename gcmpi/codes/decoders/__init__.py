"""Decoders by name: least squares for every code, and what each source proposes.

One function is one decoder: ``(code, survivors, options...) -> R (n, m)`` with zero rows for
stragglers. The fixed ones read from the code, once, what they need of it, and refuse codes they
do not serve. Their error ||B R - F||_F^2 is `Code.residual` of R, at least Err_S.
"""

from __future__ import annotations

from functools import partial

from gcmpi.codes.decoders.equal_weights import bibd, expander, one_step, plain_sum
from gcmpi.codes.decoders.exact import block, first_of_group, vandermonde
from gcmpi.codes.decoders.graph import graph
from gcmpi.codes.decoders.least_squares import Decoder, auto, decoder_for, least_squares, ridge
from gcmpi.formats import NOISE_POWER, SHORT, WireType
from gcmpi.registry import DECODERS, Spec

__all__ = [
    "bibd",
    "block",
    "decoder",
    "expander",
    "first_of_group",
    "graph",
    "one_step",
    "plain_sum",
    "ridge_of",
    "vandermonde",
]

DECODERS.register("auto")(auto)
DECODERS.register("least-squares")(least_squares)
DECODERS.register("ridge", {"eps": 1e-6})(ridge)


def ridge_of(spec: Spec | str, wire: WireType = "float32") -> float | None:
    """Return the eps of a decoder that is optimal, 0 for plain least squares, else None.

    Parameters
    ----------
    spec
        Its name and options.
    wire
        The type of the messages.

    Raises
    ------
    ValueError
        If there is no such decoder or option, or eps is not positive.
    """
    spec = DECODERS.parse(spec) if isinstance(spec, str) else spec
    match spec.name:
        case "least-squares":
            return 0.0
        case "auto":
            return NOISE_POWER[wire] if wire in SHORT else 0.0
        case "ridge":
            given = spec.options.get("eps", NOISE_POWER[wire])
            eps = float(given) if isinstance(given, int | float) else 0.0
            if not eps > 0:
                raise ValueError(f"ridge needs eps > 0, not eps={eps}")
            return eps
    return None


def decoder(spec: Spec | str, n: int, *, redrawn: bool, wire: WireType = "float32") -> Decoder:
    """Return a new decoder for a code of n workers.

    Parameters
    ----------
    spec
        Its name and options. Of the optimal ones it is the fastest: `decoding.decoder_for`.
    n
        The number of workers.
    redrawn
        Whether B changes in every iteration.
    wire
        The type of the messages.

    Raises
    ------
    ValueError
        If there is no such decoder or option.
    """
    spec = DECODERS.parse(spec) if isinstance(spec, str) else spec
    eps = ridge_of(spec, wire)
    if eps is not None:
        return decoder_for(n, redrawn=redrawn, eps=eps)
    part = DECODERS[spec.name]
    if part.own:
        own: Decoder = DECODERS.build(spec, wire=wire)
        return own
    fixed: Decoder = partial(part.function, **spec.options)
    return fixed
