"""Losses with subset gradients, and the data sets that they are trained on."""

from gcmpi.learning.problem import Problem
from gcmpi.problems.datasets import load
from gcmpi.problems.models import Network, least_squares, logistic, mlp, softmax
from gcmpi.problems.rows import Dataset, made_targets, partition, pieces, prepare, prepared
from gcmpi.problems.stored import Rows, StoredRows, in_memory

__all__ = [
    "Dataset",
    "Network",
    "Problem",
    "Rows",
    "StoredRows",
    "in_memory",
    "least_squares",
    "load",
    "logistic",
    "made_targets",
    "mlp",
    "partition",
    "pieces",
    "prepare",
    "prepared",
    "softmax",
]
