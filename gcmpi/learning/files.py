"""Files of data: what is read, and how to convert what is not.

Arrays of .npz and IDX files are read here. Of a folder of .npy files or an HDF5 file only is said
where the arrays lie: whoever needs rows opens the file.
"""

from __future__ import annotations

import gzip
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.learning.checks import shapes
from gcmpi.learning.stored import Table, reason

PAIRS = (
    ("X", "y"),
    ("data", "labels"),
    ("data", "target"),
    ("images", "labels"),
    ("features", "labels"),
)
SPLIT = ("x_train", "y_train", "x_test", "y_test")
HDF5 = (".h5", ".hdf5", ".hdf")
TEXT = (".csv", ".tsv", ".txt")
PICKLE = (".pkl", ".pickle")
TORCH = (".pt", ".pth")
SUFFIXES = (
    ".npz",
    ".npy",
    ".gz",
    *HDF5,
    *TEXT,
    *PICKLE,
    *TORCH,
    ".mat",
    ".parquet",
    ".json",
    ".zip",
)
"""The ends of names that stand for files, never for something to import."""

Content = AnyArray | Table
Mixed = Mapping[str, Content]


def is_file_name(name: str) -> bool:
    """Say whether a text names a file: by a slash, by a file's suffix, or because it exists."""
    return "/" in name or Path(name).suffix.lower() in SUFFIXES or "-ubyte" in name or exists(name)


def exists(name: str) -> bool:
    """Say whether a text is the path of something that exists."""
    try:
        return bool(name) and Path(name).exists()
    except OSError:  # a text that is too long for a name
        return False


def pick(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names that are X, y or X_train, y_train, X_test, y_test; else nothing.

    Capital letters make no difference.
    """
    given = {name.lower(): name for name in names}
    for wanted in (SPLIT, *PAIRS):
        if all(name.lower() in given for name in wanted):
            return tuple(given[name.lower()] for name in wanted)
    return ()


def contents(path: str, labels: str = "") -> dict[str, Content]:
    """Return the two or four arrays of a data set, in the order of `pick`.

    Raises
    ------
    ValueError
        If the file cannot be used; the message says what to do.
    """
    source = Path(path)
    if source.is_dir():
        found: Mixed = _folder(source)
    else:
        require_file(source)
        suffix = source.suffix.lower()
        _refuse_other_kinds(source, suffix)
        if suffix == ".npz":
            found = _npz(source)
        elif suffix in HDF5:
            found = _hdf5(source)
        else:
            found = {"X": _idx(source)}
            beside = Path(labels) if labels else _labels_beside(source)
            require_file(beside)
            found = {**found, "y": _idx(beside)}
    names = pick(found)
    if not names:
        pairs = ", ".join(f"{X} and {y}" for X, y in PAIRS)
        raise ValueError(
            f"dataset {path} must hold arrays {pairs}, or {', '.join(SPLIT[:-1])} and {SPLIT[-1]}; "
            f"it has {shapes(found)}"
        )
    return {name: found[name] for name in names}


def require_file(path: Path) -> None:
    """Refuse a path that is no regular file.

    Raises
    ------
    ValueError
        If nothing is there, or something that cannot be read like a file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"there is no file {path}: give the path of a data set") from error
    except OSError as error:
        raise ValueError(f"cannot read dataset {path}: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no regular file: give the path of a data set")


