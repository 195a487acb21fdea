"""Write batch scripts for SLURM: ``python jobs/slurm.py --mpi mpich > jobs/train.sbatch``.

The scripts in this directory are its output::

    python jobs/slurm.py --mpi mpich > jobs/train.sbatch
    python jobs/slurm.py --mpi openmpi > jobs/train-openmpi.sbatch
    python jobs/slurm.py --mpi mpich --seeds 0-9 > jobs/sweep.sbatch

For another number of ranks, time limit or experiment write one of your own; options after the
script's name go to gcmpi.train: ``sbatch jobs/train.sbatch --iterations 300 --m 3``.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping
from typing import Literal, get_args

Mpi = Literal["mpich", "openmpi"]

# srun alone would wait for ever for the rest of a job that lost a rank: --wait ends it. Open MPI
# goes without srun, so that no PMIx plugin of SLURM has to fit the library.
LAUNCHERS: Mapping[Mpi, str] = {
    "mpich": """\
# MPICH names shared memory by job and step, and would hang on what a killed start left behind:
# so each start of the job launches in a step of another number
for ((i = 0; i < ${SLURM_RESTART_COUNT:-0}; i++)); do
    srun --ntasks=1 true
done
srun --mpi=pmi2 --wait=60""",
    "openmpi": 'mpirun --bind-to none -n "$SLURM_NTASKS"',
}
NOTICE_SECONDS = 120
SEEDS = re.compile(r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?")

SCRIPT = """\
#!/usr/bin/env bash
# {title}
#   sbatch jobs/{name}.sbatch [options of gcmpi.train]
# Submit from the top of the checkout with the virtual environment active.

#SBATCH --job-name={name}
#SBATCH --output={log}.log
#SBATCH --open-mode=append
#SBATCH --ntasks={ranks}
#SBATCH --cpus-per-task=1
#SBATCH --time={minutes}
#SBATCH --signal=B:USR1@{notice}
#SBATCH --requeue
{array}
# . .venv/bin/activate  # where jobs do not inherit the environment of sbatch

export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 BLIS_NUM_THREADS=1
echo "# job $SLURM_JOB_ID: $SLURM_NTASKS ranks on $SLURM_JOB_NODELIST," \\
    "$(env | grep _NUM_THREADS= | sort | xargs)"

# the name stays the same when SLURM starts the job again: then the run in the file goes on
run={run}
complete='import pathlib, sys; from gcmpi.records import read
sys.exit(read(pathlib.Path(sys.argv[1])).status != "complete")'
if [ ! -e "$run" ]; then
    what=({start})
elif python -c "$complete" "$run"; then
    echo "# $run is complete"
    exit 0
else
    what=(--resume "$run")
fi

# {notice} s before the time limit SLURM sends USR1, to this shell only. The launcher passes it on
# to the server, which saves the run and exits with 75.
signalled=yes
trap 'signalled=yes; kill -USR1 "$launcher"' USR1

{launch} python -m gcmpi.train "${{what[@]}}" &
launcher=$!
while [ "$signalled" ]; do # a trapped signal ends wait before the launcher ends
    signalled=
    wait "$launcher"
    status=$?
done
if [ "$status" -eq 75 ]; then
    echo "# exit status 75: back to the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def batch_script(
    *,
    mpi: Mpi,
    ranks: int = 32,
    seeds: str | None = None,
    experiment: str = "jobs/train.toml",
    minutes: int = 30,
) -> str:
    """Return the text of a batch script.

    Parameters
    ----------
    mpi
        The library that mpi4py uses.
    ranks
        One server and n workers.
    seeds
        One job for each seed, as SLURM writes arrays: ``0-9``, ``1,5,7``, or ``0-9%2`` for at most
        two at a time. None for a single job with the seed of the experiment.
    experiment
        The TOML file, seen from where the script is submitted.
    minutes
        The time limit of one start of the job; one that reaches it is queued again and goes on.

    Raises
    ------
    ValueError
        If there is no worker, the seeds are not an array of SLURM, or the time is too short to
        save the run.
    """
    if ranks < 2:
        raise ValueError(f"a job needs at least 2 ranks (1 server + 1 worker), not {ranks}")
    if 60 * minutes <= 2 * NOTICE_SECONDS:
        raise ValueError(
            f"a job needs more than {2 * NOTICE_SECONDS // 60} minutes, not {minutes}: it is told "
            f"to save its run {NOTICE_SECONDS} s before the end"
        )
    if seeds is not None and not SEEDS.fullmatch(seeds):
        raise ValueError(f"seeds must be an array of SLURM such as 0-9 or 0-9%2, not {seeds!r}")
    workers = f"{ranks - 1} worker{'s' if ranks > 2 else ''}"
    start = f'--config {shlex.quote(experiment)} "$@" --output "$run"'
    if seeds is None:
        name = "train" if mpi == "mpich" else "train-openmpi"
        title = f"Coded training over MPI: 1 server and {workers}."
        array, log, run = "", "%x-%j", "runs/$SLURM_JOB_NAME-$SLURM_JOB_ID.h5"
    else:
        name = "sweep" if mpi == "mpich" else "sweep-openmpi"
        title = f"Coded training over MPI for each of several seeds: 1 server and {workers}."
        array, log = f"#SBATCH --array={seeds}\n", "%x-%A-s%a"
        run = "runs/$SLURM_JOB_NAME-$SLURM_ARRAY_JOB_ID-s$SLURM_ARRAY_TASK_ID.h5"
        start += ' --seed "$SLURM_ARRAY_TASK_ID"'
    return SCRIPT.format(
        title=title,
        name=name,
        log=log,
        ranks=ranks,
        minutes=minutes,
        notice=NOTICE_SECONDS,
        array=array,
        run=run,
        start=start,
        launch=LAUNCHERS[mpi],
    )


def main() -> None:
    """Print the script that the command line asks for."""
    p = argparse.ArgumentParser(prog="python jobs/slurm.py", description=__doc__.splitlines()[0])
    p.add_argument("--mpi", required=True, choices=get_args(Mpi), help="the library of mpi4py")
    p.add_argument("--ranks", type=int, default=32, help="1 server + n workers (32)")
    p.add_argument("--seeds", help="one job for each seed: 0-9, or 0-9%%2 for two at a time")
    p.add_argument("--experiment", default="jobs/train.toml", metavar="TOML", help="what to run")
    p.add_argument("--minutes", type=int, default=30, help="time limit (30)")
    try:
        print(batch_script(**vars(p.parse_args())), end="")
    except ValueError as error:
        p.error(str(error))


if __name__ == "__main__":
    main()
