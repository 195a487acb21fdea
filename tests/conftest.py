"""Fixtures: MPI jobs start as a user starts them, under a time limit: a hang is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gcmpi import environment as gcmpi_environment

gcmpi_environment.one_blas_thread()  # before any test imports numpy: jobs of many ranks follow

ROOT = Path(__file__).parent.parent
# what a root user on a small machine needs for Open MPI; other libraries ignore it
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_btl": "^ofi",
}

# codes that tests train are kept for the session only, and the user's cache is not read
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="gcmpi-tests-")

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def find_mpirun() -> str | None:
    """Return the mpirun beside this Python, else the one on PATH."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


@pytest.fixture(scope="session")
def mpirun() -> str:
    found = find_mpirun()
    if found is None:
        pytest.skip("no mpirun: pip install -e '.[mpich]'")
    return found


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    return {**os.environ, **OPEN_MPI, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def mpi(mpirun: str, environment: dict[str, str], tmp_path: Path) -> Run:
    """Run ``mpirun -n RANKS python ARGUMENTS`` in an empty directory."""

    def run(ranks: int, *arguments: object, timeout: float = 120) -> Done:
        return subprocess.run(
            [mpirun, "-n", str(ranks), sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def train(mpi: Run) -> Run:
    """Run ``mpirun -n RANKS python -m gcmpi.train ARGUMENTS``."""

    def run(ranks: int, *arguments: object, timeout: float = 120) -> Done:
        return mpi(ranks, "-m", "gcmpi.train", *arguments, timeout=timeout)

    return run


@pytest.fixture
def alone(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run ``python ARGUMENTS`` without a launcher."""

    def run(*arguments: object, **variables: str) -> Done:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
