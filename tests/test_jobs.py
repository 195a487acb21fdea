import json
import subprocess
import sys
from pathlib import Path

import pytest

import gcmpi
from gcmpi.commands.codes.command_line import main as codes
from gcmpi.environment import THREADS
from gcmpi.experiments.experiment import Experiment
from jobs.slurm import batch_script

ROOT = Path(__file__).parents[1]
JOBS = ROOT / "jobs"
SCRIPTS = {
    "train.sbatch": ["--mpi", "mpich"],
    "train-openmpi.sbatch": ["--mpi", "openmpi"],
    "sweep.sbatch": ["--mpi", "mpich", "--seeds", "0-9"],
}


def write(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/slurm.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_committed_script_is_what_the_function_writes(name: str) -> None:
    command = f"python jobs/slurm.py {' '.join(SCRIPTS[name])} > jobs/{name}"
    assert (JOBS / name).read_text() == write(*SCRIPTS[name]).stdout, command
    assert command in (JOBS / "slurm.py").read_text()


def test_every_committed_script_is_held() -> None:
    assert {path.name for path in JOBS.glob("*.sbatch")} == set(SCRIPTS)


def test_experiment_is_the_default_written_out() -> None:
    text = (JOBS / "train.toml").read_text()
    assert text == Experiment().toml, "python -m gcmpi.train --print-config > jobs/train.toml"
    assert Experiment.from_toml(text) == Experiment()


def test_the_best_code_with_memory(capsys):
    """It is what is recommended, with memory; the default run stays the paper's."""
    best = Experiment.from_toml((JOBS / "best.toml").read_text())
    changed = {line.partition(" = ")[0] for line in best.differences}
    assert changed == {"assignment", "encoding", "memory"}
    words = "recommend --workers 31 --m 2 --load 0.2 --json"
    assert codes(words.split()) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (best.assignment, best.encoding) == (first["assignment"], first["encoding"])
    run = gcmpi.simulate(best.change({"iterations": 4, "problem": "softmax"}))
    assert run.valid
    assert run.parts.A.shape == (10, 31)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_bash(name: str) -> None:
    subprocess.run(["bash", "-n", JOBS / name], check=True, timeout=30)


@pytest.mark.parametrize("name", SCRIPTS)
def test_one_thread_a_rank_for_every_blas(name: str) -> None:
    text = (JOBS / name).read_text()
    assert all(f" {variable}=1" in text for variable in THREADS)
    assert "#SBATCH --cpus-per-task=1\n" in text


def test_parameters_are_in_the_script() -> None:
    text = batch_script(
        mpi="openmpi", ranks=14, seeds="1,5-9:2%2", experiment="my runs/a b.toml", minutes=7
    )
    for line in ("--ntasks=14", "--array=1,5-9:2%2", "--time=7", "--job-name=sweep-openmpi"):
        assert f"#SBATCH {line}\n" in text
    assert "--config 'my runs/a b.toml' " in text
    assert "1 server and 13 workers" in text
    assert "srun" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mpi", "mpich", "--ranks", "1"], "at least 2 ranks (1 server + 1 worker), not 1"),
        (["--mpi", "mpich", "--minutes", "4"], "more than 4 minutes, not 4"),
        (["--mpi", "mpich", "--seeds", "0..9"], "such as 0-9 or 0-9%2, not '0..9'"),
        (["--mpi", "mvapich"], "invalid choice: 'mvapich'"),
        ([], "--mpi"),
    ],
)
def test_bad_parameters_are_refused(words: list[str], message: str) -> None:
    done = write(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
