"""`gcmpi.codes.assignments` under the name that programs use."""

from gcmpi.codes.assignments import *  # noqa: F403
