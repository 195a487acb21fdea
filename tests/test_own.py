"""Parts of a user's own: found by a dotted name or handed over, refused in one sentence."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import gcmpi
from gcmpi import importing
from gcmpi import records as recording
from gcmpi.codes.ensemble import Ensemble
from gcmpi.experiments.experiment import Experiment
from gcmpi.registry import (
    ASSIGNMENTS,
    DATASETS,
    ENCODINGS,
    PROBLEMS,
    STRAGGLERS,
    WAITING,
    OwnPartError,
    Spec,
)
from tests import own_parts
from tests.conftest import ROOT, Run
from tests.every import every
from tests.test_train_command import refused

OWN = "tests.own_parts"
SMALL: dict[str, Any] = {
    "assignment": "projective-plane:order=2",
    "encoding": "stacked",
    "m": 1,
    "problem": "softmax",
    "optimizer": "sgd:rate=0.01",
    "dataset": "mixture:rows=200,features=5",
    "iterations": 4,
    "audit_every": 1,
    "stragglers": "none",
    "wait": "all",
}
TINY = ("--assignment", "projective-plane:order=2", "--problem", "softmax", "--dataset",
        "mixture:rows=200,features=5", "--smoke")  # fmt: skip


def test_a_dotted_name_is_imported_and_its_options_are_read_by_annotation_or_default():
    A = gcmpi.assignments.projective_plane(2)
    spec = ENCODINGS.parse(f"{OWN}.gaussian:epsilon=0.3")
    assert str(spec) == f"{OWN}.gaussian:epsilon=0.3"
    rng = np.random.default_rng(0)
    B = ENCODINGS.build(spec, A=A, m=2, rng=rng, odds=None)
    assert np.array_equal(B, own_parts.gaussian(A, 2, np.random.default_rng(0), 0.3))
    assert ASSIGNMENTS.parse(f"{OWN}.ring:5") == Spec(f"{OWN}.ring", {"n": 5})
    assert ENCODINGS[f"{OWN}.redrawn"].promises.redrawn
    assert not ENCODINGS[f"{OWN}.gaussian"].promises.redrawn


@every(
    "registry, text",
    [(WAITING, "0.1"), (DATASETS, "digits.npz"), (STRAGGLERS, "x.csv"), (ENCODINGS, "a/b.c"),
     (ENCODINGS, "tests.own-parts.x"), (ENCODINGS, ".x")],
)  # fmt: skip
def test_numbers_and_files_are_not_imported(registry, text):
    with pytest.raises(ValueError, match="unknown") as refusal:
        registry.parse(text)
    assert not isinstance(refusal.value, OwnPartError)


def test_a_name_that_is_an_existing_file_is_a_file(tmp_path, monkeypatch):
    assert importing.is_dotted("own.digits")
    monkeypatch.chdir(tmp_path)
    Path("own.digits").touch()
    assert not importing.is_dotted("own.digits")


def test_objects_are_adopted_by_the_name_that_imports_them():
    assert ENCODINGS.adopt(own_parts.gaussian).name == f"{OWN}.gaussian"
    assert STRAGGLERS.adopt(own_parts.Late).name == f"{OWN}.Late"
    assert PROBLEMS.adopt(own_parts.net).name == f"{OWN}.net", "an instance: by its variable"
    assert ENCODINGS.adopt(gcmpi.encodings.random_diagonal) == Spec("random-diagonal")
    dotted = "gcmpi.encodings.random_diagonal"
    assert ENCODINGS[dotted].promises.redrawn, "a part of ours keeps its promises"


def test_what_cannot_be_imported_is_adopted_for_this_process():
    A = gcmpi.assignments.projective_plane(2)
    first, second = ASSIGNMENTS.adopt(A.copy()), ASSIGNMENTS.adopt(A.copy())
    assert first == second, "matrices are known by their content"
    assert first.name.startswith("__main__.matrix_")
    assert np.array_equal(ASSIGNMENTS.build(first), A)
    one, two = (lambda A, m: np.tile(A, (m, 1)) for _ in range(2))
    names = [ENCODINGS.adopt(one).name, ENCODINGS.adopt(two).name, ENCODINGS.adopt(one).name]
    assert names[0] == names[2] != names[1]
    assert ENCODINGS.parse(names[0]) == Spec(names[0])
    for name in ("unheard_of", "lambda-7"):
        with pytest.raises(OwnPartError, match="was made in a script"):
            ENCODINGS.parse(f"__main__.{name}")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("assignment", f"{OWN}.ring:n=5"),
        ("encoding", f"{OWN}.gaussian"),
        ("encoding", f"{OWN}.redrawn:epsilon=0.2"),
        ("decoder", f"{OWN}.plain_decoder"),
        ("stragglers", f"{OWN}.Late:mean=0.02"),
        ("stragglers", f"{OWN}.late_now"),
        ("stragglers", f"{OWN}.table"),
        ("wait", f"{OWN}.rule:seconds=0.03"),
        ("wait", f"{OWN}.CountingRule:count=4"),
        ("optimizer", f"{OWN}.step:rate=0.05"),
        ("optimizer", f"{OWN}.Heavy"),
        ("compression", f"{OWN}.Half"),
        ("dataset", f"{OWN}.blobs:rows=150"),
        ("problem", f"{OWN}.Linear"),
    ],
)
def test_every_kind_of_part_can_be_a_users_own(setting, text):
    run = gcmpi.simulate(Experiment(**{**SMALL, setting: text}))
    assert run.valid, run.problems
    assert getattr(run.experiment, setting) == text
    assert run.experiment.own.keys() == {setting}
    if setting not in ("compression",):
        assert run["loss"][-1] < run["loss"][0]


def test_own_parts_equal_ours():
    """The same mathematics under a user's name gives the same run."""
    ours = gcmpi.simulate(
        Experiment(**{**SMALL, "decoder": "least-squares", "optimizer": "sgd:rate=0.1"})
    )
    own = {"decoder": own_parts.plain_decoder, "optimizer": own_parts.step,
           "encoding": gcmpi.encodings.stacked}  # fmt: skip
    theirs = gcmpi.simulate(Experiment(**{**SMALL, **own}))
    assert np.array_equal(ours.theta, theirs.theta)


