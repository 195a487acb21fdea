"""`gcmpi.codes.bounds` and what theorems say of a code, under the name that programs use."""

from gcmpi.codes.bounds import *  # noqa: F403
from gcmpi.codes.theorems import cited, closed_form  # noqa: F401
