"""``python -m gcmpi.codes``: look at gradient codes."""

import sys

from gcmpi.commands.codes.command_line import main

if __name__ == "__main__":
    sys.exit(main())
