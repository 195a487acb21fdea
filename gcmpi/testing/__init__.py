"""The laws of codes, decoders, models and straggler models, for parts of your own.

Each check is one call. It takes a function, a class, an object or a text, returns None where every
law holds, and raises AssertionError that says which law is broken, where and by how much:

>>> gcmpi.testing.check_encoding(mine)
AssertionError: encoding mine breaks the law "support" with projective-plane:order=2, m=2, seed=0:
B[8, 3] = 1.07, but worker 3 does not hold subset 1; row u*k + j of B is part u of subset j

A part whose call cannot be understood (an unknown name, something that is no function) raises
ValueError or TypeError. Nothing here imports pytest: a check works in any script. The tests of
this package run the same checks over every part that it ships.
"""

from gcmpi.testing.assignments import check_assignment
from gcmpi.testing.decoders import check_decoder
from gcmpi.testing.encodings import check_encoding
from gcmpi.testing.problems import check_problem
from gcmpi.testing.stragglers import check_stragglers

__all__ = [
    "check_assignment",
    "check_decoder",
    "check_encoding",
    "check_problem",
    "check_stragglers",
]
