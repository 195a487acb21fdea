"""The data sets: rows, labels, a split into training and test rows, and the k subsets."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import math
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gcmpi.code import AnyArray
from gcmpi.registry import DATASETS


@dataclass(frozen=True)
class Dataset:
    """Labelled rows, shuffled or by label.

    Attributes
    ----------
    X : (N, p)
        Training rows; integers (pixels) are divided by 255 when they are used.
    y : (N,)
        Labels 0 to classes - 1.
    X_test, y_test
        Rows that no worker sees.
    classes
        The number of classes.
    """

    X: AnyArray
    y: AnyArray
    X_test: AnyArray
    y_test: AnyArray
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return tuple(self.X.shape[1:])

    @property
    def features(self) -> int:
        """The length of a row."""
        return int(self.X.shape[1])

    def by_label(self) -> Dataset:
        """Return the data set with the training rows sorted by label.

        A subset then has rows of one or two labels only, and subset gradients differ as much as
        they can: what a code loses weighs more than with shuffled rows.
        """
        order = np.argsort(self.y, kind="stable")
        return dataclasses.replace(self, X=self.X[order], y=self.y[order])


def load(text: str, rng: np.random.Generator) -> Dataset:
    """Load a data set by its name, ``name:options`` or the path of a file.

    Raises
    ------
    ValueError
        If the name is unknown or the file cannot be used; the message says why.
    """
    dataset: Dataset = DATASETS.build(text, rng=rng)
    return dataset


def canonical(text: str) -> str:
    """Return ``file:path=...`` for the bare path of a file, and any other text as it is."""
    name = text.partition(":")[0]
    is_path = "/" in name or Path(name).suffix in (".npz", ".gz") or "-ubyte" in name
    return f"file:path={text}" if is_path else text


def partition(rows: int, k: int) -> list[slice]:
    """Cut `rows` training rows into k consecutive subsets whose sizes differ by at most one.

    Nothing is left out, so that the full gradient is the same for every code.

    Raises
    ------
    ValueError
        If there are fewer rows than subsets.
    """
    if rows < k:
        raise ValueError(f"{k} subsets need at least {k} training rows, not {rows}")
    bounds = [rows * j // k for j in range(k + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def prepare(X: AnyArray, dtype: npt.DTypeLike) -> AnyArray:
    """Return rows as floating-point numbers; integers are taken for pixels, 0 to 255."""
    dtype = np.dtype(dtype)
    rows: AnyArray = X.astype(dtype)
    if np.issubdtype(X.dtype, np.integer):
        rows /= dtype.type(255)
    return rows


@DATASETS.register("mnist-10k")
def mnist_10k(rng: np.random.Generator, test: int = 2000, by_label: bool = False) -> Dataset:
    """10,000 real MNIST digits that ship with the package; 8,000 to train, 2,000 to test.

    With ``by_label`` the training rows are sorted, so that subsets are as different as can be.

    References
    ----------
    LeCun, Cortes and Burges, *The MNIST database of handwritten digits* (CC BY-SA 3.0).
    """
    with resources.as_file(resources.files(__package__) / "data" / "mnist-10k.npz") as path:
        arrays = np.load(path)
        digits = _split("mnist-10k", arrays["X"], arrays["y"], test, rng)
    return digits.by_label() if by_label else digits


@DATASETS.register("mixture", {"rows": 200, "features": 5})
def mixture(rng: np.random.Generator, rows: int = 10000, features: int = 100) -> Dataset:
    """Two Gaussians and logistic labels, one fifth of them for testing.

    Rows are normal with standard deviation 10/sqrt(p) around ±1.5/p beta, beta in {±1}^p, the
    sign drawn for each row; a label is 1 with probability sigmoid(x' beta).

    References
    ----------
    Tandon et al., *Gradient Coding*, ICML 2017, section 5.
    """
    if rows < 10 or features < 1:
        raise ValueError(
            f"dataset mixture needs rows >= 10 and features >= 1, not rows={rows}, "
            f"features={features}"
        )
    beta = rng.choice(np.array([-1.0, 1.0]), features)
    sign = rng.choice(np.array([-1.0, 1.0]), (rows, 1))
    X = rng.normal(sign * 1.5 / features * beta, 10 / math.sqrt(features))
    y = (rng.random(rows) < 1 / (1 + np.exp(-np.clip(X @ beta, -500, 500)))).astype(np.uint8)
    return _split("mixture", X, y, rows // 5, rng)


@DATASETS.register("file")
def file(rng: np.random.Generator, path: str, labels: str = "", by_label: bool = False) -> Dataset:
    """Read an .npz file or MNIST-format IDX files (gzip or not).

    An .npz holds X and y (one fifth is kept for testing), or x_train, y_train, x_test, y_test.
    For IDX, `path` has the images; the labels are in `labels`, or in the file whose name has
    labels-idx1 in place of images-idx3. One fifth is kept for testing. With ``by_label`` the
    training rows are sorted.

    Raises
    ------
    ValueError
        If the file cannot be read or does not hold what is needed.
    """
    source = Path(path)
    if source.suffix == ".npz":
        arrays = _read_npz(source)
    else:
        X = _read_idx(source)
        y = _read_idx(Path(labels) if labels else _labels_beside(source))
        arrays = {"X": X, "y": y}
    rows = _from_arrays(path, arrays, rng)
    return rows.by_label() if by_label else rows


def _from_arrays(name: str, arrays: dict[str, AnyArray], rng: np.random.Generator) -> Dataset:
    lower = {key.lower(): value for key, value in arrays.items()}
    if {"x_train", "y_train", "x_test", "y_test"} <= lower.keys():
        X, y = _check(name, lower["x_train"], lower["y_train"])
        X_test, y_test = _check(name, lower["x_test"], lower["y_test"])
        order = rng.permutation(len(X))
        return Dataset(X[order], y[order], X_test, y_test, int(max(y.max(), y_test.max())) + 1)
    if {"x", "y"} <= lower.keys():
        return _split(name, lower["x"], lower["y"], len(lower["y"]) // 5, rng)
    raise ValueError(
        f"dataset {name} must hold arrays X and y, or x_train, y_train, x_test and y_test; "
        f"it has {', '.join(arrays) or 'none'}"
    )


def _split(name: str, X: AnyArray, y: AnyArray, test: int, rng: np.random.Generator) -> Dataset:
    """Shuffle and set `test` rows aside."""
    X, y = _check(name, X, y)
    if not 0 < test < len(X):
        raise ValueError(f"dataset {name} has {len(X)} rows: test must be 1 to {len(X) - 1}")
    order = rng.permutation(len(X))
    train, held_out = order[test:], order[:test]
    return Dataset(X[train], y[train], X[held_out], y[held_out], int(y.max()) + 1)


def _check(name: str, X: AnyArray, y: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Flatten rows and make labels whole numbers from 0 on."""
    X = X.reshape(len(X), -1) if X.ndim > 1 else X
    y = y.ravel()
    if X.ndim != 2 or len(X) != len(y) or not len(y):
        raise ValueError(f"dataset {name}: X {X.shape} and y {y.shape} must have the same rows")
    if not np.isfinite(X).all():
        raise ValueError(f"dataset {name}: X must be finite")
    whole = y.astype(np.int64)
    if (whole != y).any() or whole.min() < 0 or whole.max() < 1:
        raise ValueError(f"dataset {name}: labels must be 0, 1, ... for at least two classes")
    return X, whole


def _labels_beside(images: Path) -> Path:
    if "images-idx3" not in images.name:
        raise ValueError(
            f"cannot tell where the labels of {images} are: give file:path=IMAGES,labels=LABELS"
        )
    return images.with_name(images.name.replace("images-idx3", "labels-idx1"))


def _read_npz(path: Path) -> dict[str, AnyArray]:
    try:
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        # numpy takes whatever is no zip file for an array or a pickle
        raise ValueError(f"cannot read dataset {path} as .npz: {error}") from error


def _read_idx(path: Path) -> AnyArray:
    """Read an IDX file of unsigned bytes: two zeros, type 8, the rank, the shape, the data."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot read dataset {path}: {error}") from error
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
