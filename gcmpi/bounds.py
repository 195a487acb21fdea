"""`gcmpi.codes.bounds` under the name that programs use."""

from gcmpi.codes.bounds import *  # noqa: F403
