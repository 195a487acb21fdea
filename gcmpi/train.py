"""``mpirun -n 32 python -m gcmpi.train``: train with a gradient code."""

import sys

from gcmpi.commands.train.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
