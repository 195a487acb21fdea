"""`gcmpi.CodedLoop`: the loop and the framework are the user's, the rest is as in any run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

import gcmpi
from gcmpi.environment import OneRankError
from gcmpi.experiments.questions import parts
from gcmpi.experiments.steps import Encoder, Share, Step
from gcmpi.learning.batches import Sampling
from gcmpi.registry import OPTIMIZERS
from tests import own_loop
from tests.conftest import ROOT, Run

RANKS = 4
EXAMPLE = ROOT / "examples" / "coded_loop_torch.py"
NEEDED = "import numpy as np\nimport gcmpi\nfrom tests.own_loop import *\n"


@pytest.fixture
def script(mpi: Run, tmp_path: Path):
    """Run a script under mpirun; its last words are those of a failed assertion, if any."""

    def run(text: str, timeout: float = 90):
        (tmp_path / "mine.py").write_text(NEEDED + textwrap.dedent(text))
        return mpi(RANKS, "mine.py", timeout=timeout)

    return run


def well(done) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def one_sentence(done) -> str:
    """Return the only line of a refusal."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    words = (line.strip("\0 ") for line in done.stderr.splitlines())  # Open MPI adds some
    lines = [line for line in words if line.startswith("mine.py: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_equals_one_process_on_the_same_mini_batches(script, tmp_path):
    well(
        script("""
        mine = loop(seed=3)
        if mine.server:
            np.save("theta.npy", mine.serve().theta)
        work(mine, batch=8)
    """)
    )
    e = gcmpi.Experiment(seed=3)
    optimizer = OPTIMIZERS.build("momentum:rate=0.2")
    theta, share = own_loop.initial(), _share(3)
    for t in range(20):
        g = np.zeros(own_loop.D)
        for j, rows in enumerate(share.rows):
            batch = Sampling(e.seed).generator(t, j).choice(rows, 8, replace=False)
            scale = len(rows) / (8 * own_loop.ROWS)
            g += scale * own_loop.gradient(theta, own_loop.X[batch], own_loop.Y[batch])
        theta = optimizer.step(theta, g.astype(np.float32), t)
    ours = np.load(tmp_path / "theta.npy")
    assert ours.dtype == np.float32
    assert np.linalg.norm(ours - theta) <= 1e-6 * np.linalg.norm(theta)


def test_audits_are_those_of_an_ordinary_run(script):
    """Silent workers, a code that is redrawn, m chosen anew, two loops in one job."""
    well(
        script("""
        settings = {"stragglers": "bernoulli:q=0.3", "encoding": "random-diagonal", "seed": 4,
                    "switch": "observed:tolerance=0.3", "dtype": "float64"}
        for more in ({}, {"wire": "float32", "rescale": "none", "seed": 5},
                     {"memory": 0.5, "seed": 6}):
            mine = loop(**{**settings, **more})
            run = mine.serve() if mine.server else work(mine)
            usual = gcmpi.launch(mine.experiment.change({"problem": Problem, "dataset": data}))
            if run:
                assert run.valid and not run.problems, run
                assert (run["m"] == 1).any() or more
                for name in ("loss", "accuracy", "gradient_error", "check", "survivors", "m",
                             "divisor", "approximation_error", "bytes_up"):
                    np.testing.assert_allclose(run[name], usual[name], rtol=1e-6, err_msg=name)
                np.testing.assert_allclose(run.theta, usual.theta, rtol=1e-6, atol=1e-9)
                assert (run["check"] == 1).sum() == 5
                assert np.isnan(run["full_gradient_error"]).all()
                assert run["loss"][-1] < run["loss"][0]
    """)
    )


def test_stragglers_are_late_and_the_server_needs_no_framework(script, tmp_path):
    (tmp_path / "framework.py").write_text("from tests.own_loop import *\n")
    (tmp_path / "slow.py").write_text(
        "import numpy as np\ndef slow(n, seed, t):\n    return np.array([0.05, 0, 0])\n"
    )
    well(
        script("""
        import sys
        mine = loop(stragglers="slow.slow", wait="fastest:2", iterations=12)
        if mine.server:
            run = mine.serve(output="run.h5")
            assert "framework" not in sys.modules
            assert run["survivors"].sum(axis=1).tolist() == [2] * 12
            assert run["survivors"][:, 0].sum() < 6
            assert run.figures.stale_messages > 0
            assert run.valid, run
            assert np.isfinite(run["loss"]).sum() == 4
        else:
            import framework
            turns = []
            for step in mine:
                turns.append((step.t, step.timed, step.audit))
                for j in step.subsets:
                    g = framework.gradient(step.theta, X[mine.rows[j]], Y[mine.rows[j]])
                    step.add(j, g, step.scale(j, len(mine.rows[j])))
                if step.audit:
                    assert not step.subsets and not step.timed
                    step.report(loss=framework.loss(step.theta, X[step.rows], Y[step.rows]))
            assert turns[0] == (0, False, False)                    # the rehearsal
            assert [t for t, _, audit in turns if audit] == [0, 5, 10, 11]
            timed = [t for t, timed, _ in turns if timed]
            assert timed == sorted(set(timed))
            assert len(timed) == 12 or mine.worker == 0
    """)
    )
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["status"] == "complete"
        assert "def slow" not in file["own/script"].asstr()[()]
        assert "mine.serve(" in file["own/script"].asstr()[()]
        assert file["own/problem"].attrs["module"] == "__main__"


def test_a_loop_goes_on_where_it_was_interrupted(script):
    well(
        script("""
        theta = {}
        for name, settings, how in (
            ("whole", {"iterations": 12}, {}),
            ("half", {"iterations": 6}, {"output": "run.h5"}),
            ("rest", {"iterations": 12}, {"resume": "run.h5"}),
        ):
            mine = loop(**settings, compression="top-k:fraction=0.5", wire="float16")
            if mine.server:
                run = mine.serve(**how)
                theta[name] = run.theta
                assert len(run["loss"]) == settings["iterations"]
            work(mine, batch=8)
        if theta:
            assert np.array_equal(theta["rest"], theta["whole"])
            assert not np.allclose(theta["half"], theta["whole"])
        other = loop(seed=1, compression="top-k:fraction=0.5", wire="float16")
        if other.server:
            try:
                other.serve(resume="run.h5")
            except ValueError as error:
                assert "is of another run (seed = 0 there, seed = 1 here)" in str(error), error
        work(other)
        target = loop(target_accuracy=0.5, iterations=400)
        if target.server:
            rows = []
            run = target.serve(observer=rows.append)
            assert run["accuracy"][-1] >= 0.5 and len(rows) == len(run["loss"]) < 400
        work(target)
        silent = loop(iterations=3, compression="top-k:fraction=0.5", encoding="stacked")
        if silent.server:
            run = silent.serve()
            assert "not audited" in repr(run) and run.valid
            assert np.isnan(run["loss"]).all() and np.isfinite(run["gradient_error"]).any()
        work(silent, audited=False)
    """)
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("step.add(step.subsets[0], gradient(step.theta, X, Y))",
         r"rank \d \(worker \d\): CodedLoop, iteration 0: no gradient was added for \d"),
        ("[step.add(j, np.ones(D)) for j in step.subsets] if step.t < 2 else step.add(9, 1)",
         r"rank \d \(worker \d\): CodedLoop, iteration 2: add\(9, ...\) is about no subset"),
        ("if step.t == 3: break\n    for j in step.subsets: step.add(j, np.ones(D))",
         r"rank \d \(worker \d\) left its loop in iteration 3, so all ranks end here"),
    ],
)  # fmt: skip
def test_mistakes_end_all_ranks_with_one_sentence(script, body, message):
    # worker 1 alone makes them once the run has started: the others would say the same
    alone = "if mine.worker != 1 and step.t:\n" if "step.t" in body else ""
    usual = "        for j in step.subsets: step.add(j, np.ones(D))\n        continue\n    "
    text = f"""
mine = loop()
if mine.server:
    mine.serve()
for step in mine:
    {alone + usual if alone else ""}{body}
"""
    assert re.search(message, one_sentence(script(text)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine = loop()\nif mine.server: mine.serve()",
         "its script ended before its loop"),
        ("mine = loop(encoding='bibd')\nmine.serve() if mine.server else work(mine)",
         "encoding bibd sends whole gradients"),
        ("mine = loop(initial=lambda: [[1.0]])\n"
         "mine.serve() if mine.server else work(mine)",
         "rank 1 (worker 0): initial() must return the initial parameters"),
        ("mine = loop(assignment='projective-plane:order=2')",
         "needs 8 ranks (1 server + 7 workers), not 4"),
        ("mine = loop()\nwork(mine)", "the server has not served"),
    ],
)  # fmt: skip
def test_what_cannot_start_is_said_once(script, text, message):
    assert message in one_sentence(script(text))


