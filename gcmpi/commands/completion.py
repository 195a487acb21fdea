"""Completion in shells: options, subcommands, files, and the names of registered parts."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator

SHELLS = ("bash", "zsh")
FILES = ("FILE", "RUN")
"""What stands for a file in a command line; DIR stands for a directory."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script of a command line.

    What completes follows from the metavar: a file for FILE and RUN, a directory for DIR, the
    registered names for PART, the values of the setting for TYPE and HOW.

    Raises
    ------
    ValueError
        If shtab is missing.
    """
    try:
        import shtab
    except ImportError as error:
        raise ValueError(
            "--print-completion needs shtab: pip install 'gcmpi[completion]' (or shtab alone)"
        ) from error

    functions: dict[str, str] = {}
    for action in _actions(parser):
        if action.metavar in FILES:
            _completes(action, shtab.FILE)
        elif action.metavar == "DIR":
            _completes(action, shtab.DIRECTORY)
        elif names := _names(action):
            function = f"_gcmpi_{action.dest}"
            functions[function] = f"""{function}() {{ compgen -W '{" ".join(names)}' -- "$1"; }}"""
            _completes(action, {"bash": function, "zsh": f"({' '.join(names)})"})
    preamble = "\n".join(functions.values()) if shell == "bash" else ""
    return str(shtab.complete(parser, shell, preamble=preamble))


def _completes(action: argparse.Action, how: object) -> None:
    """Tell shtab how the value of an option completes."""
    action.complete = how  # type: ignore[attr-defined]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all options and arguments of a command line, subcommands' too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action


def _names(action: argparse.Action) -> list[str]:
    """Return the words that may stand for a part or a type; none for other options."""
    from gcmpi.experiments.experiment import Experiment
    from gcmpi.registry import REGISTRIES

    if action.metavar == "PART" and action.dest in REGISTRIES:
        return [part.name for part in REGISTRIES[action.dest]]
    if action.metavar in ("TYPE", "HOW"):
        return [str(x) for x in typing.get_args(typing.get_type_hints(Experiment)[action.dest])]
    return []
