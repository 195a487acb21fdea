"""Where a run takes place: what a reader of its file needs to judge its times."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
RECORDED = re.compile(
    r"(SLURM_(JOB_ID|ARRAY_JOB_ID|ARRAY_TASK_ID|NTASKS|NNODES|CPUS_PER_TASK|JOB_PARTITION)"
    r"|OMP_NUM_THREADS|OPENBLAS_(NUM_THREADS|CORETYPE)|MKL_NUM_THREADS)"
)
SIMULATED = "simulated"
"""What stands in place of the MPI library for a run on a virtual clock."""


@dataclass(frozen=True)
class Place:
    """One rank's surroundings."""

    host: str
    cpu: str
    cores: int
    threads: int


def one_blas_thread() -> None:
    """Ask for one BLAS thread unless the user asked for something else; before numpy is imported.

    With two threads a rank, 32 ranks on 2 cores are 20 to 40 times slower.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")


def working_directory_on_path() -> None:
    """Let modules of the working directory be imported, as ``python -m`` does.

    A console script has the directory of the script in its place. Python's own switch against it
    (``-P``, PYTHONSAFEPATH) is respected.
    """
    here = str(Path.cwd())
    if not sys.flags.safe_path and here not in sys.path:
        sys.path.insert(0, here)


def place() -> Place:
    """Describe this rank: host, CPU model, cores it may use, threads of its BLAS."""
    import threadpoolctl

    threads = max((pool["num_threads"] for pool in threadpoolctl.threadpool_info()), default=1)
    return Place(platform.node(), _cpu(), len(os.sched_getaffinity(0)), threads)


def describe(places: list[Place], library: str) -> dict[str, str]:
    """Return the environment of a run by name, for the header and the run file."""
    import threadpoolctl

    blas = [
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', 'unknown')})"
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    ]
    hosts = sorted({p.host for p in places})
    versions = {name: metadata.version(name) for name in ("numpy", "scipy", "h5py", "mpi4py")}
    commit, dirty = _git()
    return {
        "command": " ".join(["python -m gcmpi.train", *sys.argv[1:]]),
        "git_commit": commit,
        "git_dirty": dirty,
        "mpi_library": library,
        "mpi_thread_level": "single",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "blas": ", ".join(blas) or "unknown",
        "ranks": str(len(places)),
        "hosts": ",".join(hosts),
        "rank_hosts": ",".join(p.host for p in places),
        "rank_cpus": "; ".join(dict.fromkeys(p.cpu for p in places)),
        "cores": str(_cores(places)),
        "blas_threads": str(max(p.threads for p in places)),
        **{f"version_{name}": version for name, version in versions.items()},
        **{name: value for name, value in os.environ.items() if RECORDED.fullmatch(name)},
    }


def launched() -> tuple[int, int]:
    """Return (rank, ranks) that a launcher or SLURM promises this process; (0, 1) without one.

    Known without MPI, so that one of many processes can speak for all before MPI starts, and so
    that a world of one rank inside a job of many is noticed.
    """
    for rank, size in (
        ("PMI_RANK", "PMI_SIZE"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS"),
    ):
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def _cores(places: list[Place]) -> int:
    """Cores of all hosts together."""
    return sum({p.host: p.cores for p in places}.values())


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _git() -> tuple[str, str]:
    """Return the commit of the package's checkout and whether it has changes; empty outside git."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return commit, (
            "yes" if git("status", "--porcelain", "--", ".") else "no"
        ) if commit else ""
    except FileNotFoundError:
        return "", ""
