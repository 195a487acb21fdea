"""The train command: what it answers without MPI, and how it refuses under mpirun."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from gcmpi.commands.train import options
from gcmpi.experiments.experiment import Experiment
from tests.conftest import Run

TINY = ("--assignment", "projective-plane:order=2", "--problem", "softmax", "--dataset",
        "mixture:rows=200,features=5", "--smoke")  # fmt: skip


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """One line on standard error, nothing on standard output, exit status 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("gcmpi.train:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.fixture
def without_mpi(tmp_path: Path) -> dict[str, str]:
    """Make ``import mpi4py`` fail: the command must not want it."""
    (tmp_path / "poison" / "mpi4py").mkdir(parents=True)
    (tmp_path / "poison" / "mpi4py" / "__init__.py").write_text("raise RuntimeError('MPI started')")
    root = Path(__file__).parent.parent
    return {"PYTHONPATH": f"{tmp_path / 'poison'}:{root}"}


def test_print_config_and_help_need_no_mpi(alone: Run, without_mpi):
    done = alone("-m", "gcmpi.train", "--print-config", "--m", "3", **without_mpi)
    assert done.returncode == 0, done.stderr
    assert Experiment.from_toml(done.stdout) == Experiment(m=3)
    done = alone("-m", "gcmpi.train", "--help", **without_mpi)
    assert done.returncode == 0
    for name in ("--config", "--assignment", "--encoding", "--m", "--problem", "--dataset",
                 "--optimizer", "--iterations", "--stragglers", "--wait", "--wire", "--seed",
                 "--audit-every", "--target-accuracy", "--output", "--set", "--print-config",
                 "--smoke"):  # fmt: skip
        assert f"{name} " in done.stdout or f"{name}\n" in done.stdout


def test_every_setting_has_a_flag_and_every_flag_is_a_setting_or_a_request():
    flags = {action.dest for action in options.parser()._actions}
    settings = {field.name for field in dataclasses.fields(Experiment)}
    assert settings - flags == {"warmup"}, "set by --set alone"
    assert flags - settings == {
        "help", "changes", "smoke", "simulate", "share", "config", "output", "overwrite", "resume",
        "print_config", "traceback",
    }  # fmt: skip


def test_under_a_launcher_one_rank_speaks(alone: Run):
    other = alone("-m", "gcmpi.train", "--help", PMI_RANK="3", PMI_SIZE="8")
    assert (other.returncode, other.stdout) == (0, "")


def test_simulated_run(alone: Run, tmp_path: Path):
    done = alone("-m", "gcmpi.train", *TINY, "--simulate", "--target-accuracy", "0.1")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    assert figures["valid"]
    assert figures["iterations"] == 1, "the target was reached at the first audit"
    assert figures["seconds_to_target"] > 0
    assert "target accuracy 0.1: reached after" in done.stdout
    again = alone("-m", "gcmpi.train", *TINY, "--simulate", "--target-accuracy", "0.1")
    names = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert again.returncode == 0
    assert len(names) == 2, "a second run does not replace the first"
    assert names[0].startswith("random-diagonal-m2-")


def test_invalid_run_exits_with_3(alone: Run):
    wild = ("--problem", "least-squares", "--optimizer", "sgd:rate=1e30", "--iterations", "20")
    done = alone("-m", "gcmpi.train", *TINY, *wild, "--simulate")
    assert done.returncode == 3
    assert "INVALID: " in done.stdout
    assert '"valid": false' in done.stdout
    json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))


def test_config_file_and_replay_of_a_run(alone: Run, tmp_path: Path):
    (tmp_path / "run.toml").write_text('m = 1\nencoding = "stacked"\nseed = 5\n')
    run = ("-m", "gcmpi.train", "--config")
    done = alone(*run, "run.toml", *TINY, "--simulate", "--output", "a.h5")
    assert done.returncode == 0, done.stderr
    done = alone(*run, "a.h5", "--simulate", "--wire", "float64", "--output", "b.h5")
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        before, after = (Experiment.from_toml(f["experiment/toml"].asstr()[()]) for f in (a, b))
        assert after == before.change({"wire": "float64"})
        assert before.seed == 5
        rows = "iterations/survivors"
        np.testing.assert_array_equal(a[rows][()], b[rows][()])


