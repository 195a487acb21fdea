"""Where a run takes place: what a reader of its file needs to judge its times."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
RECORDED = re.compile(
    r"(SLURM_(JOB_ID|ARRAY_JOB_ID|ARRAY_TASK_ID|NTASKS|NNODES|CPUS_PER_TASK|JOB_PARTITION)"
    r"|OMP_NUM_THREADS|OPENBLAS_(NUM_THREADS|CORETYPE)|MKL_NUM_THREADS)"
)
SIMULATED = "simulated"
"""What stands in place of the MPI library for a run on a virtual clock."""
SHARED = "shared_gradients"
"""Says of a run on a virtual clock whether its workers shared gradients."""


@dataclass(frozen=True)
class Place:
    """One rank's surroundings."""

    host: str
    cpu: str
    cores: int
    threads: int


def one_blas_thread() -> None:
    """Use one BLAS thread unless the user asked for something else, whether or not numpy is loaded.

    With two threads a rank, 32 ranks on 2 cores are 20 to 40 times slower.
    """
    asked = any(name in os.environ for name in THREADS)
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if "numpy" in sys.modules and not asked:  # too late for the variables
        import threadpoolctl

        threadpoolctl.threadpool_limits(1, user_api="blas")


@contextlib.contextmanager
def single_blas_thread() -> Iterator[None]:
    """Use one BLAS thread for a while, unless the user asked for something else."""
    import threadpoolctl

    asked = any(name in os.environ for name in THREADS)
    with contextlib.nullcontext() if asked else threadpoolctl.threadpool_limits(1, "blas"):
        yield


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
        "command": command(),
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


def simulated(*, share: bool) -> dict[str, str]:
    """Return the environment of a run on a virtual clock, whose workers may share gradients."""
    return {**describe([place()], SIMULATED), SHARED: "yes" if share else "no"}


def command() -> str:
    """Return the command that was typed, as far as a process can know it.

    ``mpirun -n 8 python mine.py``, ``mpirun -n 32 python -m gcmpi.train --m 3``, ``gcmpi train``.
    """
    ranks = launched()[1]
    launcher = "srun" if "SLURM_PROCID" in os.environ else "mpirun"
    return f"{launcher} -n {ranks} {program()}" if ranks > 1 else program()


def program() -> str:
    """Return what was typed behind the launcher, ``python mine.py``."""
    words = list(sys.orig_argv)
    if len(words) > 1 and Path(words[1]).name == Path(sys.argv[0]).name == "gcmpi":
        words = words[1:]  # the console script
    words[0] = Path(words[0]).name
    return shlex.join(words)


def complain(message: str) -> None:
    """Print one line about what went wrong, on standard error, by the name of the program."""
    name = Path(sys.argv[0]).name or "gcmpi"
    print(f"{name}: {message}", file=sys.stderr, flush=True)


def under_launcher() -> bool:
    """Say whether a launcher started this process, alone or as one of many."""
    return launched()[1] > 1


class OneRankError(ValueError):
    """What this rank alone has met: it says so itself."""


def one_voice(end_all: Callable[[int], None]) -> None:
    """Let one rank speak for all when nothing in a script catches what gcmpi refuses.

    Under a launcher every rank runs the script and meets the same refusal: rank 0 says it in one
    sentence, and all ranks end with status 2. Other exceptions keep their traceback; an exception
    that ends one rank ends all, or the others would wait for it.

    Parameters
    ----------
    end_all
        Ends all ranks with a status; it starts MPI if it has to.
    """
    if not under_launcher() or _ends:
        return
    _ends.append(end_all)
    sys.excepthook = _speak


_ends: list[Callable[[int], None]] = []


def _speak(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    refused = isinstance(error, ValueError) and _raised_here(trace)
    if not refused:
        sys.__excepthook__(kind, error, trace)
    elif launched()[0] == 0 or isinstance(error, OneRankError):
        complain(str(error))
    else:
        time.sleep(3)  # all ranks end with the first: rank 0 is to speak before
    sys.stdout.flush()
    sys.stderr.flush()
    status = 2 if refused else 1
    _ends[-1](status)
    os._exit(status)


def _raised_here(trace: TracebackType | None) -> bool:
    """Say whether an exception was raised by this package."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = "" if trace is None else trace.tb_frame.f_code.co_filename
    return Path(__file__).parent in Path(file).parents


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


def local_rank() -> int:
    """Return which of the processes on its host a launcher says this is; 0 without a launcher."""
    names = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
    found = [os.environ[name] for name in names if name in os.environ]
    return int(found[0]) if found else launched()[0]


def free_memory() -> float:
    """Return how many bytes of memory are free on this machine; infinity where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return math.inf
    return 1024.0 * int(kilobytes)


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
