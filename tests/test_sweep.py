"""Sweeps: the same seeds for every competitor, and nothing is run twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcmpi.sweep import main, read_sweep, run_sweep
from tests.conftest import ROOT

TEXT = """
repetitions = 3
[common]
assignment = "projective-plane:order=2"
problem = "softmax"
dataset = "mixture:rows=200,features=5"
iterations = 4
[runs.coded]
[runs.stacked]
encoding = "stacked"
[runs.uncoded]
assignment = "uncoded:n=5"
encoding = "uncoded"
m = 1
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(TEXT)
    return path


def test_every_competitor_on_every_seed(sweep, tmp_path):
    jobs = read_sweep(sweep, tmp_path / "out")
    assert len(jobs) == 9
    assert len({job.output for job in jobs}) == 9
    for block in (jobs[:3], jobs[3:6], jobs[6:]):
        assert {job.name for job in block} == {"coded", "stacked", "uncoded"}
        assert len({job.experiment.seed for job in block}) == 1
    assert {job.name: job.ranks for job in jobs} == {"coded": 8, "stacked": 8, "uncoded": 6}
    orders = {tuple(job.name for job in jobs[i : i + 3]) for i in (0, 3, 6)}
    assert len(orders) > 1, "the order is shuffled"


def test_the_command_line_means_the_experiment(sweep, tmp_path):
    from gcmpi.options import parser, read_experiment

    for job in read_sweep(sweep, tmp_path):
        words = job.command("mpirun -n {ranks}")
        assert words[:3] == ["mpirun", "-n", str(job.ranks)]
        options = parser().parse_args(words[words.index("gcmpi.train") + 1 :])
        assert read_experiment(options) == job.experiment


def test_second_call_runs_nothing(sweep, tmp_path, capsys, monkeypatch):
    """Each run as one process with a virtual clock, in place of mpirun."""
    launcher = tmp_path / "simulate"
    launcher.write_text('#!/bin/sh\nexec "$@" --simulate\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    jobs = read_sweep(sweep, tmp_path / "out")[:2]
    assert run_sweep(jobs, str(launcher)) == 0
    assert "0 done, 2 to run" in capsys.readouterr().out
    assert all(job.complete for job in jobs)
    stamp = jobs[0].output.stat().st_mtime_ns
    assert run_sweep(jobs, "false") == 0
    assert "2 done, 0 to run" in capsys.readouterr().out
    assert jobs[0].output.stat().st_mtime_ns == stamp


def test_failures_are_kept_and_tried_again(sweep, tmp_path, capsys):
    jobs = read_sweep(sweep, tmp_path / "out")[:2]
    script = tmp_path / "fails"
    script.write_text("#!/bin/sh\necho broken; exit 1\n")
    script.chmod(0o755)
    assert run_sweep(jobs, str(script)) == 2
    assert "FAILED with exit status 1" in capsys.readouterr().out
    assert jobs[0].output.with_suffix(".log").read_text() == "broken\n"
    assert not jobs[0].complete


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "cannot read sweep"),
        ("repetitions = 0\n[runs.a]\n", "repetitions must be at least 1"),
        ("repetitions = 2\n", "needs at least one [runs.NAME]"),
        ("seeds = 2\n[runs.a]\n", "not 'seeds'"),
        ("[runs.a]\nencoding = 'stackd'\n", "run a: unknown encoding 'stackd'"),
    ],
)
def test_refusals(tmp_path, capsys, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert main([str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("figure*.toml")), ids=lambda p: p.name)
def test_sweeps_of_the_repository(path, tmp_path):
    assert read_sweep(path, tmp_path)
