"""The library's face: experiments of objects, runs over MPI and in one process, the frozen API."""

from __future__ import annotations

import inspect
import pydoc
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import gcmpi
from gcmpi.experiments.experiment import Experiment
from gcmpi.records import FIELDS
from tests import own_parts
from tests.conftest import Run
from tests.every import every

PYTHON = Path(sys.executable).name
CODE = gcmpi.Ensemble(gcmpi.assignments.projective_plane(2), m=2, encoding=own_parts.gaussian)
SMALL = {
    "problem": "softmax",
    "dataset": "mixture:rows=200,features=5",
    "iterations": 6,
    "audit_every": 2,
    "stragglers": "bernoulli:q=0.1",
    "wait": "deadline:0.05",
}


def test_a_run_has_every_column_theta_figures_and_a_file(tmp_path):
    run = gcmpi.simulate(gcmpi.Experiment(code=CODE, **SMALL))
    assert set(run) == {"iteration", *FIELDS}
    assert run["loss"].shape == (6,)
    assert np.isnan(run["loss"]).tolist() == [False, True, False, True, False, False]
    assert run["survivors"].shape == (6, 7)
    assert run.theta.shape == (12,)
    assert run.figures.loss == run["loss"][-1]
    assert run.figures.iterations == 6
    assert run.status == "complete"
    assert run.valid
    assert "\n" not in repr(run)
    assert "VALID" in repr(run)
    with pytest.raises(KeyError, match="no column 'los'; it has iteration, "):
        run["los"]
    path = run.save(tmp_path / "deep" / "run.h5")
    with pytest.raises(ValueError, match="overwrite=True"):
        run.save(path)
    run.save(path, overwrite=True)
    with h5py.File(path) as file:
        assert np.array_equal(file["final/theta"][()], run.theta)
        assert np.array_equal(file["code/A"][()], CODE.A)
        assert file.attrs["status"] == "complete"


def test_an_output_is_written_at_the_end_and_not_over_another(tmp_path):
    e = gcmpi.Experiment(code=CODE, **SMALL)
    gcmpi.simulate(e, output=tmp_path / "run.h5")
    assert (tmp_path / "run.h5").exists()
    with pytest.raises(ValueError, match="exists"):
        gcmpi.simulate(e, output=tmp_path / "run.h5")
    gcmpi.simulate(e, output=tmp_path / "run.h5", overwrite=True)


def test_texts_and_objects_are_the_same_experiment():
    texts = Experiment(assignment="projective-plane:order=2", encoding="stacked", m=2, **SMALL)
    objects = Experiment(
        code=gcmpi.Ensemble("projective-plane:order=2", m=2, encoding="stacked"), **SMALL
    )
    assert texts == objects
    assert objects.digest == texts.digest


def test_code_or_its_parts_never_both():
    with pytest.raises(ValueError, match="give code= or assignment=, encoding= and m="):
        Experiment(code=CODE, encoding="stacked")
    with pytest.raises(ValueError, match="not both: m stands beside"):
        Experiment(code=CODE, m=3)


def test_one_code_is_an_experiment_too():
    code = CODE.at(0)
    run = gcmpi.simulate(gcmpi.Experiment(code=code, **SMALL))
    assert np.array_equal(run.parts.shared.codes.at(3).B, code.B)
    curve = gcmpi.errors.curve(code, stragglers=[0, 1], draws=1, sets=7)
    assert curve.points[0].error.mean == pytest.approx(code.error(np.ones(7, dtype=bool)))


