"""Sweeps: the same seeds for every competitor, and nothing is run twice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gcmpi.commands.comparison import paired_ratio
from gcmpi.commands.sweep import main, read_sweep, run_sweep
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
    from gcmpi.commands.train.options import parser, read_experiment

    for job in read_sweep(sweep, tmp_path):
        words = job.command("mpirun -n {ranks}")
        assert words[:3] == ["mpirun", "-n", str(job.ranks)]
        options = parser().parse_args(words[words.index("gcmpi.train") + 1 :])
        assert read_experiment(options) == job.experiment


def test_second_call_runs_nothing(sweep, tmp_path, capsys, monkeypatch):
    """Each run as one process with a virtual clock, in place of mpirun."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    jobs = read_sweep(sweep, tmp_path / "out", simulated=True)[:2]
    assert run_sweep(jobs, "false", side_by_side=2) == 0
    assert "0 done, 2 to run" in capsys.readouterr().out
    assert all(job.complete for job in jobs)
    stamp = jobs[0].output.stat().st_mtime_ns
    assert run_sweep(jobs, "false") == 0
    assert "2 done, 0 to run" in capsys.readouterr().out
    assert jobs[0].output.stat().st_mtime_ns == stamp
    assert not any(replace(job, simulated=False).complete for job in jobs), "another clock"


CONDITIONS = """
[common]
problem = "softmax:l2=0.1"
dataset = "mixture:rows=200,features=5"
iterations = 40
audit_every = 2
wait = "all"
target_excess = 0.5
[conditions.rough]
stragglers = "bernoulli:q=0.2"
[conditions.calm]
only = ["c*"]
stragglers = "none"
[runs]
coded = { assignment = "projective-plane:order=2", stragglers = "bernoulli:q=0.1" }
calm = { assignment = "uncoded:n=5", encoding = "uncoded", m = 1 }
"""


def test_conditions_names_and_targets(tmp_path, capsys, monkeypatch):
    path = tmp_path / "sweep.toml"
    path.write_text(CONDITIONS.replace("calm =", "uncoded ="))
    jobs = {job.name: job for job in read_sweep(path, tmp_path)}
    assert jobs.keys() == {"coded-rough", "uncoded-rough", "coded-calm"}
    assert jobs["uncoded-rough"].experiment.stragglers == "bernoulli:q=0.2"
    assert jobs["coded-calm"].experiment.stragglers == "bernoulli:q=0.1", "its own goes last"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = [str(path), "--simulate", "--seeds", "1", "--output", str(tmp_path / "out")]
    assert main([*words, "--only", "*-rough"]) == 0
    shown = capsys.readouterr().out
    assert "# rough\n" in shown
    assert "# calm" not in shown
    table = [row.split() for row in shown.splitlines() if row.startswith("  ")]
    assert [row[0] for row in table] == ["coded-rough", "uncoded-rough"]
    assert all(1 <= float(row[7]) <= 40 for row in table), shown
    assert main([*words, "--list"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("done    ") == 2
    assert listed.count("simulated") == 3
    for wrong, message in (
        (["--only", "x"], "--only x leaves no run; the runs are "),
        (["--jobs", "0"], "--jobs must be at least 1, not 0"),
    ):
        assert main([*words, *wrong]) == 2
        assert message in capsys.readouterr().err


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
        ("[runs]\na = 3\n", "run a: a run is a table [runs.NAME]"),
        ("[common]\nseed = 4\n[runs.a]\n", "run a: seed is 0, 1, .. up to repetitions - 1"),
        ("[conditions.a]\nonly = ['b']\n[runs.c]\n", "only = ['b'] is none of c"),
        ("[conditions.a]\nonly = 'b'\n[runs.c]\n", "only is a list of names, not 'b'"),
        ("[conditions]\na = 3\n[runs.c]\n", "a condition is a table [conditions.NAME]"),
        ("[runs.a]\nrelabel = true\n", "--relabel is for encodings that stay the same"),
    ],
)
def test_refusals(tmp_path, capsys, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert main([str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda p: p.name)
def test_sweeps_of_the_repository(path, tmp_path):
    if path.name in ("train.toml", "best.toml"):
        pytest.skip("an experiment, not a sweep")
    assert read_sweep(path, tmp_path)


def test_paired_ratio():
    rng = np.random.default_rng(0)
    reference = rng.uniform(1, 9, 10)
    assert paired_ratio(reference, reference).startswith("1.00 (1.00-1.00)")
    clear = paired_ratio(reference * np.exp(rng.normal(-0.7, 0.01, 10)), reference)
    assert float(clear[:4]) == pytest.approx(np.exp(-0.7), abs=0.02)
    assert "not distinguishable" not in clear
    assert "not distinguishable" in paired_ratio(rng.permutation(reference), reference)
    missing = np.where(np.arange(10) < 3, np.inf, reference)
    assert paired_ratio(missing, reference) == "3 of 10 never"
    assert paired_ratio(reference, missing) == "reference never"


def test_paired_ratio_covers_the_truth():
    """The 95% interval of five seeds holds the true ratio in about 95% of all sweeps."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        text = paired_ratio(np.exp(rng.normal(np.log(0.5), 0.2, 5)), np.ones(5))
        low, high = (float(x) for x in re.findall(r"[\d.]+", text)[1:3])
        covered += low - 0.005 <= 0.5 <= high + 0.005
    assert 0.92 <= covered / 400 <= 0.985


def test_table_at_the_end(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main([str(sweep), "--output", str(tmp_path / "out"), "--simulate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = next(i for i, line in enumerate(lines) if "gradient error" in line)
    rows = [line.split() for line in lines[heading + 1 : heading + 4]]
    assert [row[0] for row in rows] == ["coded", "stacked", "uncoded"]
    assert [row[1] for row in rows] == ["3", "3", "3"]
    assert [float(row[2]) for row in rows] == [0.429, 0.429, 0.2]
