"""Models to train: what a problem has to have, its gradients over subsets, and mini-batches.

`gcmpi.learning.torch` and `gcmpi.learning.jax` turn networks of these frameworks into problems.
They are loaded when they are first asked for, and import a framework only when it is used.
"""

from __future__ import annotations

import importlib

from gcmpi.learning.problem import Problem, complete

__all__ = ["Problem", "complete"]


def __getattr__(name: str) -> object:
    if name in ("jax", "torch"):
        return importlib.import_module(f"gcmpi.learning.{name}")
    raise AttributeError(f"module 'gcmpi.learning' has no attribute {name!r}")