REFUSALS = [
    ("encoding", "wrong_shape", "must give a matrix of shape (m*k, n) = (7, 7), where row u*k + j "
     "is part u of subset j, not (3, 3)"),
    ("encoding", "outside", "gives worker"),
    ("encoding", "raises", "raised KeyError: 'missing' ("),
    ("encoding", "positional", "must take 'A' by name"),
    ("encoding", "needs_option", "needs ridge"),
    ("encoding", "absent", "has no 'absent'"),
    ("encoding", "gaussian:epsilo=1", "did you mean 'epsilon'"),
    ("encoding", "gaussian:epsilon=big", "epsilon must be a number, not 'big'"),
    ("assignment", "not_a_matrix", "must give a (k, n) matrix of zeros and ones"),
    ("stragglers", "negative", "delays must be at least 0"),
    ("optimizer", "bad_step", "must return parameters of shape (12,), not (1,)"),
    ("wait", "bad_rule", "remaining must be seconds"),
    ("decoder", "bad_decoder", "must leave zeros in the rows of stragglers"),
    ("problem", "NoLoss", "has no loss"),
    ("problem", "MeanLoss", "must be the SUM"),
    ("dataset", "bad_data", "(3, 2)"),
]  # fmt: skip


@every("setting, name, message", REFUSALS)
def test_what_cannot_be_used_is_refused_in_one_sentence_that_names_it(setting, name, message):
    with pytest.raises(ValueError, match=r"\w") as refusal:
        gcmpi.simulate(Experiment(**{**SMALL, setting: f"{OWN}.{name}"}))
    text = str(refusal.value)
    assert message in text
    assert name.partition(":")[0] in text
    assert "\n" not in text
    if name == "raises":
        line = Path(own_parts.__file__).read_text().splitlines().index('    return {}["missing"]')
        assert text.endswith(f"({own_parts.__file__}, line {line + 1})")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def f(:\n", "cannot import broken_module: SyntaxError"),
        ("import not_installed_anywhere\n", "No module named 'not_installed_anywhere' ("),
        ("1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("x = 3\n", "has no 'f'"),
    ],
)
def test_modules_that_cannot_be_imported(tmp_path, monkeypatch, content, message):
    (tmp_path / "broken_module.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_module", raising=False)
    with pytest.raises(OwnPartError) as refusal:
        ENCODINGS.parse("broken_module.f")
    assert message in str(refusal.value)
    assert "broken_module" in str(refusal.value)
    monkeypatch.delitem(sys.modules, "broken_module", raising=False)


