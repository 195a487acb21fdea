"""Parts that users bring: found by a dotted name, blamed by file and line, known by their content.

A name with a dot, ``mycodes.gaussian``, is imported, with the working directory on the path. What
goes wrong in a user's code is told in one sentence, with the module, the cause, the file and the
line. Of every own part the run file keeps module, file and SHA-256, so that a replay notices
another content. Nothing is ever imported from a folder that only a run file names.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from gcmpi import environment
from gcmpi.sentences import did_you_mean

SUFFIXES = (
    ".npz", ".npy", ".csv", ".tsv", ".txt", ".gz", ".h5", ".hdf5", ".toml", ".json", ".pkl",
    ".pickle", ".pt", ".py",
)  # fmt: skip
"""A text that ends so is the name of a file, not of a module."""
SCRIPT = "__main__"


class OwnPartError(ValueError):
    """A user's part cannot be used; the message is one sentence with module and cause."""


class NotFoundError(OwnPartError):
    """A user's part cannot be found.

    Attributes
    ----------
    name
        Its dotted name.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Source:
    """Where an own part comes from.

    Attributes
    ----------
    module
        The module; ``__main__`` for a script, empty for a data file.
    file
        The path of its file; empty where there is none, as in an interactive session.
    sha256
        Of the file's content, in hexadecimal digits; empty without a file.
    """

    module: str
    file: str
    sha256: str

    @classmethod
    def of(cls, module: str) -> Source:
        """Return the source of a module that has been imported."""
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or not Path(file).is_file():
            return cls(module, "", "")
        path = Path(file).resolve()
        return cls(module, str(path), hashlib.sha256(path.read_bytes()).hexdigest())


LARGEST = 1 << 29
"""Bytes up to which the content of a data file is looked at."""


def data_source(path: str) -> Source | None:
    """Return where the data of a file come from; None for folders and very large files."""
    file = Path(path)
    if not file.is_file() or file.stat().st_size > LARGEST:
        return None
    return _data_source(str(file.resolve()), file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _data_source(path: str, modified: int) -> Source:  # noqa: ARG001 - a part of the key
    """Read a file once as long as it is not modified."""
    return Source("", path, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def is_dotted(name: str) -> bool:
    """Say whether a name is the dotted name of something that can be imported.

    A text with a slash, with the suffix of a file, or that names an existing file is a file;
    numbers such as 0.1 are numbers.
    """
    pieces = name.split(".")
    if len(pieces) < 2 or not all(piece.isidentifier() for piece in pieces):
        return False
    return not is_file(name)


def is_scripts(name: str) -> bool:
    """Say whether a name is of what a script has made, ``__main__.NAME``."""
    return name.partition(".")[0] in (SCRIPT, "__mp_main__") and "." in name


def is_file(name: str) -> bool:
    """Say whether a text is the name of a file rather than of a part."""
    return "/" in name or name.lower().endswith(SUFFIXES) or Path(name).is_file()


def find(name: str, what: str) -> tuple[object, str]:
    """Import what a dotted name stands for; returns it and the module that holds it.

    Parameters
    ----------
    name
        Module and attribute, ``package.module.function``.
    what
        What to call it in messages, ``encoding mycodes.gaussian``.

    Raises
    ------
    NotFoundError
        If there is no such module or attribute.
    OwnPartError
        If importing the module raises.
    """
    if is_scripts(name):
        raise NotFoundError(
            f"{what} was made in a script and has no name that can be imported: run that script "
            "again, or make it with a function of a module and name that (mymodule.function)",
            name,
        )
    environment.working_directory_on_path()
    module, attributes = _module(name, what)
    value: object = module
    for depth, attribute in enumerate(attributes):
        if not hasattr(value, attribute):
            where = ".".join([module.__name__, *attributes[:depth]])
            raise NotFoundError(
                f"{what}: {where} ({getattr(module, '__file__', None) or 'no file'}) has no "
                f"{attribute!r}{did_you_mean(attribute, dir(value))}",
                name,
            )
        value = getattr(value, attribute)
    return value, module.__name__


def _module(name: str, what: str) -> tuple[ModuleType, list[str]]:
    """Import the longest part of a dotted name that is a module; return it and the rest."""
    pieces = name.split(".")
    for count in range(len(pieces) - 1, 0, -1):
        module = ".".join(pieces[:count])
        with blame(what, f"cannot import {module}"):
            try:
                return importlib.import_module(module), pieces[count:]
            except ModuleNotFoundError as error:
                # a module that the user's own module lacks is the user's error, told by `blame`
                missing = error.name or ""
                if not f"{module}.".startswith(f"{missing}."):
                    raise
    raise NotFoundError(
        f"{what}: there is no module {pieces[0]!r} in the working directory or on PYTHONPATH"
        + ("" if len(pieces) == 2 else f" that has {'.'.join(pieces[1:])}"),
        name,
    )


@contextlib.contextmanager
def blame(what: str, doing: str = "") -> Iterator[None]:
    """Turn whatever a user's code raises into one sentence that names it.

    Parameters
    ----------
    what
        The part, ``encoding mycodes.gaussian``.
    doing
        What was being done; what was raised follows in the sentence.

    Raises
    ------
    OwnPartError
        With the cause, and the file and line of the user's code; the exception is its cause.
    """
    try:
        yield
    except OwnPartError:
        raise
    except (Exception, SystemExit) as error:
        place = _place(error)
        if isinstance(error, ValueError) and not place:  # this package refuses what it was given
            text = re.sub(
                rf"^{re.escape(what.split(maxsplit=1)[0])} \S+( needs|:)", r"\1", str(error)
            )
            text = text.removeprefix(":").strip()
            between = " " if text.startswith(("must ", "needs ", "gives ", "has ")) else ": "
            raise OwnPartError(f"{what}{between}{text}") from error
        cause = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
        raise OwnPartError(
            f"{what} {doing or 'raised'}{': ' if doing else ' '}{cause}{place}"
        ) from error


def _place(error: BaseException) -> str:
    """Return where the user's code raised, `` (mycodes.py, line 7)``; empty if it did not."""
    if isinstance(error, SyntaxError) and error.filename:  # the text of the error says it
        return ""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_users(frame)
    ]
    return f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""


def _is_users(frame: FrameType) -> bool:
    """Say whether a frame is of a user's file: not of this package, nor of an installed one."""
    file = Path(frame.f_code.co_filename)
    ours = Path(__file__).parent
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    standard = Path(contextlib.__file__).parent in file.parents
    return file.is_file() and ours not in file.parents and not installed and not standard