REFUSALS = [
    (("--encodng", "stacked"), "--encodng"),
    (("--encoding", "stackd"), "did you mean 'stacked'"),
    (("--assignment", "projective-plane:order=6"), "order=5 or 7"),
    (("--assignment", "coset:k=12,m=2,generators=0+1+3"), "prime power"),
    (("--set", "encoding.eps=3"), "did you mean 'epsilon'"),
    (("--set", "nonsense"), "--set needs key=value"),
    (("--config", "missing.toml"), "cannot use --config missing.toml"),
    (("--config", "missing.h5"), "there is no run file missing.h5"),
    (("--config", "not-a-run.h5"), "not a run file"),
    (("--config", "broken.toml"), "cannot use --config broken.toml"),
    (("--dataset", "missing.npz"), "there is no file missing.npz"),
    (("--output", "exists.h5"), "--output exists.h5 exists: give another name, or --overwrite"),
    (("--output", "exists.h5/x.h5"), "cannot write --output"),
    (("--resume", "not-a-run.h5"), "not a run file"),
    (("--resume", "exists.h5", "--output", "x.h5"), "leave out --output"),
    (("--stragglers", "trace:missing.csv"), "cannot read trace missing.csv"),
    (("--stragglers", "replay:not-a-run.h5"), "not a run file"),
    (("--wait", "fastest:99"), "there are n=7: use fastest:COUNT with COUNT <= 7"),
    (("--m", "1", "--encoding", "uncoded"), "needs --assignment uncoded"),
    (("--m", "1000"), "--m 1000 is more than the d=12 parameters"),
    (("--set", "optimizer.rate=inf"), "rate > 0 and finite"),
    (("--set", "optimizer.rate=nan"), "rate > 0 and finite"),
    (("--stragglers", "pareto:shape=nan"), "shape > 0"),
    (("--stragglers", "slow-set:factor=nan"), "factor >= 1"),
    (("--stragglers", "lognormal:rates=1+1+1+1+1+1+nan"), "rates must be n = 7"),
    (("--iterations", "0"), "--iterations must be at least 1"),
    (("--output", ""), "--output needs the name of a file"),
    (("--problem", "mlp:hidden=1000000000000"), "does not fit into memory"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[" ".join(a) for a, _ in REFUSALS])
def test_refusals(alone: Run, tmp_path: Path, arguments, message):
    """Quick, in one process: --simulate reads its options with the same code."""
    (tmp_path / "exists.h5").write_bytes(b"precious")
    with h5py.File(tmp_path / "not-a-run.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "broken.toml").write_text("m = = 3")
    before = sorted(tmp_path.rglob("*"))
    tiny = TINY if arguments[0] != "--resume" else ()
    line = refused(alone("-m", "gcmpi.train", *tiny, "--simulate", *arguments))
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"
    assert (tmp_path / "exists.h5").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("ranks", "arguments", "message"),
    [
        (4, ("--encodng", "x"), "--encodng"),
        (4, ("--dataset", "missing.npz", "--assignment", "uncoded:n=3", "--encoding", "uncoded",
             "--m", "1"), "there is no file missing.npz"),
        (16, (), "projective-plane:order=5 needs 32 ranks (1 server + 31 workers), not 16: mpirun "
                 f"-n 32 {Path(sys.executable).name} -m gcmpi.train, or --assignment "
                 "projective-plane:order=3 for 14"),
        (1, (), "needs 32 ranks (1 server + 31 workers), not 1: mpirun -n 32"),
    ],
)  # fmt: skip
def test_refusals_under_mpirun(train: Run, tmp_path: Path, ranks, arguments, message):
    """One rank speaks, every rank exits with 2, nothing hangs and nothing is left behind."""
    assert message in refused(train(ranks, *arguments, timeout=60))
    assert not list(tmp_path.iterdir())


def test_many_worlds_of_one_rank(alone: Run):
    """A launcher of another MPI library: every process is alone; one of them says so."""
    promised = {"SLURM_NTASKS": "32", "SLURM_PROCID": "0"}
    line = refused(alone("-m", "gcmpi.train", **promised))
    assert "32 ranks were launched, but each is alone" in line
    assert "--mpi=pmi2" in line
    other = alone("-m", "gcmpi.train", **{**promised, "SLURM_PROCID": "7"})
    assert (other.returncode, other.stdout, other.stderr) == (2, "", "")


def test_two_runs_that_start_together_with_one_output(environment, tmp_path: Path):
    """One of them trains, the other is refused: whoever comes second, and when."""
    command = [sys.executable, "-m", "gcmpi.train", *TINY, "--simulate", "--output", "run.h5"]
    jobs = [
        subprocess.Popen(
            [*command, "--seed", str(seed)], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    said = [job.communicate(timeout=60) for job in jobs]
    codes = [job.returncode for job in jobs]
    assert sorted(codes) == [0, 2], said
    assert "run.h5 exists: give another name, or " in said[codes.index(2)][1]
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["status"] == "complete"
        assert f"seed = {codes.index(0)}\n" in file["experiment/toml"].asstr()[()]
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_a_resume_says_whether_it_is_exact(alone: Run, tmp_path: Path):
    run = ("-m", "gcmpi.train", "--simulate")
    assert alone(*run, *TINY, "--output", "run.h5").returncode == 0
    done = alone(*run, "--resume", "run.h5", "--iterations", "7")
    assert done.returncode == 0, done.stderr
    assert "# note " not in done.stdout
    with h5py.File(tmp_path / "run.h5", "a") as file:  # as an older version wrote it
        assert len(file["iterations/loss"]) == 7
        assert file["environment/resumed_1"].attrs["iteration"] == "5"
        del file["final"].attrs["arrays"]
    done = alone(*run, "--resume", "run.h5", "--iterations", "9")
    assert done.returncode == 0, done.stderr
    assert "# note       an older version wrote the run file, " in done.stdout
    with h5py.File(tmp_path / "run.h5", "a") as file:
        del file["final/wait_counts"]
    line = refused(alone(*run, "--resume", "run.h5", "--iterations", "11"))
    assert "cannot read run file run.h5" in line
