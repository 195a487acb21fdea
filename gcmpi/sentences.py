"""Pieces of the sentences that a person reads: why a file cannot be used, what was meant, how long.

This module imports nothing of gcmpi, and neither numpy nor MPI.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

# of an error number: a sentence that names the file, and one for where the file is named already
_REASONS: Mapping[int, tuple[str, str]] = {
    errno.ENOENT: ("there is no file {}", "there is no such file"),
    errno.EACCES: ("permission denied: {}", "permission denied"),
    errno.EPERM: ("permission denied: {}", "permission denied"),
    errno.EISDIR: ("{} is a directory", "it is a directory"),
    errno.ENOTDIR: (
        "{} cannot be there: a file stands where a directory is needed",
        "a file stands where a directory is needed",
    ),
    errno.EEXIST: ("{} exists already", "it exists already"),
    errno.ENAMETOOLONG: ("the name {} is too long", "the name is too long"),
    errno.ENOSPC: ("no space is left for {}", "no space is left"),
    errno.EROFS: ("{} is on a read-only file system", "it is on a read-only file system"),
    errno.ENOEXEC: ("{} is not a program", "it is not a program"),
}


def words(error: Exception, named: str | Path = "") -> str:
    """Return why a file cannot be used, without error numbers.

    Parameters
    ----------
    error
        Usually an OSError; the text of any other error is returned as it is.
    named
        The file that the sentence around this reason names already: the reason does not repeat it.
    """
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text in UTF-8"
    if not isinstance(error, OSError) or error.errno is None:
        text = str(error)
        return (
            text if "\n    " in text else " ".join(text.split())
        )  # indented lines are to be typed
    file = "" if error.filename is None else str(error.filename)
    with_name, without = _REASONS.get(error.errno, ("", ""))
    if not with_name:
        text = " ".join((error.strerror or "unknown error").split())
        return f"{text[:1].lower()}{text[1:]}"
    # h5py gives the number without the name
    return without if not file or file == str(named) else with_name.format(file)


def did_you_mean(word: str, possible: Iterable[str]) -> str:
    """Return `` (did you mean 'X'?)``, X being the most similar of `possible`; else nothing."""
    close = difflib.get_close_matches(word, list(possible), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def duration(seconds: float) -> str:
    """Return seconds as ``14 s``, ``3 min``, ``2 h`` or ``5 days``."""
    for unit, size, largest in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        count = round(seconds / size)
        if count < largest:
            return f"{count} {unit}"
    return f"{round(seconds / 86400)} days"


def left(began: float, now: float, done: int, of: int, between: str = ", ") -> str:
    """Return how far the work is, as in ``20 of 100, 14 s left``.

    Parameters
    ----------
    began, now
        Seconds on one clock: when the first step began, and when `done` steps were done.
    between
        What stands between the two parts.
    """
    seconds = (now - began) / max(done, 1) * (of - done)
    return f"{done} of {of}{between}{duration(seconds)} left"