@every(
    "settings, message",
    [
        ({"iteration": 5}, "did you mean 'iterations'"),
        ({"rescale": "alhpa"}, "--rescale must be one of alpha, none"),
        ({"dtype": "float16"}, "--dtype must be one of float32, float64"),
        ({"wire": "int8"}, "--wire must be one of"),
        ({"iterations": 3.5}, "--iterations must be a whole number"),
        ({"m": "two"}, "--m must be a whole number"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**settings)
    assert Experiment(relabel="false", m="2") == Experiment()


def test_a_resumed_run_is_the_run(tmp_path):
    whole = gcmpi.simulate(gcmpi.Experiment(code=CODE, **SMALL))
    short = gcmpi.Experiment(code=CODE, **{**SMALL, "iterations": 3})
    gcmpi.simulate(short, output=tmp_path / "run.h5")
    e = gcmpi.Experiment(code=CODE, **SMALL)
    resumed = gcmpi.simulate(e, resume=tmp_path / "run.h5")
    assert np.array_equal(resumed.theta, whole.theta)
    assert resumed["iteration"].tolist() == list(range(6))
    with pytest.raises(ValueError, match="is complete after 6 iterations"):
        gcmpi.simulate(e, resume=tmp_path / "run.h5")
    other = gcmpi.Experiment(code=CODE, **{**SMALL, "iterations": 9}, seed=3)
    with pytest.raises(ValueError, match=r"another run \(seed = 0 there, seed = 3 here"):
        gcmpi.simulate(other, resume=tmp_path / "run.h5")


def test_a_fit_of_all_rows_is_valid():
    """Near the optimum messages are smaller than the rounding of the terms in them."""

    def exact(rng):
        X = rng.normal(size=(300, 4))
        return X, X @ [1.0, -2.0, 3.0, 0.5] + 2

    run = gcmpi.simulate(
        gcmpi.Experiment(
            assignment="projective-plane:order=2",
            encoding="harmonic",
            m=2,
            problem="least-squares",
            dataset=exact,
            optimizer="sgd:rate=0.2",
            iterations=300,
        )
    )
    assert run["loss"][-1] < 1e-9
    assert run.valid, run.problems


def test_observers_see_every_row():
    rows, lasts = [], []
    e = gcmpi.Experiment(code=CODE, **SMALL)
    gcmpi.simulate(e, observer=rows.append)
    gcmpi.simulate(e, observer=lambda _, last: lasts.append(last))
    assert [row.iteration for row in rows] == list(range(6))
    assert lasts == [False] * 5 + [True]


def test_ensembles_draw_what_runs_draw():
    run = gcmpi.simulate(gcmpi.Experiment(code=CODE, seed=4, **SMALL))
    again = gcmpi.Ensemble(CODE.A, 2, own_parts.gaussian, seed=4)
    assert np.array_equal(run.parts.shared.codes.at(0).B, again.at(3).B)
    redrawn = gcmpi.Ensemble(CODE.A, 2, own_parts.redrawn, seed=4)
    assert not np.array_equal(redrawn.at(0).B, redrawn.at(1).B)
    assert np.array_equal(redrawn.at(1).B, redrawn.at(1).B)
    assert "\n" not in str(CODE)
    assert "7 workers, 7 subsets, load 3, replication 3" in str(CODE)
    assert repr(CODE.at(0)) == "Code: 7 workers, 7 subsets, m=2, load 3, replication 3"


def test_a_relabelled_ensemble_is_the_one_that_a_run_draws():
    code = gcmpi.Ensemble(CODE.A, m=2, encoding="harmonic", seed=4, relabel=True)
    e = gcmpi.Experiment(code=code, **{**SMALL, "seed": 4})
    assert e.relabel
    assert gcmpi.Experiment(code=CODE, relabel=True, **SMALL).relabel
    codes = gcmpi.simulate(e).parts.shared.codes
    for t in (0, 3):
        assert np.array_equal(codes.at(t).B, code.at(t).B)
    assert not np.array_equal(code.at(0).B, code.at(3).B)
    assert np.array_equal(codes.fixed, code.fixed)


def test_a_matrix_is_an_encoding_too():
    B = gcmpi.encodings.stacked(CODE.A, 2)
    run = gcmpi.simulate(gcmpi.Experiment(code=gcmpi.Ensemble(CODE.A, m=2, encoding=B), **SMALL))
    assert np.array_equal(run.parts.shared.codes.at(0).B, B)


def test_the_face_is_frozen():
    """Names and parameters that programs rely on."""
    parameters = {
        "launch": ["e", "observer", "output", "overwrite", "resume"],
        "simulate": ["e", "observer", "output", "overwrite", "resume", "share"],
        "CodedLoop": ["rows", "initial", "code", "settings"],
        "Ensemble": ["A", "m", "encoding", "odds", "seed", "relabel", "assignment", "placement"],
        "Code": ["A", "B", "m"],
        "encoding": ["redrawn", "unbiased", "exact", "tolerant", "decoder", "theorem"],
        "assignment": ["vertex_transitive", "irregular"],
        "decoder": ["unbiased"],
    }
    for name, expected in parameters.items():
        assert list(inspect.signature(getattr(gcmpi, name)).parameters) == expected
    assert list(inspect.signature(gcmpi.errors.curve).parameters) == [
        "code", "stragglers", "sets", "draws", "seed", "progress",
    ]  # fmt: skip
    for name in gcmpi.__all__:
        assert getattr(gcmpi, name) is not None
    assert set(gcmpi.__all__) <= set(dir(gcmpi))
    with pytest.raises(AttributeError):
        gcmpi.nothing  # noqa: B018


def test_help_teaches():
    text = pydoc.render_doc(gcmpi, renderer=pydoc.plaintext)
    for word in ("gcmpi.launch(e)", "gcmpi.Ensemble(", "gcmpi.errors.curve(", "check_encoding"):
        assert word in text


SCRIPT = """
import gcmpi

def mine(A, m, rng, epsilon=0.1):
    return gcmpi.encodings.stacked(A, m) * rng.normal(1, epsilon, A.shape[1])

class Net:
    def __init__(self, features):
        self.d = features
        self.local = lambda x: x                     # cannot be pickled
    def initial(self, rng):
        return rng.normal(size=self.d)
    def loss(self, theta, X, Y):
        return float(((X @ theta - Y) ** 2).sum() / 2)
    def gradient(self, theta, X, Y, scale):
        return self.local(X.T @ (scale * (X @ theta - Y)))

code = gcmpi.Ensemble(gcmpi.assignments.projective_plane(2), m=2, encoding=mine)
for seed in (0, 1):
    e = gcmpi.Experiment(code=code, problem=Net, dataset="mixture:rows=200,features=5",
                         iterations=4, stragglers="none", wait="all", seed=seed, audit_every=1,
                         optimizer="sgd:rate=0.05")
    run = gcmpi.launch(e)
    if run:
        print(run)
        run.save(f"s{seed}.h5")
print("rank is over", flush=True)
"""


def test_several_runs_of_a_script_in_one_job(mpi: Run, alone: Run, tmp_path: Path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = mpi(8, "mine.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rank is over") == 8
    assert done.stdout.count("VALID") == 2
    parallel = []
    for seed in (0, 1):
        with h5py.File(tmp_path / f"s{seed}.h5") as file:
            assert file["environment"].attrs["command"] == f"mpirun -n 8 {PYTHON} mine.py"
            assert file["environment"].attrs["blas_threads"] == "1"
            assert "def mine(A, m, rng" in file["own/script"].asstr()[()]
            assert file["own/problem"].attrs["module"] == "__main__"
            parallel.append(file["final/theta"][()])
            (tmp_path / f"s{seed}.h5").rename(tmp_path / f"mpi{seed}.h5")
    done = alone("mine.py")
    assert done.returncode == 0, done.stderr
    assert (
        "one process, so the run is simulated on a virtual clock; over MPI: mpirun -n 8 python"
        in (done.stderr)
    )
    for seed, theta in enumerate(parallel):
        with h5py.File(tmp_path / f"s{seed}.h5") as file:
            np.testing.assert_allclose(file["final/theta"][()], theta, rtol=1e-5)
    done = alone("-m", "gcmpi.train", "--config", "s0.h5", "--simulate")
    assert done.returncode == 2
    assert "was made in a script" in done.stderr
    assert f"the run was started with: {PYTHON} mine.py" in done.stderr


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ("assignment='projective-plane:order=3'", "needs 14 ranks (1 server + 13 workers), not 8"),
        ("assignment='projective-plane:order=6'", "order=5 or 7"),
        ("assignment='projective-plane:order=2', seed=__import__('os').getpid()",
         "another experiment than rank 0 (seed = "),
        ("assignment='projective-plane:order=2', dataset='missing.npz'", "missing.npz"),
    ],
)  # fmt: skip
def test_a_script_that_is_refused_says_so_once(mpi: Run, tmp_path: Path, experiment, message):
    (tmp_path / "mine.py").write_text(
        f"import gcmpi\ngcmpi.launch(gcmpi.Experiment({experiment}))\n"
    )
    done = mpi(8, "mine.py", timeout=60)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("mine.py: ")]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr


