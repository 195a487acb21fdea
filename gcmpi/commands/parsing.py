"""Command lines: one sentence for what is wrong, help in groups, complaints on standard error.

Every command makes its command line of `Parser` and hands its errors to `complain`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import traceback as tracebacks
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gcmpi import environment
from gcmpi.sentences import did_you_mean, words

WIDTH = 100
"""No line of help is longer, however wide the terminal is."""
NUMBER = re.compile(r"-(\d+|\d*\.\d+)(e[+-]?\d+)?")
TRACEBACK = "--traceback"


def prog(command: str = "") -> str:
    """Return how the command was started: ``gcmpi train`` or ``python -m gcmpi.train``."""
    started = Path(sys.argv[0])
    if started.stem == "gcmpi" and started.suffix in ("", ".exe"):
        return f"gcmpi {command}".rstrip()
    if started.name == "__main__.py" and started.parent.name == "gcmpi":
        return f"python -m gcmpi {command}".rstrip()
    return f"python -m gcmpi.{command}" if command else "python -m gcmpi"


class Layout(argparse.RawDescriptionHelpFormatter):
    """Help whose description and epilog keep their lines, and no line is longer than `WIDTH`."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns - 2, WIDTH)
        super().__init__(prog, max_help_position=28, width=width)


class Parser(argparse.ArgumentParser):
    """A command line whose errors are ValueErrors of one sentence: one rank speaks for all.

    Parameters
    ----------
    summary
        What the command does, in one line.
    about
        What else a user should know before the options; lines are kept.
    examples
        Command lines, each with what it shows; ``{prog}`` stands for the name of the command.
    exits
        Exit statuses and what they mean.
    notes
        What stands between the options and the examples; lines are kept.
    """

    def __init__(
        self,
        prog: str | None = None,
        *,
        summary: str = "",
        about: str = "",
        notes: str = "",
        examples: Iterable[tuple[str, str]] = (),
        exits: Sequence[tuple[int, str]] = (),
        **others: Any,
    ) -> None:
        self.summary = summary
        if summary:
            others["description"] = f"{summary}\n\n{about}".rstrip()
        others = {"allow_abbrev": False, "formatter_class": Layout, **others}
        super().__init__(prog, **others)
        self.epilog = self.epilog or _epilog(self.prog, notes, examples, exits) or None

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(f"{message} (--help lists the options)")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, but say first which option does not exist.

        Raises
        ------
        ValueError
            For an option that does not exist, with a guess what was meant.
        """
        given = list(sys.argv[1:] if args is None else args)
        own = given[: given.index("--")] if "--" in given else given
        if self._subparsers is not None:  # what follows the name of a subcommand is not ours
            own = own[: next((i for i, word in enumerate(own) if not _option(word)), len(own))]
        for word in filter(_option, own):
            name = word.partition("=")[0]
            if name not in self._option_string_actions:
                hint = did_you_mean(name, self._option_string_actions)
                where = "" if self._subparsers is None else "options follow the command, "
                raise ValueError(f"unknown option {name}{hint}: {where}--help lists the options")
        return super().parse_known_args(given, namespace)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all words.

        Raises
        ------
        ValueError
            For a word that belongs to no option, and for all that argparse refuses.
        """
        options, more = self.parse_known_args(args, namespace)
        if more:
            raise ValueError(
                f"{more[0]!r} belongs to no option: options are --name VALUE; --help lists them"
            )
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is not among the choices, with a guess what was meant."""
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), names)
            what = str(action.metavar or action.dest).lower()
            raise ValueError(f"unknown {what} {value!r}{hint}; choose one of {', '.join(names)}")


def _option(word: str) -> bool:
    """Say whether argparse takes a word for an option."""
    return word[:1] == "-" and len(word) > 1 and " " not in word and not NUMBER.fullmatch(word)


def _epilog(
    prog: str, notes: str, examples: Iterable[tuple[str, str]], exits: Sequence[tuple[int, str]]
) -> str:
    blocks = [notes.strip()] if notes else []
    shown = [f"  {line.format(prog=prog)}\n      {what}" for line, what in examples]
    if shown:
        blocks.append("\n".join(["examples:", *shown]))
    if exits:
        lines = [f"  {status:<3} {meaning}" for status, meaning in exits]
        blocks.append("\n".join(["exit status:", *lines]))
    return "\n\n".join(blocks)


def add_traceback(parser: Any, default: Any = False) -> None:
    """Add ``--traceback`` to a parser or to one of its groups."""
    parser.add_argument(
        TRACEBACK,
        action="store_true",
        default=default,
        help="with an error, show its traceback too",
    )


def complain(prog: str, error: Exception | str, traceback: bool = False) -> None:
    """Say on standard error, in one line, what is wrong; of many ranks, the first one speaks.

    Parameters
    ----------
    prog
        What `prog` gave for the command; ``python -m gcmpi.train`` speaks as ``gcmpi.train``.
    error
        What is wrong.
    traceback
        Whether the traceback of `error`, and of the exceptions that led to it, comes first.
    """
    if environment.launched()[0] != 0:
        return
    if traceback and isinstance(error, Exception):
        tracebacks.print_exception(error, file=sys.stderr)
    text = words(error) if isinstance(error, Exception) else " ".join(error.split())
    if isinstance(error, MemoryError):
        text = f"this does not fit into memory, choose smaller numbers: {text}".rstrip(": ")
    print(f"{prog.removeprefix('python -m ')}: {text}", file=sys.stderr, flush=True)


def refuse_ranks(prog: str) -> bool:
    """Say, by one rank, that a command is not for many ranks; returns whether there are many."""
    rank, ranks = environment.launched()
    if ranks > 1 and rank == 0:
        complain(prog, f"this command runs in one process: leave out mpirun -n {ranks}")
    return ranks > 1


def announce(what: str = "") -> None:
    """Say on standard error that the work starts, before anything slow is imported.

    One process speaks for all that a launcher started. Where it is not known how many there are,
    and nothing is told in `what`, nothing is said.

    Parameters
    ----------
    what
        Who starts; by default the ranks that the launcher promises.
    """
    rank, ranks = environment.launched()
    if rank == 0 and (what or ranks > 1):
        print(f"# {what or f'{ranks} ranks'}, starting", file=sys.stderr, flush=True)
