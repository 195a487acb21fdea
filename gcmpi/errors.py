"""`gcmpi.codes.errors` under the name that programs use."""

from gcmpi.codes.errors import *  # noqa: F403