RANK = "int(os.environ.get('PMI_RANK', os.environ.get('OMPI_COMM_WORLD_RANK', 0)))"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"if {RANK} == 3:\n    open('nofile')\n{SCRIPT}", "No such file or directory: 'nofile'"),
        (
            SCRIPT.replace("def initial(self, rng):", "def initial(self, rng):\n        1 / 0"),
            "problem __main__.Net raised ZeroDivisionError",
        ),
    ],
    ids=["before", "model"],
)
def test_failures_before_a_run_end_all_ranks(mpi: Run, tmp_path: Path, script, message):
    (tmp_path / "mine.py").write_text(f"import os\nimport gcmpi\n{script}")
    done = mpi(8, "mine.py", timeout=60)
    assert done.returncode != 0
    assert message in done.stderr


def test_a_refusal_that_a_script_catches_leaves_the_other_ranks_in_step(mpi: Run, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import gcmpi\n"
        "small = dict(assignment='projective-plane:order=2', iterations=2, problem='softmax',\n"
        "             dataset='mixture:rows=200,features=5')\n"
        "for settings in (dict(output='there.h5'), dict()):\n"
        "    try:\n"
        "        run = gcmpi.launch(gcmpi.Experiment(**small, seed=len(settings)), **settings)\n"
        "        print(run)\n"
        "    except ValueError as error:\n"
        "        print('refused:', error)\n"
    )
    (tmp_path / "there.h5").touch()
    done = mpi(8, "mine.py", timeout=60)
    assert done.returncode == 0, done.stderr
    assert "refused: output there.h5 exists" in done.stdout
    assert done.stdout.count("VALID") == 1


def test_an_exception_of_one_rank_ends_all(mpi: Run, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        SCRIPT.replace('print("rank is over", flush=True)', "if run:\n    {}['x']")
    )
    done = mpi(8, "mine.py", timeout=60)
    assert done.returncode != 0
    assert "KeyError: 'x'" in done.stderr
