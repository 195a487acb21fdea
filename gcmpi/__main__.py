"""All commands behind one name: ``gcmpi train``, ``gcmpi codes``, ``gcmpi sweep``.

``python -m gcmpi`` is the same. Under a launcher every rank runs this, one of them speaks.
"""

from __future__ import annotations

import contextlib
import io
import sys

import gcmpi
from gcmpi import environment
from gcmpi.commands.completion import SHELLS, script
from gcmpi.commands.parsing import Parser, complain, prog
from gcmpi.commands.table import COMMANDS

OK, USAGE = 0, 2
NOTES = """\
{prog} COMMAND --help shows the options of a command and its examples.
python -m gcmpi.COMMAND does the same as {prog} COMMAND."""


def parser(name: str) -> Parser:
    """Return the command line that lists the commands, with all options of theirs."""
    p = Parser(
        name,
        summary="An MPI benchmark suite for communication-efficient approximate gradient coding.",
        notes=NOTES.format(prog=name),
        examples=(
            ("mpirun -n 32 {prog} train", "the main job: one server, 31 workers"),
            ("{prog} codes list", "assignments, encodings and decoders"),
            ("{prog} sweep jobs/figure6.toml", "competitors on the same seeds, one table"),
            ('eval "$(gcmpi --print-completion bash)"', "complete commands, options and names"),
        ),
        usage=f"{name} COMMAND [OPTIONS]",
    )
    p.add_argument("--version", action="version", version=f"gcmpi {gcmpi.__version__}")
    p.add_argument(
        "--print-completion",
        choices=SHELLS,
        metavar="SHELL",
        help=f"print a script for {' or '.join(SHELLS)} that completes what is typed",
    )
    commands = p.add_subparsers(title="commands", metavar="COMMAND", dest="command", prog=name)
    for command, of in COMMANDS.items():
        own = of.parser()
        commands.add_parser(command, help=own.summary, parents=[own], add_help=False)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    environment.one_blas_thread()
    environment.working_directory_on_path()
    words = sys.argv[1:] if argv is None else argv
    command = COMMANDS.get(words[0]) if words else None
    if command is not None and not {"-h", "--help"} & set(words):
        return command.main(words[1:])
    heard = None if environment.launched()[0] == 0 else io.StringIO()
    with contextlib.redirect_stdout(heard or sys.stdout):
        return _answer(words) if command is None else command.main(words[1:])


def _answer(words: list[str]) -> int:
    """List the commands, print a completion script, or refuse."""
    p = parser(prog())
    try:
        shell = p.parse_args(words).print_completion
        if shell is None:
            p.print_help()
        else:
            print(script(parser("gcmpi"), shell))
    except ValueError as error:
        complain(prog(), error)
        return USAGE
    return OK


if __name__ == "__main__":
    sys.exit(main())
