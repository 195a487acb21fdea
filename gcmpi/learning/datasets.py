"""The data sets by name: what ships with the package, what is drawn, and what lies in a file."""

from __future__ import annotations

import math
import re
from importlib import resources
from typing import Literal

import numpy as np

from gcmpi.learning import checks, files
from gcmpi.learning.assembly import assemble, complete, from_value
from gcmpi.learning.rows import Dataset, partition, prepare
from gcmpi.learning.stored import Table
from gcmpi.registry import DATASETS, Spec

__all__ = [
    "Dataset",
    "canonical",
    "complete",
    "file",
    "from_value",
    "load",
    "mixture",
    "mnist_10k",
    "partition",
    "prepare",
]


def load(spec: Spec | str, rng: np.random.Generator) -> Dataset:
    """Load a data set by its name, ``name:options`` or the path of a file.

    Raises
    ------
    ValueError
        If the name is unknown or the file cannot be used; the message says why.
    """
    dataset: Dataset = DATASETS.build(spec, rng=rng)
    return dataset


def canonical(text: str) -> str:
    """Return ``file:path=...`` for a file, and any other text as it is.

    A text names a file if it has a slash or a file's suffix, or if the file exists; options may
    follow behind a comma or a colon. A name of the registry is never a file.
    """
    name = re.split("[:,]", text, maxsplit=1)[0]
    options = text[len(name) + 1 :]
    if name in {part.name for part in DATASETS}:
        return text
    if files.exists(text) or (files.is_file_name(name) and "=" not in options):
        return f"file:path={text}"
    return f"file:path={name},{options}" if files.is_file_name(name) else text


@DATASETS.register("mnist-10k")
def mnist_10k(
    rng: np.random.Generator,
    test: int = 2000,
    by_label: bool = False,
    standardise: bool = False,
    components: int = 0,
) -> Dataset:
    """10,000 real MNIST digits that ship with the package; 8,000 to train, 2,000 to test.

    With ``by_label`` the training rows are sorted, so that subsets are as different as can be;
    with ``standardise`` every pixel has mean 0 and standard deviation 1; with ``components=30``
    a row is its first 30 principal components (`Dataset.principal`).

    References
    ----------
    LeCun, Cortes and Burges, *The MNIST database of handwritten digits* (CC BY-SA 3.0).
    """
    with resources.as_file(resources.files(__package__) / "data" / "mnist-10k.npz") as path:
        arrays = np.load(path)
        with checks.naming("mnist-10k"):
            digits, _ = assemble({key: arrays[key] for key in ("X", "y")}, rng, test=test)
    return _arranged(digits, by_label=by_label, standardise=standardise, components=components)


@DATASETS.register("mixture", {"rows": 200, "features": 5})
def mixture(
    rng: np.random.Generator, rows: int = 10000, features: int = 100, standardise: bool = False
) -> Dataset:
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
    with checks.naming("mixture"):
        drawn, _ = assemble({"X": X, "y": y}, rng)
    return _arranged(drawn, standardise=standardise)


@DATASETS.register("file")
def file(
    rng: np.random.Generator,
    path: str,
    labels: str = "",
    by_label: bool = False,
    standardise: bool = False,
    regression: bool = False,
    where: Literal["server", "worker"] = "server",
    components: int = 0,
) -> Dataset:
    """Read an .npz, HDF5 or MNIST-format IDX file (gzip or not), or a folder of .npy files.

    The file holds X and y (one fifth is kept for testing), or x_train, y_train, x_test, y_test.
    For IDX, `path` has the images; the labels are in `labels`, or in the file whose name has
    labels-idx1 in place of images-idx3. With ``by_label`` the training rows are sorted, with
    ``standardise`` every feature has mean 0 and standard deviation 1, with ``components`` a row is
    so many principal components, with ``regression`` y is taken for numbers even where they are
    whole. With ``where=worker`` every worker opens the folder or the HDF5 file and reads its own
    rows.

    Raises
    ------
    ValueError
        If the file cannot be read or does not hold what is needed.
    """
    content = files.contents(path, labels)
    if where == "server":
        content = {
            key: item.read() if isinstance(item, Table) else item for key, item in content.items()
        }
    elif not all(isinstance(item, Table) for item in content.values()):
        raise ValueError(
            f"where=worker needs an HDF5 file or a folder of .npy files, not {path}: make a folder "
            "of an .npz file with python -m zipfile -e data.npz data"
        )
    with checks.naming(path):
        rows, warning = assemble(content, rng, regression=regression)
    if warning and not standardise and not components:
        checks.warn(f"dataset {path} {warning} (standardise=true)")
    return _arranged(rows, by_label=by_label, standardise=standardise, components=components)


def _arranged(
    data: Dataset, *, by_label: bool = False, standardise: bool = False, components: int = 0
) -> Dataset:
    data = data.by_label() if by_label else data
    data = data.standardised() if standardise else data
    return data.principal(components) if components else data