def _refuse_other_kinds(path: Path, suffix: str) -> None:
    """Refuse files that have to be converted, with the two lines that do it."""
    target = str(path.with_suffix(".npz"))
    if suffix in PICKLE:
        raise ValueError(
            f"dataset {path} is a pickle, which may run any code when it is read; if you trust "
            "it, convert it:\n"
            f"    import numpy, pickle; data = pickle.load(open({str(path)!r}, 'rb'))\n"
            f"    numpy.savez({target!r}, X=data['X'], y=data['y'])"
        )
    if suffix in TORCH:
        raise ValueError(
            f"dataset {path} is a file of torch, which is not read: convert it:\n"
            f"    import numpy, torch; data = torch.load({str(path)!r}, weights_only=True)\n"
            f"    numpy.savez({target!r}, X=data['X'].numpy(), y=data['y'].numpy())"
        )
    if suffix in TEXT:
        comma = "delimiter=',', " if suffix == ".csv" else ""
        raise ValueError(
            f"dataset {path} is a text: convert it (here with one line of headings, and targets in "
            "the last column):\n"
            f"    import numpy; rows = numpy.loadtxt({str(path)!r}, {comma}skiprows=1)\n"
            f"    numpy.savez({target!r}, X=rows[:, :-1], y=rows[:, -1])"
        )
    if suffix == ".npy":
        raise ValueError(
            f"dataset {path} holds one array: give the folder with X.npy and y.npy, or save both "
            f"with numpy.savez({target!r}, X=X, y=y)"
        )
    if suffix in SUFFIXES and suffix not in (".npz", ".gz", *HDF5):
        raise ValueError(
            f"dataset {path} is a {suffix} file, which is not read: save its arrays with "
            f"numpy.savez({target!r}, X=X, y=y)"
        )


def _objects(path: Path) -> ValueError:
    target = str(path.with_name(f"{path.stem}-numbers.npz"))
    return ValueError(
        f"dataset {path} holds Python objects, whose pickle may run any code when it is read; if "
        "you trust it, convert it:\n"
        f"    import numpy; data = numpy.load({str(path)!r}, allow_pickle=True)\n"
        f"    numpy.savez({target!r}, X=numpy.array([*data['X']], float), "
        "y=numpy.array([*data['y']]))"
    )


def _npz(path: Path) -> dict[str, AnyArray]:
    """Read the arrays that are needed, or all of them if these are not there."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"cannot read dataset {path}: it is no .npz file, or a damaged one; write it with "
            "numpy.savez"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = pick(arrays.files) or arrays.files
            return {key: np.asarray(arrays[key]) for key in names}
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise _objects(path) from error
        raise ValueError(f"cannot read dataset {path} as .npz: {reason(error)}") from error


def _folder(path: Path) -> dict[str, Table]:
    """Return where the arrays of a folder of .npy files lie."""
    return {file.stem: _npy(file) for file in sorted(path.glob("*.npy")) if file.is_file()}


def _npy(path: Path) -> Table:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        if "Python objects" in str(error):
            raise ValueError(
                f"dataset {path} holds Python objects, whose pickle may run any code when it is "
                "read; if you trust it, convert it:\n"
                f"    import numpy; rows = numpy.load({str(path)!r}, allow_pickle=True)\n"
                f"    numpy.save({str(path)!r}, numpy.array([*rows], float))"
            ) from error
        raise ValueError(
            f"cannot read {path} as a .npy file: {reason(error)}; write it with numpy.save"
        ) from error
    return Table(str(path), "", array.shape, array.dtype)


def _hdf5(path: Path) -> dict[str, Table]:
    """Return where the data sets at the top of an HDF5 file lie."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {
                key: Table(str(path), key, item.shape, item.dtype)
                for key, item in file.items()
                if isinstance(item, h5py.Dataset) and item.shape is not None
            }
    except OSError as error:
        raise ValueError(
            f"cannot read dataset {path} as HDF5: it is another kind of file, damaged, or not "
            "yours to read"
        ) from error


def _labels_beside(images: Path) -> Path:
    if "images-idx3" not in images.name:
        raise ValueError(
            f"cannot tell where the labels of {images} are: give file:path=IMAGES,labels=LABELS "
            "for IDX files, or an .npz file"
        )
    return images.with_name(images.name.replace("images-idx3", "labels-idx1"))


def _idx(path: Path) -> AnyArray:
    """Read an IDX file of unsigned bytes: two zeros, type 8, the rank, the shape, the data."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read dataset {path}: {reason(error)}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"dataset {path} is not an IDX file of unsigned bytes, nor an .npz")
    rank = data[3]
    if len(data) < 4 + 4 * rank:
        raise ValueError(f"dataset {path} is cut short in its header")
    shape = np.frombuffer(data, ">u4", rank, 4).astype(int)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    if values.size != shape.prod():
        raise ValueError(f"dataset {path} is cut short: {values.size} of {shape.prod()} bytes")
    return values.reshape(shape)
