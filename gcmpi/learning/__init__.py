"""The problem: models, their gradients over subsets, data sets, mini-batches, optimizers.

`gcmpi.learning.torch` and `gcmpi.learning.jax` turn networks of these frameworks into problems.
They are loaded when they are first asked for, and import a framework only when it is used.
"""

from __future__ import annotations

import importlib

from gcmpi.learning.datasets import load
from gcmpi.learning.networks import Network, least_squares, logistic, mlp, softmax
from gcmpi.learning.problem import Problem, complete
from gcmpi.learning.rows import Dataset, given, made, partition, pieces, prepare, prepared
from gcmpi.learning.stored import AnyRows, StoredRows, in_memory

__all__ = [
    "AnyRows",
    "Dataset",
    "Network",
    "Problem",
    "StoredRows",
    "complete",
    "given",
    "in_memory",
    "least_squares",
    "load",
    "logistic",
    "made",
    "mlp",
    "partition",
    "pieces",
    "prepare",
    "prepared",
    "softmax",
]


def __getattr__(name: str) -> object:
    if name in ("jax", "torch"):
        return importlib.import_module(f"gcmpi.learning.{name}")
    raise AttributeError(f"module 'gcmpi.learning' has no attribute {name!r}")
