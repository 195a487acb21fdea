"""The commands by name: where each has its command line and its door.

A command needs

* a file or a folder in ``gcmpi/commands`` with ``parser()`` and ``main(argv)``, which imports
  nothing heavy before it is asked to do something;
* an entry in `COMMANDS`;
* a door, for ``python -m gcmpi.NAME``: a file ``gcmpi/NAME.py`` as ``gcmpi/sweep.py`` is, or
  ``__main__.py`` of the package with that name;
* the door's name in the second layer of the import contract in ``pyproject.toml``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from gcmpi.commands.parsing import Parser


@dataclass(frozen=True)
class Command:
    """One command; its modules are imported when they are asked for, and import nothing heavy.

    Attributes
    ----------
    options
        The module with ``parser()``, the command line.
    door
        The module with ``main(argv)``, which returns the exit status.
    """

    options: str
    door: str

    def parser(self) -> Parser:
        """Return the command line."""
        parser: Parser = importlib.import_module(self.options).parser()
        return parser

    def main(self, argv: list[str]) -> int:
        """Run the command; returns the exit status."""
        status: int = importlib.import_module(self.door).main(argv)
        return status


COMMANDS: Mapping[str, Command] = {
    "train": Command("gcmpi.commands.train.options", "gcmpi.commands.train.command"),
    "codes": Command("gcmpi.commands.codes.command_line", "gcmpi.commands.codes.command_line"),
    "sweep": Command("gcmpi.commands.sweep", "gcmpi.commands.sweep"),
}
