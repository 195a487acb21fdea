"""The layers hold: mathematics never hears of MPI, workers load numpy and mpi4py only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "gcmpi").rglob("*.py")
)


def test_import_linter():
    command = Path(sys.executable).parent / "lint-imports"
    assert command.exists() or shutil.which("lint-imports")
    done = subprocess.run(
        [str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_only_the_transport_loads_mpi(alone: Run):
    transport = ("gcmpi.cluster.mpi",)
    quiet = [module for module in MODULES if module not in transport]
    assert len(quiet) > 25
    script = "import sys\n" + "".join(f"import {module}\n" for module in quiet)
    done = alone("-c", script + "assert 'mpi4py' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("heavy", ["scipy", "h5py", "networkx", "flint", "matplotlib", "xarray"])
def test_workers_load_nothing_heavy(alone: Run, heavy):
    """What a worker imports, and what it uses when a run starts."""
    script = (
        "import sys, numpy as np\n"
        "import gcmpi.train, gcmpi.cluster.mpi, gcmpi.training\n"
        "from gcmpi.codes.ensemble import Ensemble\n"
        "from gcmpi.registry import Spec\n"
        "Ensemble(np.eye(3, dtype=int), 1, Spec('random-diagonal')).coefficients(0, 1)\n"
        f"assert {heavy!r} not in sys.modules, sorted(sys.modules)\n"
    )
    done = alone("-c", script)
    assert done.returncode == 0, done.stderr


def test_server_loads_no_plots_or_graphs_to_start(alone: Run):
    script = (
        "import sys, gcmpi.experiments.experiment, gcmpi.experiments.building as r\n"
        "x = gcmpi.experiments.experiment.Experiment()\n"
        "r.build(x, r.assignment_matrix(x))\n"
        "assert not {'networkx', 'matplotlib', 'xarray', 'scipy.stats'} & set(sys.modules)\n"
    )
    done = alone("-c", script)
    assert done.returncode == 0, done.stderr
