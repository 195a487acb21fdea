"""gcmpi: an MPI benchmark suite for communication-efficient approximate gradient coding.

`Code` is loaded when it is first asked for: a command must be able to set the number of BLAS
threads before anything imports numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcmpi.code import Code

__version__ = "0.1.0"
__all__ = ["Code", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Code":
        from gcmpi.code import Code

        return Code
    raise AttributeError(f"module 'gcmpi' has no attribute {name!r}")
