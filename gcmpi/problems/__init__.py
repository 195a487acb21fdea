"""Losses with subset gradients, and the data sets that they are trained on."""

from gcmpi.learning.problem import Problem
from gcmpi.problems.datasets import load
from gcmpi.problems.models import Network, least_squares, logistic, mlp, softmax
from gcmpi.problems.rows import Dataset, given, made, partition, pieces, prepare, prepared
from gcmpi.problems.stored import AnyRows, StoredRows, in_memory

__all__ = [
    "AnyRows",
    "Dataset",
    "Network",
    "Problem",
    "StoredRows",
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