def test_an_exception_in_the_body_ends_all_ranks(script):
    done = script("""
        mine = loop()
        if mine.server:
            mine.serve()
        for step in mine:
            for j in step.subsets:
                step.add(j, np.ones(D))
            if step.t == 2 and mine.worker == 2:
                {}["wrong"]
    """)
    assert done.returncode not in (0, 2)
    assert "KeyError: 'wrong'" in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problem": "mlp"}, "has no setting problem: the loop that you write is the problem"),
        ({"dataset": "mnist-10k"}, "has no setting dataset: give rows="),
        ({"batch": 0.1}, r"has no setting batch: choose rows yourself with step.rng\(j\)"),
        ({"iteration": 3}, "did you mean 'iterations'"),
        ({"rows": 0}, "needs rows=, how many training rows there are, not 0"),
        ({"rows": 2}, "3 subsets need at least 3 training rows, not 2"),
        ({"encoding": "partial-stragglers"}, "a CodedLoop cannot use partial-stragglers"),
        ({}, r"needs 4 ranks \(1 server \+ 3 workers\): mpirun -n 4 "),
    ],
)  # fmt: skip
def test_refusals(settings, message):
    usual = {"rows": 90, "initial": own_loop.initial, "assignment": own_loop.A}
    with pytest.raises(ValueError, match=message):
        gcmpi.CodedLoop(**{**usual, **settings})


