"""Partial stragglers under mpirun: the protocol, and whole runs against the virtual clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gcmpi import records as recording
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from tests.conftest import ROOT, Run
from tests.test_mpi import PLANE2, QUICK, final, iterations, result
from tests.test_partial import recomputed


def test_protocol_with_reports(mpi: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Everything in tests/mpi/inside_partial.py, inside 4 ranks."""
    environment["GCMPI_SIGNALS"] = str(tmp_path)
    done = mpi(
        4, "-m", "pytest", "--with-mpi", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:timeout",
        "-o", "addopts=", "-o", "timeout=0", "-W", "ignore::pytest.PytestConfigWarning",
        "--rootdir", ROOT, "-c", ROOT / "pyproject.toml",
        ROOT / "tests" / "mpi" / "inside_partial.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert done.stdout.count("10 passed") == 4


def test_run_over_mpi_and_on_the_virtual_clock(train: Run, alone: Run, tmp_path: Path) -> None:
    """Workers that are slow, slower and dead: the parameters are what the reports say, and the
    same reports give the same parameters in one process.
    """
    seconds = np.ones((6, 7))
    seconds[:, 2], seconds[::2, 4], seconds[1::2, 5] = 1.45, 1.9, np.nan
    np.savetxt(tmp_path / "slow.csv", seconds, delimiter=",")
    parts = ("--encoding", "partial-stragglers", "--dtype", "float64", "--wire", "float64")
    job = (*PLANE2, *QUICK, *parts, "--dataset", "mixture", "--iterations", "6")
    late = ("--stragglers", f"trace:{tmp_path}/slow.csv", "--wait", "deadline:0.3")
    result(train(8, *job, *late, "--output", "mpi.h5"))
    rows, path = iterations(tmp_path / "mpi.h5"), tmp_path / "mpi.h5"
    finished, survivors = rows["finished"], rows["survivors"] != 0
    assert not finished[1::2, 5].any()
    assert ((finished > 0) & (finished < 3)).any(), "none of the slow ones was found at work"
    assert (survivors <= (finished > 0)).all()
    e = Experiment.from_toml(recording.read(path).experiment)
    theta = recomputed(build(e, assignment_matrix(e)), finished, survivors)
    np.testing.assert_allclose(final(path), theta, rtol=1e-9, atol=1e-12)

    # after a second, finished + 1/2 of three subsets are to be there; they take 10 ms
    used = finished * survivors
    needed = np.where(used == 3, 0.01, 3 / (used + 0.5))
    np.savetxt(tmp_path / "again.csv", 1 + needed - needed.min(), delimiter=",")
    again = ("--stragglers", f"trace:{tmp_path}/again.csv", "--wait", "deadline:1", "--simulate")
    result(alone("-m", "gcmpi.train", "--config", "mpi.h5", *again, "--output", "simulated.h5"))
    same = iterations(tmp_path / "simulated.h5")
    np.testing.assert_array_equal(same["finished"], used)
    np.testing.assert_allclose(final(tmp_path / "simulated.h5"), theta, rtol=1e-9, atol=1e-12)


def test_the_same_protocol_over_mpi_and_on_the_virtual_clock(
    train: Run, alone: Run, tmp_path: Path
) -> None:
    """Where delays leave no doubt, the same command finds the same counts, survivors, parameters.

    Worker 2 is in the middle of its second delay of a second when the server asks after a second
    and a half, worker 3 in its first of ten seconds; worker 4 is silent in every other iteration.
    """
    delays = np.zeros((2, 7))
    delays[:, 2], delays[:, 3], delays[1, 4] = 3.0, 30.0, np.inf
    (tmp_path / "mine.py").write_text(f"from numpy import inf\ndelays = {delays.tolist()!r}\n")
    parts = ("--encoding", "partial-stragglers", "--dtype", "float64", "--wire", "float64")
    job = (*PLANE2, *QUICK, *parts, "--dataset", "mixture", "--iterations", "2")
    late = ("--stragglers", "mine.delays", "--wait", "deadline:1.5")
    result(train(8, *job, *late, "--output", "mpi.h5"))
    result(alone("-m", "gcmpi.train", *job, *late, "--simulate", "--output", "simulated.h5"))
    over, on_clock = (iterations(tmp_path / name) for name in ("mpi.h5", "simulated.h5"))
    assert over["finished"].tolist() == [[3, 3, 1, 0, 3, 3, 3], [3, 3, 1, 0, 0, 3, 3]]
    for name in ("finished", "survivors", "stale_messages"):
        np.testing.assert_array_equal(over[name], on_clock[name], name)
    np.testing.assert_allclose(
        final(tmp_path / "mpi.h5"), final(tmp_path / "simulated.h5"), rtol=1e-12, atol=1e-15
    )
