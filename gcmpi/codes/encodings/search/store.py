"""Encoding matrices that took a search or training: made once, found again by their content.

A matrix is looked up by a hash of what fixes it (the construction and its version, A, m and all
options), first in this process, then among the files that come with the package, then in
``$XDG_CACHE_HOME/gcmpi`` (``~/.cache/gcmpi``). A file that cannot be read is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.sentences import words

SHIPPED = Path(__file__).parent / "data"
"""The encoding matrices that come with the package; `ship` beside this file makes them."""
KEPT = 64
"""Matrices remembered in a process."""
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)

_known: dict[str, Array] = {}


def key(construction: str, A: AnyArray, m: int, **options: int | float | str) -> str:
    """Return the hash of a construction with its version, its assignment, m and options."""
    head = json.dumps([construction, A.shape, m, sorted(options.items())])
    ones = np.packbits(np.asarray(A, dtype=np.uint8)).tobytes()
    return hashlib.sha256(head.encode() + ones).hexdigest()[:32]


def directory() -> Path:
    """Return the user's cache directory."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gcmpi"


def find_or_make(name: str, A: AnyArray, m: int, make: Callable[[], Array]) -> Array:
    """Return the encoding matrix called `name` (a `key`), made and stored if there is none.

    Returns
    -------
    B : (m * k, n), read-only; the same array at every call in a process
    """
    B = _known.pop(name, None)
    if B is None:
        B = read(SHIPPED / f"{name}.npz", A, m)
    if B is None:
        B = read(directory() / f"{name}.npz", A, m)
    if B is None:
        B = make()
        write(directory() / f"{name}.npz", B)
    B.flags.writeable = False
    _known[name] = B  # most recent last
    if len(_known) > KEPT:
        del _known[next(iter(_known))]
    return B


def read(path: Path, A: AnyArray, m: int) -> Array | None:
    """Return the encoding matrix in a file; None if there is no file or it is damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            B: Array = file["B"]
    except UNREADABLE as error:
        print(f"gcmpi: {path} cannot be read ({words(error, path)}); made anew", file=sys.stderr)
        return None
    k, n = A.shape
    fits = B.shape == (m * k, n) and B.dtype == np.float64 and np.isfinite(B).all()
    if not fits or B.reshape(m, k, n)[:, A == 0].any():
        print(f"gcmpi: {path} does not fit the assignment; made anew", file=sys.stderr)
        return None
    return B


def write(path: Path, B: Array) -> None:
    """Write a file in one step: a reader finds the whole file or none.

    A directory that cannot be written costs only time at the next start, so the user is
    told, and nothing is raised.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez_compressed(file, B=B)
        Path(file.name).replace(path)
    except OSError as error:
        print(f"gcmpi: the code is not kept for the next start: {words(error)}", file=sys.stderr)
