"""Mini-batches: the same rows on every holder of a subset, unbiased, and equal to one process."""

from __future__ import annotations

import dataclasses
import json

import h5py
import numpy as np
import pytest

from gcmpi import records as recording
from gcmpi import seeds
from gcmpi.experiments.experiment import Experiment
from gcmpi.learning import partition, prepare
from gcmpi.learning.batches import Sampling, canonical
from tests import simulated
from tests.every import every
from tests.own_models import Four, with_own
from tests.test_training import EXACT, make, train


@every("given, stored", [
    ("1", "1"), ("1.0", "1"), (1, "1"), (1.0, "1"), (0.1, "0.1"), ("0.10", "0.1"), (".5", "0.5"),
    ("1e-2", "0.01"), ("rows:32", "rows:32"), (" rows:032 ", "rows:32"),
])  # fmt: skip
def test_texts(given, stored):
    assert canonical(given) == stored
    assert Experiment(batch=given).batch == stored


@every("given", [
    "0", "-0.1", "1.5", "32", "nan", "inf", "rows:0", "rows:-1", "rows:1.5", "rows:", "rows", "",
    "half", True, "rows:1e3",
])  # fmt: skip
def test_what_is_no_batch_is_refused(given):
    with pytest.raises(ValueError, match=r"--batch must be a fraction .* or a count .* not"):
        canonical(given)


def test_settings_take_numbers_and_keep_the_names_of_old_runs():
    plain = Experiment()
    assert Experiment.from_toml("batch = 0.25\n").batch == "0.25"
    assert Experiment.from_toml("batch = 1\n") == plain
    assert Experiment(batch="1.0").digest == plain.digest
    assert Experiment(batch="0.5").digest != plain.digest
    assert Experiment.from_toml(Experiment(batch="rows:8").toml).batch == "rows:8"
    with pytest.raises(ValueError, match="--batch must be"):
        Experiment.from_settings({"batch": True})


def test_more_rows_than_a_subset_has_are_refused():
    with pytest.raises(ValueError, match="rows:30 is more than the 22 rows of the smallest"):
        make(batch="rows:30")
    assert make(batch="rows:22").shared.sampling.size(22) == 22


def test_rows_of_a_batch():
    """Without replacement, other ones in every iteration and subset, each row equally often."""
    sampling = Sampling(5, "0.3")
    assert [Sampling(0, batch).size(10) for batch in ("0.3", "1e-9", "rows:4")] == [3, 1, 4]
    counts = np.zeros(10)
    for t in range(2000):
        rows = sampling.rows(t, 1, 10)
        assert len(set(rows)) == 3
        assert (np.diff(rows) > 0).all()
        counts[rows] += 1
    assert np.abs(counts - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)
    np.testing.assert_array_equal(rows, Sampling(5, "rows:3").rows(1999, 1, 10))
    drawn = {tuple(Sampling(s, "0.5").rows(t, j, 40)) for s, t, j in np.ndindex(2, 3, 3)}
    assert len(drawn) == 18
    assert Sampling(0, "rows:10").rows(0, 0, 10) is None


@pytest.mark.parametrize("kind", [None, Four])
def test_whole_batches_are_full_training_bit_for_bit(kind):
    states = []
    for batch in ("1", "1.0", "0.9999999"):  # the last one takes all rows too, by rounding
        run = make(batch=batch, iterations=5)
        states.append(train(run if kind is None else with_own(run, kind))[0].theta)
    np.testing.assert_array_equal(states[0], states[1])
    np.testing.assert_array_equal(states[0], states[2])


def batch_gradient(run, t, theta):
    """The gradient of one process on the batches of iteration t: each subset scaled to its size."""
    problem, data, sampling = run.shared.problem, run.dataset, run.shared.sampling
    X, Y = prepare(data.X, problem.dtype), problem.targets(data.y)
    total = np.zeros(problem.d)
    for j, rows in enumerate(partition(len(X), run.A.shape[0])):
        size = rows.stop - rows.start
        rng = seeds.generator(run.experiment.seed, seeds.BATCH, t, j)
        chosen = np.sort(rng.choice(size, sampling.size(size), replace=False, shuffle=False))
        chosen += rows.start
        scale = size / len(chosen) / len(X)
        total += problem.gradient(theta, X[chosen], Y[chosen], scale)
    return total


def one_process(run):
    """Descent without a code, on the same mini-batches."""
    theta, optimizer = run.theta, run.optimizer
    for t in range(run.experiment.iterations):
        theta = optimizer.step(theta, batch_gradient(run, t, theta), t)
    return theta


@pytest.mark.parametrize("settings", EXACT, ids=lambda s: f"{s['encoding']}-m{s['m']}")
@pytest.mark.parametrize("batch", ["0.3", "rows:7"])
@pytest.mark.parametrize("kind", [None, Four])
def test_exact_codes_equal_one_process_on_the_same_batches(settings, batch, kind):
    run = make(**settings, batch=batch)
    state, rows = train(run if kind is None else with_own(run, kind))
    np.testing.assert_allclose(state.theta, one_process(run), rtol=1e-10, atol=1e-12)
    assert all(row.check == 1 for row in rows)
    assert max(row.gradient_error for row in rows) < 1e-9, "against the batch's gradient"
    assert min(row.full_gradient_error for row in rows) > 1e-3, "against the full one"


