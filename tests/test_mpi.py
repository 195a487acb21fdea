"""Jobs under mpirun: the protocol's promises, and the train command at several sizes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import ROOT, Run

PLANE2 = ("--assignment", "projective-plane:order=2")
SLOW = ("--stragglers", "slow-set:workers=1+3,factor=3.5", "--wait", "fastest:5")
QUICK = ("--problem", "softmax", "--optimizer", "sgd:rate=0.1", "--audit-every", "5")


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "VALID" in lines
    assert lines[-1].startswith("RESULT ")
    figures: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    assert figures["valid"]
    return figures


def iterations(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {name: data[()] for name, data in file["iterations"].items()}


def final(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["final/theta"][()]


def test_protocol(mpi: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Everything in tests/mpi/inside_protocol.py, inside 4 ranks."""
    environment["GCMPI_SIGNALS"] = str(tmp_path)
    done = mpi(
        4, "-m", "pytest", "--with-mpi", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:timeout",
        "-o", "addopts=", "-o", "timeout=0", "-W", "ignore::pytest.PytestConfigWarning",
        "--rootdir", ROOT, "-c", ROOT / "pyproject.toml",
        ROOT / "tests" / "mpi" / "inside_protocol.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert done.stdout.count("10 passed") == 4


def test_main_job_smoke(train: Run, tmp_path: Path) -> None:
    """The standard command: 32 ranks, the default experiment."""
    done = train(32, "--smoke")
    figures = result(done)
    assert figures["workers"] == 31
    assert figures["iterations"] == 5
    assert (tmp_path / figures["output"]).exists()
    assert "projective-plane:order=5 + random-diagonal, m=2" in done.stdout


@pytest.mark.parametrize(
    ("ranks", "arguments"),
    [
        (8, PLANE2),
        (14, ("--assignment", "projective-plane:order=3")),
        (55, ("--assignment", "coset:k=27,m=2,generators=0+1+3+9+20")),
        (2, ("--assignment", "uncoded:n=1", "--encoding", "uncoded", "--m", "1")),
        (8, (*PLANE2, "--memory", "1", "--late", "remember", *SLOW)),
        (8, (*PLANE2, "--encoding", "stacked", "--memory", "1", "--parts", "in-turn")),
    ],
)
def test_sizes(train: Run, ranks: int, arguments: tuple[str, ...]) -> None:
    assert result(train(ranks, *arguments, *QUICK, "--smoke"))["workers"] == ranks - 1


def test_per_subset_gradients_over_mpi(train: Run) -> None:
    """An encoding with its own weight for each (worker, subset) pair passes its check too."""
    figures = result(
        train(7, "--assignment", "biregular:n=6,k=3,delta=2,seed=0", "--encoding",
              "random-hadamard", *QUICK, "--stragglers", "none", "--wait", "all", "--smoke")
    )  # fmt: skip
    assert figures["gradient_error_median"] < 1e-4, "exact when nobody is late"


def test_worker_slow_in_one_of_three_counts_in_the_others(train: Run, tmp_path: Path) -> None:
    """Worker 2 is late in every third iteration; it skips to the newest parameters.

    It misses the iteration in which it is slow, is given the next one in the middle, and answers
    that in time. A queue of old parameters would make it miss nearly all.
    """
    seconds = np.ones((60, 7))
    seconds[::3, 2] += 0.3
    np.savetxt(tmp_path / "trace.csv", seconds, delimiter=",")
    late = ("--stragglers", "trace:trace.csv", "--wait", "deadline:0.2")
    job = (*PLANE2, *QUICK, "--iterations", "60", "--dataset", "mixture", *late)
    figures = result(train(8, *job, "--output", "run.h5"))
    rows = iterations(tmp_path / "run.h5")
    assert not rows["survivors"][::3, 2].any()
    assert 0.55 <= rows["survivors"][:, 2].mean() <= 0.67
    assert figures["stale_messages"] >= 18
    late = rows["late_seconds"][::3, 2]
    assert (late[np.isfinite(late)] > 0.25).all()


@pytest.mark.parametrize(
    "code",
    [
        (),
        ("--encoding", "weighted-rank-one", "--relabel"),
        ("--encoding", "harmonic:t=0", "--memory", "0.7"),
    ],
)
def test_mpi_and_simulated_runs_agree(
    train: Run, alone: Run, tmp_path: Path, code: tuple[str, ...]
) -> None:
    """The same survivors give the same parameters, over messages or in one process."""
    exact = ("--dtype", "float64", "--wire", "float64", *code)
    late = ("--stragglers", "shifted-exponential:mean=0.02", "--wait", "fastest:5")
    result(train(8, *PLANE2, *QUICK, *exact, *late, "--iterations", "20", "--output", "mpi.h5"))
    again = ("--config", "mpi.h5", "--stragglers", "replay:mpi.h5", "--wait", "all")
    result(alone("-m", "gcmpi.train", *again, "--simulate", "--output", "simulated.h5"))
    a, b = tmp_path / "mpi.h5", tmp_path / "simulated.h5"
    assert (iterations(a)["survivors"] == iterations(b)["survivors"]).all()
    assert (iterations(a)["survivors"].sum(axis=1) >= 5).all()
    assert not iterations(a)["survivors"].all()
    np.testing.assert_allclose(final(a), final(b), rtol=1e-12, atol=1e-15)


def test_m_follows_the_stragglers(train: Run, alone: Run, tmp_path: Path) -> None:
    """Over messages as in one process: the same m, the same parameters, and bytes that follow."""
    run = (*PLANE2, *QUICK, "--encoding", "harmonic:choices=4", "--iterations", "20", "--dtype",
           "float64", "--wire", "float64", "--switch", "observed:tolerance=0.05,window=1",
           "--stragglers", "bernoulli:q=0.25", "--wait", "all")  # fmt: skip
    done = train(8, *run, "--output", "mpi.h5")
    result(done)
    result(alone("-m", "gcmpi.train", *run, "--simulate", "--output", "simulated.h5"))
    a, b = tmp_path / "mpi.h5", tmp_path / "simulated.h5"
    rows = iterations(a)
    assert set(rows["m"]) == {1, 2}
    assert f"# m 1 in {np.sum(rows['m'] == 1)}, 2 in" in done.stdout
    for name in ("m", "survivors", "divisor"):
        np.testing.assert_array_equal(rows[name], iterations(b)[name])
    np.testing.assert_allclose(final(a), final(b), rtol=1e-12, atol=1e-15)
    longest = int(done.stdout.partition("messages   up ")[2].partition(" x ")[0])
    d = final(a).size
    assert longest == -(-d // 2)
    message = 6 * 8 + 8 * -(-d // rows["m"])
    np.testing.assert_array_equal(rows["bytes_up"], rows["survivors"].sum(axis=1) * message)


@pytest.mark.parametrize(
    "code",
    [("--memory", "1"), ("--encoding", "stacked", "--compression", "top-k")],
    ids=["memory", "top-k"],
)
def test_interrupt_checkpoint_resume(
    mpirun: str, environment: dict[str, str], train: Run, tmp_path: Path, code: tuple[str, ...]
) -> None:
    """SIGUSR1: a readable file and exit status 75; --resume ends where an undisturbed run does.

    With memory the server goes on with what it had learnt; with top-k the workers' memories are
    fetched for the file, and given back.
    """
    late = ("--stragglers", "bernoulli:q=0.3", "--wait", "all", *code)
    work = ("--dataset", "mixture", "--optimizer", "momentum", "--iterations", "200")
    run = (*PLANE2, *QUICK, *work, *late, "--dtype", "float64")
    command = [mpirun, "-n", "8", sys.executable, "-m", "gcmpi.train", *run, "--output", "cut.h5"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if not line.startswith("#"):
                break  # the first iteration is done
        time.sleep(0.2)
        os.kill(job.pid, signal.SIGUSR1)
        rest, _ = job.communicate(timeout=60)
    assert job.returncode == 75, rest
    with h5py.File(tmp_path / "cut.h5") as file:
        assert file.attrs["status"] == "interrupted"
        done = int(file["final"].attrs["iteration"])
        assert 0 < done < 200
        assert len(file["iterations/loss"]) == done
    mixed = subprocess.run(
        [sys.executable, "-m", "gcmpi.train", "--resume", "cut.h5", "--simulate"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert mixed.returncode == 2
    assert "cut.h5 has real seconds: go on without --simulate" in mixed.stderr
    resumed = train(8, "--resume", "cut.h5")
    assert "may differ from an uninterrupted one" not in resumed.stdout
    result(resumed)
    result(train(8, *run, "--output", "whole.h5"))
    assert len(iterations(tmp_path / "cut.h5")["loss"]) == 200
    np.testing.assert_array_equal(final(tmp_path / "cut.h5"), final(tmp_path / "whole.h5"))


def test_a_checkpoint_of_a_run_that_was_killed(mpi: Run, train: Run, tmp_path: Path) -> None:
    """What the file had after an iteration is enough, workers' memories included.

    A checkpoint after every iteration, the file of one of them kept: going on from there ends where
    the run did.
    """
    script = tmp_path / "mine.py"
    script.write_text(
        "import shutil, gcmpi\n"
        "from gcmpi.experiments import recorder\n"
        "recorder.CHECKPOINT_SECONDS = 0\n"
        "def copy(row):\n"
        "    if row.iteration == 6:\n"
        "        shutil.copy('run.h5', 'killed.h5')\n"
        "e = gcmpi.Experiment(assignment='projective-plane:order=2', encoding='stacked',\n"
        "    problem='softmax', dataset='mixture:rows=200,features=5', compression='top-k',\n"
        "    optimizer='adam', stragglers='bernoulli:q=0.3', wait='all', iterations=12)\n"
        "gcmpi.launch(e, observer=copy, output='run.h5')\n"
    )
    done = mpi(8, script)
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "killed.h5") as file:
        assert (file.attrs["status"], file["final"].attrs["iteration"]) == ("running", 6)
        assert sum(name.endswith("_memory") for name in file["final"]) == 7
    result(train(8, "--resume", "killed.h5"))
    np.testing.assert_array_equal(final(tmp_path / "killed.h5"), final(tmp_path / "run.h5"))


def test_interrupt_in_the_middle_of_a_long_wait(
    mpirun: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Nobody will answer for an hour: a signal still ends the run with a readable file and 75."""
    late = ("--stragglers", "shifted-exponential:mean=0,shift=3600", "--wait", "all")
    command = [mpirun, "-n", "8", sys.executable, "-m", "gcmpi.train", *PLANE2, *QUICK, *late]
    with subprocess.Popen(
        [*command, "--output", "w.h5"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        text=True,
    ) as job:  # fmt: skip
        assert job.stdout is not None
        for line in job.stdout:
            if "gradient error" in line:
                break
        time.sleep(0.5)
        os.kill(job.pid, signal.SIGUSR1)
        rest, _ = job.communicate(timeout=60)
    assert job.returncode == 75, rest
    with h5py.File(tmp_path / "w.h5") as file:
        assert file.attrs["status"] == "interrupted"
        assert len(file["iterations/loss"]) == 0


def test_crash_of_one_rank_ends_all(mpi: Run, tmp_path: Path) -> None:
    """An exception on a worker, with the server waiting for it: one traceback, no hang."""
    script = tmp_path / "crash.py"
    script.write_text(
        "import sys\n"
        "from gcmpi import train, training\n"
        "def answer(self, t, m, theta):\n"
        "    raise ArithmeticError('broken worker')\n"
        "training.Worker.answer = answer\n"
        f"sys.exit(train.main({[*PLANE2, '--smoke']!r}))\n"
    )
    done = mpi(8, script, timeout=60)
    assert done.returncode not in (0, 2, 3, 75)
    assert "ArithmeticError: broken worker" in done.stderr
