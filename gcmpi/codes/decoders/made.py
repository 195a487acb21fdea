"""Decoders that are made for one code: they read from it, once, what they need."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gcmpi.arrays import Array, BoolArray
from gcmpi.codes.code import Code

Decode = Callable[[BoolArray], Array]
"""Decodes one code: the survivors (n,) bool -> R (n, m), with zero rows for stragglers."""


class Maker:
    """A decoder given by a function that makes it for a code: ``(code, options...) -> Decode``.

    `made` makes it once, for many sets of survivors. Called with a code and survivors, like any
    decoder, it is made for this call only.
    """

    def __init__(self, make: Callable[..., Decode]) -> None:
        functools.update_wrapper(self, make)
        self._make = make
        code, *options = inspect.signature(make, eval_str=True).parameters.values()
        survivors = code.replace(name="survivors", annotation=BoolArray)
        self.__signature__ = inspect.Signature([code, survivors, *options], return_annotation=Array)

    def made(self, code: Code, **options: Any) -> Decode:
        """Return the decoder of this code.

        Raises
        ------
        ValueError
            If the decoder does not serve the code.
        """
        decode = self._make(code, **options)
        return lambda survivors: decode(code.check_survivors(survivors))

    def __call__(self, code: Code, survivors: BoolArray, **options: Any) -> Array:
        """Return R (n, m), with zero rows for stragglers.

        Raises
        ------
        ValueError
            If the decoder does not serve the code, or `survivors` is not a boolean array (n,).
        """
        return self.made(code, **options)(survivors)
