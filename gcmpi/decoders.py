"""`gcmpi.codes.decoders` under the name that programs use."""

from gcmpi.codes.decoders import *  # noqa: F403
