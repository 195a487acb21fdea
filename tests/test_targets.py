"""Runs that end at a target, and workers on a virtual clock that share gradients."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import gcmpi
from gcmpi import records
from gcmpi.commands.train.command import main
from gcmpi.commands.train.options import read_request
from gcmpi.experiments.experiment import Experiment

SMALL = {
    "assignment": "groups:n=7,c=2",
    "encoding": "frame",
    "problem": "softmax:l2=0.05",
    "dataset": "mixture:rows=120,features=3",
    "dtype": "float64",
    "wire": "float64",
    "optimizer": "nesterov:rate=0.05",
    "stragglers": "bernoulli:q=0.2",
    "wait": "all",
    "iterations": 200,
    "audit_every": 5,
    "warmup": 2,
}
MEASURED = {"decode_seconds", "update_seconds", "seconds"}


def run(**settings):
    return gcmpi.simulate(Experiment(**{**SMALL, **settings}))


def test_a_run_ends_at_its_target_loss(tmp_path):
    """At the first audit that finds it; the figures say what it took."""
    whole = run()
    seen = np.isfinite(whole["loss"])
    target = float(whole["loss"][seen][1])
    cut = run(target_loss=target)
    assert cut.status == "complete"
    assert len(cut["loss"]) == 6
    np.testing.assert_array_equal(cut["loss"], whole["loss"][:6])
    f = cut.figures
    assert f.iterations_to_target == 6
    assert f.bytes_to_target == cut["bytes_up"].sum() == f.bytes_up
    assert f.seconds_to_target == cut["seconds"][-1]
    assert np.isnan(f.excess), "nobody knows the smallest loss"
    never = run(target_loss=target / 10, iterations=20).figures
    assert np.isinf(never.iterations_to_target)
    assert np.isnan(whole.figures.bytes_to_target)
    kept = records.read(cut.save(tmp_path / "a.h5")).target
    assert kept.loss == target
    assert np.isnan(kept.optimum)


def test_a_target_excess_is_measured_from_the_smallest_loss(tmp_path, monkeypatch):
    """Which a long run comes to; the file keeps it, and a resume ends where it would have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    long = run(iterations=1500, audit_every=1499, memory="1")
    cut = run(target_excess=1e-4)
    (kept,) = (tmp_path / "cache" / "gcmpi").glob("optimum-*.json")
    optimum = json.loads(kept.read_text())["loss"]
    assert optimum == pytest.approx(long["loss"][-1], rel=1e-10)
    losses = cut["loss"][np.isfinite(cut["loss"])]
    assert losses[-1] <= optimum * (1 + 1e-4) < losses[-2]
    assert 0 < cut.figures.excess <= 1e-4
    file = records.read(cut.save(tmp_path / "whole.h5"))
    assert (file.target.optimum, file.target.loss) == (optimum, optimum * (1 + 1e-4))

    half = Experiment(**{**SMALL, "target_excess": 1e-4, "iterations": 12})
    gcmpi.simulate(half, output=tmp_path / "half.h5")
    resumed = gcmpi.simulate(half.change({"iterations": 200}), resume=tmp_path / "half.h5")
    for name in resumed.keys() - MEASURED:
        # the last iteration of a run is always audited
        skip = [11] if name in ("loss", "accuracy", "check") or "error" in name else []
        np.testing.assert_array_equal(
            np.delete(resumed[name], skip, 0), np.delete(cut[name], skip, 0), err_msg=name
        )
    np.testing.assert_array_equal(resumed.theta, cut.theta)
    narrow = run(target_excess=1e-3, dtype="float32", wire="float32")
    assert narrow.figures.excess <= 1e-3


def test_what_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = [f"--set={name}={value}" for name, value in SMALL.items() if name != "iterations"]
    out = ["--simulate", "--output", str(tmp_path / "a.h5"), "--overwrite"]
    assert main([*words, *out, "--target-excess", "0.01", "--iterations", "200"]) == 0
    shown = capsys.readouterr().out
    result = json.loads(shown.splitlines()[-1].removeprefix("RESULT "))
    assert 0 < result["iterations_to_target"] == result["iterations"] < 200
    assert result["bytes_to_target"] == result["bytes_up"]
    assert 0 < result["excess"] <= 0.01
    assert "# target     loss 0." in shown
    assert ", 0.01 times the smallest, 0." in shown
    assert f"reached after {result['iterations']} iterations, 0." in shown
    assert main([*words, *out, "--target-excess", "1e-9", "--iterations", "9"]) == 0
    shown = capsys.readouterr().out
    assert "not reached in 9 iterations: the last loss is " in shown
    assert main([*words, *out, "--target-loss", "0.01", "--iterations", "3"]) == 0
    assert "# target loss 0.01: not reached in 3 iterations\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_loss": -1}, "--target-loss must be above 0 and finite, or 0 for no target"),
        ({"target_excess": float("inf")}, "--target-excess must be above 0 and finite"),
        (
            {"target_loss": 1, "target_accuracy": 0.5},
            "a run has one target, not --target-accuracy and --target-loss",
        ),
        ({"target_excess": 0.1, "problem": "mlp:hidden=3,l2=1"}, "problem mlp:.* --target-loss"),
        ({"target_excess": 0.1, "problem": "softmax"}, "give l2= to softmax"),
        ({"problem": "softmax:l2=-1"}, "l2 must be at least 0"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        run(**settings)


def test_workers_that_share_gradients_train_the_same(tmp_path):
    """Up to rounding, whatever the code, the batch and the model; a resume shares as before."""
    for settings in (
        {"assignment": "projective-plane:order=2", "encoding": "random-diagonal"},
        {"problem": "mlp:hidden=3", "batch": "0.5", "m": 3},
        {"assignment": "cyclic:n=7,delta=3", "encoding": "cyclic-repetition", "m": 1},
        {"problem": "tests.own_parts.Linear", "dataset": "tests.own_parts.blobs"},
    ):
        e = Experiment(**{**SMALL, "iterations": 30, "rescale": "none", **settings})
        alone, shared = gcmpi.simulate(e), gcmpi.simulate(e, share=True)
        np.testing.assert_allclose(shared.theta, alone.theta, rtol=1e-9, atol=1e-12)
        assert (shared["survivors"] == alone["survivors"]).all()
        assert shared.valid
    path = tmp_path / "a.h5"
    half = e.change({"iterations": 10})
    gcmpi.simulate(half, output=path, share=True)
    shutil.copy(path, tmp_path / "b.h5")
    assert records.read(path).shares
    resumed = gcmpi.simulate(e, resume=path)
    np.testing.assert_array_equal(resumed.theta, shared.theta)
    with pytest.raises(ValueError, match="--share is for workers in one process"):
        read_request(["--share"])