def test_a_declared_theorem_bounds_the_curve():
    code = gcmpi.Ensemble("projective-plane:order=2", 2, f"{OWN}.redrawn")
    curve = gcmpi.errors.curve(code, stragglers=[0, 2], draws=3, sets=10)
    assert [p.bound.mean for p in curve.points if p.bound] == [14.0, 14.0]
    assert "mean" in str(curve)


def test_an_encoding_that_promises_nothing_is_drawn_once_and_not_rescaled():
    A = gcmpi.assignments.projective_plane(2)
    book = Ensemble(A, 2, Spec(f"{OWN}.gaussian"), seed=3)
    assert book.fixed is not None
    assert Ensemble(A, 2, Spec(f"{OWN}.redrawn"), seed=3).fixed is None


def test_the_run_file_knows_where_parts_come_from(tmp_path):
    script = hashlib.sha256(Path(own_parts.__file__).read_bytes()).hexdigest()
    run = gcmpi.simulate(Experiment(**{**SMALL, "encoding": own_parts.gaussian}))
    path = run.save(tmp_path / "run.h5")
    with h5py.File(path) as file:
        part = dict(file["own/encoding"].attrs)
    assert part == {"module": OWN, "file": own_parts.__file__, "sha256": script}
    assert recording.read(path).changed(run.experiment.own) == []


def test_a_rule_that_would_wait_for_ever_is_refused():
    for rule in (lambda answered, elapsed: 0.2, lambda answered: 1):
        with pytest.raises(OwnPartError, match="it must fall as elapsed grows"):
            gcmpi.simulate(Experiment(**{**SMALL, "wait": rule}))


def test_a_module_that_exits_is_told(tmp_path, monkeypatch):
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit(5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OwnPartError, match="cannot import leaving_module: SystemExit: 5"):
        ENCODINGS.parse("leaving_module.f")


def test_a_model_must_know_the_last_label():
    class Two(own_parts.Linear):
        def loss(self, theta, X, Y):
            return super().loss(theta, X, Y) + float(sum([0.0, 0.0][label] for label in Y))

    with pytest.raises(OwnPartError, match="IndexError: list index out of range"):
        gcmpi.simulate(Experiment(**{**SMALL, "dataset": own_parts.blobs, "problem": Two}))


# ---- commands: under mpirun and in one process, in an empty directory -----------------------


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The user's module in the working directory of the commands."""
    return Path(shutil.copy(own_parts.__file__, tmp_path / "mine.py"))


ALL = ("--encoding", "mine.gaussian:epsilon=0.3", "--assignment", "mine.ring:n=7",
       "--problem", "mine.Linear", "--dataset", "mine.blobs", "--stragglers", "mine.late_now",
       "--wait", "mine.rule:0.2", "--optimizer", "mine.Heavy", "--decoder", "mine.plain_decoder",
       "--compression", "mine.Half", "--smoke", "--m", "1")  # fmt: skip


