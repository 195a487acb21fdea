"""Decoders by name: least squares for every code, and what each source proposes.

One function is one decoder: ``(code, survivors, options...) -> R (n, m)`` with zero rows for
stragglers. The fixed ones refuse codes they do not serve, and are made for a code once with
``made(code, options...)``, for many sets of survivors. Their error ||B R - F||_F^2 is
`Code.residual` of R, at least Err_S.
"""

from __future__ import annotations

from functools import partial

from gcmpi.codes.decoders.equal_weights import bibd, expander, one_step, plain_sum
from gcmpi.codes.decoders.exact import block, first_of_group, vandermonde
from gcmpi.codes.decoders.graph import graph
from gcmpi.codes.decoders.least_squares import (
    Decoder,
    auto,
    auto_eps,
    decoder_for,
    least_squares,
    ridge,
    ridge_eps,
)
from gcmpi.codes.decoders.made import Kept, Maker
from gcmpi.formats import WireType
from gcmpi.registry import DECODERS, Spec

__all__ = [
    "bibd",
    "block",
    "decoder",
    "expander",
    "first_of_group",
    "graph",
    "one_step",
    "plain",
    "plain_sum",
    "ridge_of",
    "vandermonde",
]

DECODERS.register("auto", ridge=auto_eps)(auto)
DECODERS.register("least-squares", ridge=lambda _: 0.0)(least_squares)
DECODERS.register("ridge", {"eps": 1e-6}, ridge=ridge_eps)(ridge)


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
    optimal = DECODERS[spec.name].promises.ridge
    return None if optimal is None else optimal(wire, **spec.options)


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
    if DECODERS[spec.name].own:
        own: Decoder = DECODERS.build(spec, wire=wire)
        return own
    return plain(spec)


def plain(spec: Spec | str) -> Decoder:
    """Return a new decoder of this package as its function is, for any code and without shortcuts.

    Parameters
    ----------
    spec
        Its name and options.

    Raises
    ------
    ValueError
        If there is no such decoder or option.
    """
    spec = DECODERS.parse(spec) if isinstance(spec, str) else spec
    function = DECODERS[spec.name].function
    if isinstance(function, Maker):
        return Kept(lambda code: function.made(code, **spec.options))
    same: Decoder = partial(function, **spec.options)
    return same