def test_partial_work_equals_one_process():
    run = make(assignment="cyclic:n=6,delta=3", encoding="partial-stragglers", m=2, batch="rows:6")
    state, rows = train(run)
    np.testing.assert_allclose(state.theta, one_process(run), rtol=1e-9, atol=1e-11)
    assert all(row.check == 1 for row in rows)


def test_batches_are_unbiased():
    """The mean over many batches is the full gradient, though sizes of subsets differ by one."""
    run = make(batch="rows:5")
    problem, data = run.shared.problem, run.dataset
    theta = run.theta + 0.2
    X, Y = prepare(data.X, problem.dtype), problem.targets(data.y)
    full = problem.gradient(theta, X, Y, 1 / len(X))
    draws = np.array([batch_gradient(run, t, theta) for t in range(1500)])
    standard_error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.abs(draws.mean(axis=0) - full).max() < 5 * standard_error.max()
    assert len({rows.stop - rows.start for rows in partition(len(X), 7)}) == 2


@pytest.mark.parametrize("settings", [
    {"switch": "observed:tolerance=0.5", "stragglers": "bernoulli:q=0.3"},
    {"stragglers": "bernoulli:q=0.3", "wait": "deadline:0.02"},
    {"stragglers": "slow-set:workers=1,factor=2.5", "wait": "fastest:6"},
    {"encoding": "stacked", "m": 1, "relabel": True, "stragglers": "bernoulli:q=0.3"},
])  # fmt: skip
def test_batches_with_everything_else(settings):
    """Audits pass: server and workers draw the same rows for the same iteration."""
    _, rows = train(make(**settings, batch="0.2", iterations=15))
    assert all(row.check == 1 for row in rows)
    errors = np.array([[row.gradient_error, row.full_gradient_error] for row in rows])
    assert np.isfinite(errors).all()
    assert (errors[:, 0] != errors[:, 1]).all()


def test_batches_with_compression():
    same = {"assignment": "uncoded:n=5", "encoding": "uncoded", "m": 1, "iterations": 60,
            "optimizer": "sgd:rate=0.1", "batch": "0.5"}  # fmt: skip
    _, plain = train(make(**same))
    _, rows = train(make(**same, compression="top-k:fraction=0.5"))
    assert {row.check for row in rows} == {255}
    assert rows[-1].loss < 1.3 * plain[-1].loss


def test_without_batches_both_errors_are_the_same():
    _, rows = train(make(stragglers="bernoulli:q=0.3", iterations=8))
    assert all(row.full_gradient_error == row.gradient_error for row in rows)


def test_older_files_have_no_full_error(tmp_path):
    """A resumed run of an older version: the new column is NaN where nobody wrote it."""
    trained = simulated.train(stop_after=3)
    path = trained.save(tmp_path / "old.h5", status="interrupted")
    with h5py.File(path, "r+") as file:
        del file["iterations/full_gradient_error"]
    earlier = recording.read(path)
    assert "full_gradient_error" not in earlier.columns
    column = simulated.train(earlier).record.columns["full_gradient_error"]
    assert np.isnan(column[:4]).all()
    assert np.isfinite(column[6])


def test_a_run_over_mpi_follows_the_simulated_one(train, alone, tmp_path):
    """The same rows in other processes: same losses, up to the order of additions."""
    words = ("--assignment", "projective-plane:order=2", "--problem", "softmax", "--dataset",
             "mixture:rows=200,features=6", "--stragglers", "none", "--wait", "all", "--batch",
             "rows:6", "--iterations", "6", "--audit-every", "1", "--dtype", "float64", "--wire",
             "float64")  # fmt: skip
    over_mpi = train(8, *words, "--output", "mpi.h5")
    assert over_mpi.returncode == 0, over_mpi.stderr
    in_process = alone("-m", "gcmpi.train", *words, "--simulate", "--output", "simulated.h5")
    assert in_process.returncode == 0, in_process.stderr
    files = [recording.read(tmp_path / name) for name in ("mpi.h5", "simulated.h5")]
    for name in ("loss", "gradient_error", "full_gradient_error"):
        np.testing.assert_allclose(
            files[0].columns[name], files[1].columns[name], rtol=1e-9, atol=1e-12
        )
    assert json.loads(over_mpi.stdout.splitlines()[-1].removeprefix("RESULT "))["valid"]
    refused = alone("-m", "gcmpi.train", "--simulate", "--batch", "2")
    assert refused.returncode == 2
    assert "--batch must be a fraction" in refused.stderr


def test_sampling_is_a_value():
    assert Sampling(1, "0.5") == dataclasses.replace(Sampling(1), batch="0.50")
