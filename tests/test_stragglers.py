"""Straggler models: pure functions of (seed, iteration) with the laws that they claim."""

from __future__ import annotations

import numpy as np
import pytest

from gcmpi import testing
from gcmpi.cluster.stragglers import from_trace
from gcmpi.registry import STRAGGLERS
from tests.every import every

MODELS = [
    f"{part.name}:{','.join(f'{k}={v[0] if isinstance(v, tuple) else v}' for k, v in e.items())}"
    for part in STRAGGLERS
    for e in part.examples
    if part.name not in ("trace", "replay")  # they read files: tests/test_recording.py
]


def build(text: str, n: int = 40, seed: int = 7):
    return STRAGGLERS.build(text.rstrip(":"), n=n, seed=seed)


def sample(text: str, iterations: int = 400, n: int = 40) -> np.ndarray:
    model = build(text, n)
    return np.array([model.delays(t) for t in range(iterations)])


@pytest.mark.parametrize("text", MODELS)
def test_models_keep_the_laws_that_users_models_are_held_to(text):
    """Two ranks agree, in whatever order they ask; another seed gives other delays."""
    testing.check_stragglers(text.rstrip(":"), n=40, seed=7)


def test_bernoulli_rate():
    late = np.isinf(sample("bernoulli:q=0.25"))
    # 16,000 draws: the standard error is 0.0034
    assert late.mean() == pytest.approx(0.25, abs=0.015)
    assert late.std(axis=1).max() > 0


def test_rates_are_per_worker():
    rates = "+".join(["0"] * 20 + ["2"] * 20)
    late = np.isinf(sample(f"bernoulli:q=0.25,rates={rates}"))
    assert not late[:, :20].any()
    assert late[:, 20:].mean() == pytest.approx(0.5, abs=0.02)
    slow = sample(f"shifted-exponential:mean=0.1,shift=0.05,rates={rates}")
    assert (slow[:, :20] == 0).all()
    assert slow[:, 20:].min() >= 0.1
    for model in ("lognormal", "pareto"):
        ratio = sample(f"{model}:rates={rates}")[:, 20:] / sample(model)[:, 20:]
        np.testing.assert_allclose(ratio, 2)


def test_distributions():
    e = sample("shifted-exponential:mean=0.1,shift=0.05")
    assert e.min() >= 0.05
    assert e.mean() == pytest.approx(0.15, rel=0.03)
    assert (e - 0.05).std() == pytest.approx(0.1, rel=0.05)
    log = np.log(sample("lognormal:median=0.2,sigma=0.7"))
    assert log.mean() == pytest.approx(np.log(0.2), abs=0.02)
    assert log.std() == pytest.approx(0.7, rel=0.03)
    p = sample("pareto:scale=0.1,shape=2")
    # P(delay > x) = (1 + x / scale)^-shape
    for x in (0.1, 0.5, 1.0):
        assert (p > x).mean() == pytest.approx((1 + x / 0.1) ** -2, rel=0.12)


def test_markov_is_stationary_and_persistent():
    slow = sample("markov:q=0.2,stay=0.9,delay=3", iterations=2000) > 0
    assert slow.mean() == pytest.approx(0.2, abs=0.02)
    assert slow[:50].mean() == pytest.approx(0.2, abs=0.07), "stationary from the start"
    assert slow[1:][slow[:-1]].mean() == pytest.approx(0.9, abs=0.01)
    assert build("markov").unit == "compute"


def test_slow_set():
    delays = sample("slow-set:workers=0+3,factor=5", iterations=3, n=5)
    np.testing.assert_array_equal(delays, np.tile([4, 0, 0, 4, 0], (3, 1)))


@every(
    "text, pattern",
    [
        ("bernoulli:q=1.5", r"probabilities in \[0, 1\]"),
        ("bernoulli:q=0.6,rates=1+2+1", "largest 1.2"),
        ("bernoulli:rates=1+2", "rates must be n = 3 numbers"),
        ("shifted-exponential:mean=-1", "mean >= 0"),
        ("pareto:shape=0", "shape > 0"),
        ("markov:stay=1", "stay in"),
        ("markov:q=0.9,stay=0.5", "stay >= 0.889"),
        ("slow-set:workers=3", "workers are 0 to 2, not 3"),
        ("slow-set:factor=0.5", "factor >= 1"),
        ("bernouli", "did you mean 'bernoulli'"),
    ],
)
def test_refusals(text, pattern):
    with pytest.raises(ValueError, match=pattern):
        STRAGGLERS.build(text, n=3, seed=0)


def test_trace():
    """The fastest entry is a worker in time; NaN is silence; columns repeat with rows rotated."""
    seconds = np.array([[1.0, 2.0], [4.0, np.nan], [1.5, 1.0]])
    table = from_trace(seconds, n=2)
    np.testing.assert_array_equal(table.table, [[0, 1], [3, np.inf], [0.5, 0]])
    np.testing.assert_array_equal(table.delays(4), table.delays(1))
    np.testing.assert_array_equal(
        from_trace(seconds, 2, unit="compute", scale=2).table[1], [6, np.inf]
    )
    wide = from_trace(seconds, n=5).table
    assert wide.shape == (3, 5)
    np.testing.assert_array_equal(wide[:, :2], table.table)
    np.testing.assert_array_equal(np.sort(wide[:, 2]), np.sort(table.table[:, 0]))
    for bad in (np.zeros((2, 2)), np.full((2, 2), np.nan), np.ones(3)):
        with pytest.raises(ValueError, match="a trace must"):
            from_trace(bad, n=2)
