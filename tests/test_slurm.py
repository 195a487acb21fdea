"""The job scripts under a real SLURM: one node on this machine, see rigs/slurm/up.sh."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import h5py
import numpy as np
import pytest

from gcmpi import records as recording
from jobs.slurm import Mpi, batch_script

ROOT = Path(__file__).parents[1]
RIG = ROOT / "tests" / "rigs" / "slurm"
SCRIPTS = {"mpich": "jobs/train.sbatch", "openmpi": "jobs/train-openmpi.sbatch"}
RANKS = "8"
CODE = ["--assignment", "projective-plane:order=2"]
# 30 iterations of 0.2 s or more, on however slow a machine
SLOW = ["--iterations", "30", "--wait", "all"]
SLOW += ["--stragglers", "shifted-exponential:mean=0,shift=0.2"]

pytestmark = pytest.mark.slurm


def library() -> Mpi:
    """Return the MPI library that is installed next to this interpreter."""
    for name in SCRIPTS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return "mpich" if name == "mpich" else "openmpi"
    pytest.skip("needs the MPI library of the extra mpich or openmpi")


def free_port() -> int:
    """Return a port below the ephemeral ones that is free, as is the next."""
    for port in range(17000, 32000, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@dataclass(frozen=True)
class Cluster:
    home: Path
    mpi: Mpi
    environment: dict[str, str]

    def run(self, *words: str, seconds: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def submit(self, *words: str) -> str:
        """Run sbatch; returns the job's id."""
        done = self.run("sbatch", "--parsable", "--ntasks", RANKS, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """Return what SLURM knows of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job).stdout
        return dict(re.findall(r"(\w+)=(\S*)", shown))

    def wait(self, job: str, state: str, seconds: float = 120) -> dict[str, str]:
        """Wait until a job is in a state; returns what SLURM knows of it then.

        sbatch --wait would do, too, but looks after 2, 10 and 42 seconds.
        """
        give_up = time.monotonic() + seconds
        while (known := self.job(job))["JobState"] != state:
            assert time.monotonic() < give_up, known
            time.sleep(0.1)
        return known

    def wait_for_audits(self, name: str, count: int, seconds: float = 120) -> None:
        """Wait until the log of a job shows so many audited iterations."""
        give_up = time.monotonic() + seconds
        while (log := self.log(name)).count(" Pass") < count:
            assert time.monotonic() < give_up, log
            time.sleep(0.05)

    def log(self, name: str) -> str:
        path = self.home / f"{name}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    mpi = library()
    home = tmp_path_factory.mktemp("slurm")
    state = home / "cluster"
    up = subprocess.run(
        [RIG / "up.sh", state, "16", str(free_port())],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if up.returncode == 2:
        pytest.skip(up.stderr.strip())
    assert up.returncode == 0, up.stderr
    try:
        (home / "jobs").symlink_to(ROOT / "jobs")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "SBATCH_"))
        }
        environment["SLURM_CONF"] = str(state / "slurm.conf")
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        # the jobs start elsewhere, so that they leave nothing in the checkout
        environment["PYTHONPATH"] = str(ROOT)
        if mpi == "openmpi":
            environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
            environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
        yield Cluster(home, mpi, environment)
    finally:
        subprocess.run([RIG / "down.sh", state], check=True, timeout=60)


def test_job_trains_and_a_finished_one_is_left_alone(cluster: Cluster) -> None:
    script = SCRIPTS[cluster.mpi]
    name = Path(script).stem
    job = cluster.submit(script, *CODE, "--smoke")
    assert cluster.wait(job, "COMPLETED")["ExitCode"] == "0:0"
    log = cluster.log(f"{name}-{job}")
    path = cluster.home / "runs" / f"{name}-{job}.h5"

    node = socket.gethostname().partition(".")[0]
    assert f"# job {job}: {RANKS} ranks on {node}, BLIS_NUM_THREADS=1 MKL_NUM_THREADS=1" in log
    assert "8 ranks on 1 host(s)" in log
    assert "; 1 BLAS thread(s) a rank" in log
    assert "\nVALID\n" in log.replace("\r", "")
    result = json.loads(log.rpartition("RESULT ")[2])
    assert result["valid"]
    assert result["output"] == f"runs/{path.name}"
    with h5py.File(path) as file:
        assert file.attrs["status"] == "complete"
        assert file.attrs["valid"] == 1
        assert file["environment"].attrs["SLURM_JOB_ID"] == job
        assert file["environment"].attrs["ranks"] == RANKS

    before = path.read_bytes()
    assert cluster.run("scontrol", "requeue", job).returncode == 0
    known = cluster.wait(job, "COMPLETED")
    assert (known["Restarts"], known["ExitCode"]) == ("1", "0:0")
    assert path.read_bytes() == before
    assert cluster.log(f"{name}-{job}").endswith(f"# runs/{path.name} is complete\n")


def test_array_trains_once_for_each_seed(cluster: Cluster) -> None:
    script = cluster.home / "sweep.sbatch"
    script.write_text(batch_script(mpi=cluster.mpi, seeds="3-4"))
    job = cluster.submit(str(script), *CODE, "--smoke", "--seed", "9")
    name = "sweep" if cluster.mpi == "mpich" else "sweep-openmpi"
    thetas = []
    for seed in (3, 4):
        assert cluster.wait(f"{job}_{seed}", "COMPLETED")["ExitCode"] == "0:0"
        assert '"valid": true' in cluster.log(f"{name}-{job}-s{seed}")
        path = cluster.home / "runs" / f"{name}-{job}-s{seed}.h5"
        run = recording.read(path)
        assert run.status == "complete"
        assert f"\nseed = {seed}\n" in run.experiment
        thetas.append(run.state.theta)
        with h5py.File(path) as file:
            assert file["environment"].attrs["SLURM_ARRAY_TASK_ID"] == str(seed)
    assert not np.array_equal(*thetas)


def test_interrupted_job_is_queued_again_and_goes_on(cluster: Cluster) -> None:
    script = SCRIPTS[cluster.mpi]
    name = Path(script).stem
    job = cluster.submit(script, *CODE, *SLOW)
    cluster.wait_for_audits(f"{name}-{job}", 1)
    # what SLURM does 120 s before the time limit
    assert cluster.run("scancel", "--batch", "--signal=USR1", job).returncode == 0

    known = cluster.wait(job, "PENDING")
    assert known["Restarts"] == "1"
    path = cluster.home / "runs" / f"{name}-{job}.h5"
    first = recording.read(path)
    assert first.status == "interrupted"
    assert 1 <= first.state.t < 30
    log = cluster.log(f"{name}-{job}")
    assert f"interrupted; go on with --resume runs/{path.name}\n" in log
    assert "# exit status 75: back to the queue\n" in log

    known = cluster.wait(job, "COMPLETED")
    assert (known["Restarts"], known["ExitCode"]) == ("1", "0:0")
    whole = recording.read(path)
    assert whole.status == "complete"
    assert whole.state.t == 30
    assert np.array_equal(whole.columns["iteration"], np.arange(30))
    seconds = whole.columns["arrival_seconds"]
    assert np.array_equal(seconds[: first.state.t], first.columns["arrival_seconds"])
    log = cluster.log(f"{name}-{job}")
    assert f"python -m gcmpi.train --resume runs/{path.name}\n" in log
    assert log.count("\n# job ") + log.startswith("# job ") == 2


def ranks(job: str) -> list[int]:
    """Return the processes of a job's ranks on this machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is not ours
            continue
        if words[1:3] == [b"-m", b"gcmpi.train"] and f"SLURM_JOB_ID={job}".encode() in variables:
            found.append(int(process.name))
    return found


def test_job_whose_ranks_were_killed_can_be_started_again(cluster: Cluster) -> None:
    script = SCRIPTS[cluster.mpi]
    name = Path(script).stem
    job = cluster.submit(script, *CODE, *SLOW, "--audit-every", "30")
    cluster.wait_for_audits(f"{name}-{job}", 1)
    killed = ranks(job)
    assert len(killed) == int(RANKS)
    for process in killed:
        with contextlib.suppress(ProcessLookupError):  # the launcher ends the rest of them
            os.kill(process, signal.SIGKILL)
    cluster.wait(job, "FAILED")

    # in the memory that MPICH shares between ranks the killed ones left their mark
    assert cluster.run("scontrol", "requeue", job).returncode == 0
    cluster.wait_for_audits(f"{name}-{job}", 2)
    # the killed run has had its file from its start: the second one goes on with it
    log = cluster.log(f"{name}-{job}")
    assert log.count("-m gcmpi.train --config") == 1
    assert log.count("-m gcmpi.train --resume") == 1
    assert cluster.run("scancel", job).returncode == 0
    cluster.wait(job, "CANCELLED")


def test_ranks_that_do_not_find_each_other_are_refused(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "gcmpi.train", *CODE, "--smoke", "--output", "alone.h5"]
    done = cluster.run("srun", "--mpi=none", "--ntasks", RANKS, *command)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if not line.startswith(("srun: ", "# "))]
    assert len(said) == 1
    assert f"{RANKS} ranks were launched, but each is alone in its MPI world" in said[0]
    assert "srun --mpi=pmi2 (MPICH) or --mpi=pmix (Open MPI)" in said[0]
    assert not (cluster.home / "alone.h5").exists()


def test_rig_leaves_nothing_and_says_why_it_cannot(tmp_path: Path) -> None:
    refused = subprocess.run(
        [RIG / "up.sh", tmp_path], capture_output=True, text=True, check=False, timeout=30
    )
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
