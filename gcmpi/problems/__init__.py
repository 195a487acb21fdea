"""Losses with subset gradients, and the data sets that they are trained on."""

from gcmpi.learning.problem import Problem
from gcmpi.problems.datasets import Dataset, load, partition, prepare
from gcmpi.problems.models import Network, least_squares, logistic, mlp, softmax

__all__ = [
    "Dataset",
    "Network",
    "Problem",
    "least_squares",
    "load",
    "logistic",
    "mlp",
    "partition",
    "prepare",
    "softmax",
]
