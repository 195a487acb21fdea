"""The examples run as they say: under mpirun with 8 ranks, in an empty directory."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_is_one_for_each_kind_of_part():
    assert {path.stem for path in EXAMPLES} == {
        "coded_loop_torch", "own_code", "own_dataset", "own_jax_model", "own_stragglers",
        "own_torch_model",
    }  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(mpi: Run, path: Path):
    text = path.read_text()
    assert len(text.splitlines()) < 50
    says = ast.get_docstring(ast.parse(text)) or ""
    assert f"mpirun -n 8 python examples/{path.name}" in says
    for framework in ("torch", "jax"):
        if f"import {framework}" in text or f"from {framework}" in text:
            if importlib.util.find_spec(framework) is None:
                pytest.skip(f"{framework} is not installed: pip install {framework}")
            break
    done = mpi(8, path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VALID" in done.stdout
