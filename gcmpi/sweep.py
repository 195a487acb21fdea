"""``python -m gcmpi.sweep FILE.toml``: run and compare many experiments."""

import sys

from gcmpi.commands.sweep import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
