"""Decoders by name: ``least-squares``, optimal for every code, and what each source proposes.

One function is one decoder: ``(code, survivors, options...) -> R (n, m)`` with zero rows for
stragglers. The fixed ones read from the code, once, what they need of it, and refuse codes they
do not serve. Their error ||B R - F||_F^2 is `Code.residual` of R, at least Err_S.
"""

from __future__ import annotations

from functools import partial

from gcmpi.decoders.equal_weights import bibd, expander, one_step, plain_sum
from gcmpi.decoders.exact import block, first_of_group, vandermonde
from gcmpi.decoders.graph import graph
from gcmpi.decoding import Decoder, decoder_for, least_squares, ridge
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
    "vandermonde",
]

DECODERS.register("least-squares")(least_squares)
DECODERS.register("ridge", {"wire": "float16"})(ridge)


def decoder(spec: Spec | str, n: int, *, redrawn: bool) -> Decoder:
    """Return a new decoder for a code of n workers.

    Parameters
    ----------
    spec
        Its name and options. For ``least-squares`` it is the fastest: `decoding.decoder_for`.
    n
        The number of workers.
    redrawn
        Whether B changes in every iteration.

    Raises
    ------
    ValueError
        If there is no such decoder or option.
    """
    spec = DECODERS.parse(spec) if isinstance(spec, str) else spec
    if spec.name == "least-squares":
        return decoder_for(n, redrawn=redrawn)
    fixed: Decoder = partial(DECODERS[spec.name].function, **spec.options)
    return fixed
