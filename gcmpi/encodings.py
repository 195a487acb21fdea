"""`gcmpi.codes.encodings` under the name that programs use."""

from gcmpi.codes.encodings import *  # noqa: F403