def test_all_own_over_mpi_replayed_and_resumed(train: Run, alone: Run, module: Path, tmp_path):
    done = train(8, *ALL, "--output", "a.h5")
    assert done.returncode == 0, done.stdout + done.stderr
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["own"]) == 9
        assert file["environment"].attrs["command"].startswith("mpirun -n 8 python")
    replay = train(8, "--config", "a.h5", "--stragglers", "none", "--output", "b.h5")
    assert replay.returncode == 0, replay.stdout + replay.stderr
    assert "has changed" not in replay.stdout
    module.write_text(module.read_text() + "\n# another content\n")
    resumed = train(8, "--resume", "b.h5", "--iterations", "8")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert resumed.stdout.count("has changed since the run (SHA-256") == 1
    with h5py.File(tmp_path / "b.h5") as file:
        environment = dict(file["environment"].attrs)
        assert "--resume b.h5" in file["environment/resumed_1"].attrs["command"]
        assert file["environment/resumed_1"].attrs["iteration"] == "5"
        assert len(file["iterations/loss"]) == 8
    assert "--config a.h5" in environment["command"]
    (tmp_path / "elsewhere").mkdir()
    module.rename(tmp_path / "elsewhere" / "mine.py")
    line = refused(alone("-m", "gcmpi.train", "--config", "b.h5", "--simulate"))
    assert "no module 'mine'" in line
    assert f"the run had it from {module}" in line


def test_a_worker_that_cannot_make_its_part_is_named(train: Run, module: Path):
    module.write_text(
        module.read_text() + "\nimport os\n\ndef elsewhere(features):\n"
        "    if os.environ.get('PMI_RANK', os.environ.get('OMPI_COMM_WORLD_RANK')) == '3':\n"
        "        raise OSError('no such device')\n    return Linear(features)\n"
    )
    done = train(8, *TINY, "--problem", "mine.elsewhere", timeout=60)
    line = refused(done)
    assert "rank 3 (worker 2): problem mine.elsewhere raised OSError: no such device" in line


def test_refusals_under_mpirun(train: Run, module: Path, tmp_path: Path):
    line = refused(train(8, *TINY, "--encoding", "mine.raises", timeout=60))
    assert "mine.raises raised KeyError" in line
    assert not (tmp_path / "runs").exists()


def test_codes_and_sweeps_know_own_parts(alone: Run, mpirun: str, module: Path, tmp_path: Path):
    plane = ("--assignment", "mine.ring", "--encoding", "mine.redrawn", "--m", "2")
    done = alone("-m", "gcmpi.codes", "error", *plane, "--draws", "2", "--sets", "5")
    assert done.returncode == 0, done.stderr
    assert "mine.ring + mine.redrawn, m=2" in done.stdout
    done = alone("-m", "gcmpi.codes", "show", *plane)
    assert "redrawn in every iteration" in done.stdout
    (tmp_path / "two.toml").write_text(
        "[common]\nassignment = 'mine.ring'\nm = 1\nproblem = 'softmax'\niterations = 4\n"
        "dataset = 'mixture:rows=200,features=5'\nwait = 'all'\nstragglers = 'none'\n"
        "[runs.one]\nencoding = 'mine.gaussian:epsilon=0.2'\n"
        "[runs.two]\nencoding = 'mine.redrawn'\n"
    )
    done = alone("-m", "gcmpi.sweep", "two.toml", "--launcher", f"{mpirun} -n {{ranks}}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "runs" / "two").glob("*.h5"))) == 2
    again = alone("-m", "gcmpi.sweep", "two.toml", "--launcher", f"{mpirun} -n {{ranks}}")
    assert "2 done, 0 to run" in again.stdout


def test_pythonpath_works(alone: Run, tmp_path: Path):
    (tmp_path / "lib").mkdir()
    shutil.copy(own_parts.__file__, tmp_path / "lib" / "their.py")
    run = ("-m", "gcmpi.train", *TINY, "--simulate", "--encoding", "their.gaussian")
    assert "no module 'their'" in refused(alone(*run))
    path = f"{ROOT}:{tmp_path / 'lib'}"
    done = alone(*run, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


def test_data_that_have_changed_are_told(alone: Run, tmp_path: Path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 2
    np.savez(tmp_path / "d.npz", X=X, y=y)
    run = ("-m", "gcmpi.train", "--simulate", *TINY, "--dataset", "d.npz", "--output", "a.h5")
    assert alone(*run).returncode == 0
    again = ("-m", "gcmpi.train", "--simulate", "--config", "a.h5", "--output")
    assert "has changed" not in alone(*again, "b.h5").stdout
    np.savez(tmp_path / "d.npz", X=2 * X, y=y)
    assert "d.npz (dataset) has changed since the run" in alone(*again, "c.h5").stdout