def test_code_is_an_ensemble():
    code = gcmpi.Ensemble(own_loop.A, m=2, encoding="harmonic")
    with pytest.raises(ValueError, match="mpirun -n 4"):
        gcmpi.CodedLoop(90, own_loop.initial, code=code)
    with pytest.raises(ValueError, match="not both"):
        gcmpi.CodedLoop(90, own_loop.initial, code=code, m=3)


def _share(seed: int, k: int = 3) -> Share:
    """Return the rows as a run with this seed cuts them."""
    from gcmpi import seeds
    from gcmpi.learning import partition

    order = seeds.generator(seed, seeds.DATA).permutation(own_loop.ROWS)
    rows = tuple(np.sort(order[part]) for part in partition(own_loop.ROWS, k))
    return Share(rows, own_loop.ROWS, Sampling(seed))


def _step(d: int = 5, subsets=(0, 2), **more) -> tuple[Step, Encoder]:
    encoder = Encoder(2, d, np.float32, subsets)
    encoder.begin(np.array([[1.0, 2.0], [3.0, 0.5]])[:, : len(subsets)])
    theta = np.zeros(d, np.float32)
    step = Step(4, 2, theta, subsets, _share(0), encoder.take, OneRankError, **more)
    return step, encoder


def test_a_step_makes_the_coded_message():
    step, encoder = _step()
    g = np.arange(1.0, 6.0)
    step.add(2, 10 * g, scale=0.1)
    step.add(0, g.tolist())
    step.finish()
    padded = np.append(g, 0).reshape(2, 3)
    np.testing.assert_allclose(encoder.y, 3 * padded[0] + 3.5 * padded[1], rtol=1e-6)
    assert encoder.y.dtype == np.float32


def test_scales_make_batches_unbiased():
    step, _ = _step()
    sizes = [len(rows) for rows in _share(0).rows]
    assert step.scale(0, sizes[0]) == pytest.approx(1 / own_loop.ROWS)
    assert step.scale(0, 10) == pytest.approx(sizes[0] / 10 / own_loop.ROWS)
    again = _step()[0].rng(0).random(3)
    assert np.array_equal(step.rng(0).random(3), again)
    assert not np.array_equal(step.rng(2).random(3), again)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda step: step.add(1, np.ones(5)), r"add\(1, ...\) is about no subset .*: 0, 2"),
        (lambda step: [step.add(0, np.ones(5)) for _ in "12"], r"add\(0, ...\) was called twice"),
        (lambda step: step.add(0, np.ones(4)), r"gradient of d=5 numbers, shape \(5,\), not .*4"),
        (lambda step: step.add(0, ["a"] * 5), "needs a gradient of d=5 numbers"),
        (lambda step: step.add(0, [1, 2, np.nan, 4, 5]), "needs finite numbers.* 1 infinities"),
        (lambda step: step.scale(0, 0), "needs the number of rows in the sum, at least 1, not 0"),
        (lambda step: step.rng(1), r"rng\(1, ...\) is about no subset"),
        (lambda step: step.report(loss=1.0), "is for audits: call it under `if step.audit:`"),
        (lambda step: step.finish(), "no gradient was added for 0, 2 of the subsets 0, 2"),
    ],
)  # fmt: skip
def test_mistakes_in_a_step(mistake, message):
    with pytest.raises(ValueError, match=f"CodedLoop, iteration 4: .*{message}"):
        mistake(_step()[0])


def test_what_is_reported_must_be_numbers():
    step, _ = _step(subsets=(), audit=True)
    with pytest.raises(ValueError, match=r"report\(loss=...\) needs a number, not list"):
        step.report(loss=[1.0])


@pytest.mark.parametrize("assignment", ["projective-plane:order=3", "cyclic:n=7,delta=3"])
def test_every_subset_is_audited_by_one_holder(assignment):
    A = gcmpi.Ensemble(assignment, m=1).A
    taken = parts(A)
    assert sorted(j for part in taken for j in part) == list(range(len(A)))
    assert all(A[j, i] for i, part in enumerate(taken) for j in part)
    assert max(map(len, taken)) <= 2


def test_the_torch_example(mpi: Run, tmp_path: Path):
    pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    (tmp_path / "mine.py").write_text(
        "import runpy, sys\n"
        f"loop = runpy.run_path({str(EXAMPLE)!r})['loop']\n"
        "assert ('torch' in sys.modules) == (not loop.server)\n"
    )
    done = mpi(8, "mine.py", timeout=200)
    well(done)
    assert "VALID" in done.stdout
