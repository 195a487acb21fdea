"""The table and the figure of the campaign about accuracy, from the run files of a small one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import gcmpi
from analysis import memory
from gcmpi.commands.sweep import read_sweep
from tests.conftest import ROOT

SMALL = """
repetitions = 3
[common]
problem = "softmax:l2=0.05"
dataset = "mixture:rows=120,features=3"
dtype = "float64"
wire = "float64"
optimizer = "nesterov:rate=0.05"
iterations = 60
audit_every = 4
wait = "all"
target_excess = 1e-3
assignment = "uncoded:n=7"
encoding = "uncoded"
[conditions.q20]
stragglers = "bernoulli:q=0.2"
[conditions.slow]
stragglers = "slow-set:workers=0+1,factor=9"
wait = "fastest:5"
[runs]
uncoded-all = { m = 1, stragglers = "none", wait = "all" }
uncoded = { m = 1 }
uncoded-memory = { m = 1, memory = "auto" }
groups-m2 = { assignment = "groups:n=7,c=2", encoding = "frame" }
groups-m2-memory = { assignment = "groups:n=7,c=2", encoding = "frame", memory = "auto" }
"""


def test_the_table_is_that_of_the_run_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    monkeypatch.setattr(memory, "SWEEP", path)
    jobs = read_sweep(path, tmp_path / "runs", simulated=True)
    kept = [job for job in jobs if job.name != "groups-m2-slow"]
    figures = {
        (job.name, job.experiment.seed): gcmpi.simulate(
            job.experiment, output=job.output, share=True
        ).figures
        for job in kept
    }
    monkeypatch.setattr(
        "sys.argv",
        ["memory", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "a.png")],
    )
    assert memory.main() == 0
    lines = capsys.readouterr().out.splitlines()
    full = [figures[f"uncoded-all-{q}", s].iterations_to_target for q in ("q20",) for s in range(3)]
    assert f"# q20: uncoded-all needs {np.median(full):.0f} iterations (median of 3 seeds)" in lines
    rows = [line for line in lines if line.startswith("  ")]
    assert [row.split()[0] for row in rows] == ["uncoded", "groups-m2"] * 2
    for row, condition in zip(rows, ("q20", "q20", "slow", "slow"), strict=True):
        name = f"{row.split()[0]}-memory-{condition}"
        mine = [figures[name, s].iterations_to_target for s in range(3)]
        shown = row[25 + memory.HALF + 2 :].split(maxsplit=1)[1]  # the half with memory
        if np.isinf(mine).any():
            assert f"{np.isinf(mine).sum()} of 3 never" in shown, row
        else:
            ratio = np.exp(np.mean(np.log(np.array(mine) / full)))
            assert shown.startswith(f"{ratio:.2f} ("), row
    assert rows[3].split()[1] == "-", "no complete run without memory"
    assert "# 27 runs of 30" in lines
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 1000


def test_without_runs_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["memory", "--runs", str(tmp_path)])
    assert memory.main() == 1
    assert "no complete run in" in capsys.readouterr().err
    names = {job.name for job in read_sweep(ROOT / "jobs" / "memory.toml", tmp_path)}
    assert {f"{name}-q20" for name in memory.DRAWN} <= names
    assert f"{memory.REFERENCE}-slow" in names


pytestmark = pytest.mark.filterwarnings("ignore:invalid value")
