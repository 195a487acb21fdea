"""gcmpi: an MPI benchmark suite for communication-efficient approximate gradient coding.

A program describes an experiment and runs it, over MPI (``mpirun -n 32 python mine.py``) or on a
virtual clock (``python mine.py``)::

    import gcmpi

    def mine(A, m, rng, epsilon=0.1):                # a code of your own: B (m k, n)
        return gcmpi.encodings.stacked(A, m) * rng.normal(1, epsilon, A.shape[1])

    code = gcmpi.Ensemble(gcmpi.assignments.projective_plane(5), m=2, encoding=mine)
    print(gcmpi.errors.curve(code, stragglers=range(9)))
    gcmpi.testing.check_encoding(mine)

    e = gcmpi.Experiment(code=code, problem="softmax", stragglers="markov:q=0.1")
    run = gcmpi.launch(e)                            # rank 0 gets the run, workers None
    if run:
        print(run, run.figures, run["loss"], run.theta)
        run.save("mine.h5")

A part is a text (``"projective-plane:order=5"``), the dotted name of your own
(``"mycodes.gaussian:epsilon=0.3"``), or the object itself.

=====================  ==========================================================================
`Experiment`           all that fixes a run
`launch`, `simulate`   run it over MPI, or in this process; both return a run with every column
`CodedLoop`            training in a loop and a framework of your own, on the workers only
`Ensemble`, `Code`     the codes that an encoding makes on an assignment; one of them
`assignments`          who holds what: one function a construction
`encodings`            what is sent: one function a construction
`decoders`             how answers are combined
`errors`, `bounds`     how much of the gradient is lost; what theorems say of it
`learning`             models of your own: numpy, torch, jax
`encoding`, ...        declare what your own encoding, assignment or decoder promises
`testing`              the laws for your own parts
=====================  ==========================================================================

Everything is loaded when it is first asked for: a command must be able to set the number of BLAS
threads before anything imports numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gcmpi import environment
from gcmpi.version import VERSION

if TYPE_CHECKING:
    from gcmpi import learning, testing
    from gcmpi.codes import assignments, bounds, decoders, encodings, errors
    from gcmpi.codes.code import Code
    from gcmpi.codes.ensemble import Ensemble
    from gcmpi.experiments.coded_loop import CodedLoop
    from gcmpi.experiments.experiment import Experiment
    from gcmpi.experiments.launch import launch, simulate
    from gcmpi.promises import assignment, decoder, encoding

__version__ = VERSION
__all__ = [
    "Code",
    "CodedLoop",
    "Ensemble",
    "Experiment",
    "__version__",
    "assignment",
    "assignments",
    "bounds",
    "decoder",
    "decoders",
    "encoding",
    "encodings",
    "errors",
    "launch",
    "learning",
    "simulate",
    "testing",
]
_HOMES = {
    "Code": "gcmpi.codes.code",
    "Ensemble": "gcmpi.codes.ensemble",
    "Experiment": "gcmpi.experiments.experiment",
    "CodedLoop": "gcmpi.experiments.coded_loop",
    "assignment": "gcmpi.promises",
    "decoder": "gcmpi.promises",
    "encoding": "gcmpi.promises",
    "launch": "gcmpi.experiments.launch",
    "simulate": "gcmpi.experiments.launch",
}
_MODULES = (
    "assignments",
    "bounds",
    "decoders",
    "encodings",
    "errors",
    "learning",
    "promises",
    "testing",
)


def _end_all(status: int) -> None:
    """End all ranks of the job."""
    importlib.import_module("gcmpi.cluster.mpi").World().abort(status)


def __getattr__(name: str) -> object:
    if name not in _HOMES and name not in _MODULES:
        raise AttributeError(f"module 'gcmpi' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"gcmpi.{name}")
    return getattr(importlib.import_module(_HOMES[name]), name)


environment.one_voice(_end_all)


def __dir__() -> list[str]:
    return sorted(__all__)
