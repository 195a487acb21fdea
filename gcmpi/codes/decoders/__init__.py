"""Decoders by name: least squares for every code, and what each source proposes.

One function is one decoder: ``(code, survivors, options...) -> R (n, m)`` with zero rows for
stragglers. The fixed ones refuse codes they do not serve. Their error ||B R - F||_F^2 is
`Code.residual` of R, at least Err_S. `decoder` serves another code in every call, `decoder_of` is
made for one code and many sets of survivors.
"""

from __future__ import annotations

from functools import partial

from gcmpi.codes.code import Code
from gcmpi.codes.decoders.equal_weights import bibd, expander, one_step, plain_sum
from gcmpi.codes.decoders.exact import block, first_of_group, vandermonde
from gcmpi.codes.decoders.graph import graph
from gcmpi.codes.decoders.least_squares import (
    Decoder,
    Downdate,
    always,
    auto,
    auto_eps,
    decoder_for,
    least_squares,
    ridge,
    ridge_eps,
)
from gcmpi.codes.decoders.made import Decode, Maker
from gcmpi.formats import WireType
from gcmpi.registry import DECODERS, Spec

__all__ = [
    "always",
    "bibd",
    "block",
    "decoder",
    "decoder_of",
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


def decoder(spec: Spec | str, n: int, wire: WireType = "float32") -> Decoder:
    """Return a new decoder for codes of n workers, another code in every call.

    Parameters
    ----------
    spec
        Its name and options. Of the optimal ones it is the fastest: `least_squares.decoder_for`.
    n
        The number of workers.
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
        return decoder_for(n, eps=eps)
    any_code: Decoder
    if DECODERS[spec.name].own:
        any_code = DECODERS.build(spec, wire=wire)
    else:
        any_code = partial(DECODERS[spec.name].function, **spec.options)
    return any_code


def decoder_of(code: Code, spec: Spec | str, wire: WireType = "float32") -> Decode:
    """Return a new decoder of one code, which reads from the code once what it needs.

    Parameters
    ----------
    code
        The code.
    spec
        Name and options of the decoder. For the optimal ones it is `least_squares.Downdate`.
    wire
        The type of the messages.

    Raises
    ------
    ValueError
        If there is no such decoder or option, or it does not serve the code.
    """
    spec = DECODERS.parse(spec) if isinstance(spec, str) else spec
    eps = ridge_of(spec, wire)
    if eps is not None:
        return Downdate(code, eps=eps)
    if DECODERS[spec.name].own:
        return partial(DECODERS.build(spec, wire=wire), code)
    return plain(code, spec)


def plain(code: Code, spec: Spec | str) -> Decode:
    """Return a new decoder of one code as its function in this package is, without shortcuts.

    Parameters
    ----------
    code
        The code.
    spec
        Name and options of the decoder.

    Raises
    ------
    ValueError
        If there is no such decoder or option, or it does not serve the code.
    """
    spec = DECODERS.parse(spec) if isinstance(spec, str) else spec
    function = DECODERS[spec.name].function
    if isinstance(function, Maker):
        return function.made(code, **spec.options)
    return partial(function, code, **spec.options)
