"""The scripts of figures and tables at a small size; those of figures 3 to 5 compute once."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = {
    "figure3": ("mean", "corollary_1", "baseline"),
    "figure4": ("mean", "lemma_1_mean", "corollary_3"),
    "figure5": ("mean_signs", "lemma_2_signs", "baseline"),
}


def draw(name, folder, *options):
    command = [sys.executable, ROOT / "analysis" / f"{name}.py", "--sets", "6", *options]
    command += ["--results", folder / "results.h5", "--output", folder / "picture.png"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


@pytest.mark.parametrize("name", COLUMNS)
def test_a_figure_is_computed_once_and_drawn_from_its_file(name, tmp_path):
    pytest.importorskip("matplotlib")
    first = draw(name, tmp_path, "--draws", "3")
    assert "computed in" in first
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    with h5py.File(tmp_path / "results.h5") as file:
        s, columns = file["s"][...], {key: file[key][...] for key in file}
        assert file["claim_1"].dims[0][0] == file["s"]
    mean, lemma, above = (columns[key] for key in COLUMNS[name])
    assert (np.diff(s) > 0).all()
    # far apart at every s: 3 x 6 sets are enough to see it
    assert (mean < lemma + 1).all()
    assert (lemma <= above + 1e-9).all()
    (tmp_path / "picture.png").unlink()
    second = draw(name, tmp_path, "--draws", "3")
    assert "computed in" not in second
    assert (tmp_path / "picture.png").exists()
    assert second.splitlines()[:-1] == first.splitlines()[1:-1]
    if name == "figure3":
        assert "computed in" in draw(name, tmp_path, "--draws", "2")  # another setting


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("wires.py --iterations 1", 8),
        ("relabelling.py --iterations 6 --sets 5", 5),
        ("switching.py --iterations 12 --codes groups --output switching.png", 7),
    ],
)
def test_a_table_of_the_page_on_codes_is_printed(command, rows, tmp_path):
    pytest.importorskip("matplotlib")
    name, *options = command.split()
    done = subprocess.run(
        [sys.executable, ROOT / "analysis" / name, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == rows
    assert [path.name for path in tmp_path.iterdir()] == (
        ["switching.png"] if name == "switching.py" else []
    )
