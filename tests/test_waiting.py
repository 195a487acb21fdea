"""Stop rules: when the server stops waiting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gcmpi import Code
from gcmpi.encodings import random_diagonal
from gcmpi.registry import WAITING

CODE = Code(np.eye(8, dtype=int), np.eye(8), 1)


def answered(count: int, n: int = 8) -> np.ndarray:
    return np.arange(n) < count


def rule(text: str):
    built = WAITING.build(text)
    built.begin(CODE)
    return built


def test_all():
    assert rule("all").remaining(answered(7), 100.0) == math.inf
    assert rule("all").remaining(answered(8), 0.0) == 0


def test_fastest():
    three = rule("fastest:3")
    assert three.remaining(answered(2), 1.0) == math.inf
    assert three.remaining(answered(3), 1.0) == 0
    with pytest.raises(ValueError, match=r"fastest:9 needs 9 workers, but there are n=8"):
        rule("fastest:9")
    with pytest.raises(ValueError, match="count >= 1"):
        rule("fastest:0")


def test_covered_is_the_rule_of_erasurehead():
    """Groups 0-3 and 4-7 hold the same subsets: one answer of each, or four answers."""
    A = np.kron(np.eye(2, dtype=int), np.ones((4, 4), dtype=int))
    code = Code(A, np.zeros((8, 8)), 1)

    def stops(text: str, *workers: int) -> bool:
        r = WAITING.build(text)
        r.begin(code)
        left = r.remaining(np.isin(np.arange(8), workers), 1.0)
        assert left in (0, math.inf)
        return left == 0

    assert not stops("covered", 0, 1, 2, 3)
    assert stops("covered", 0, 7)
    assert not stops("covered:4", 0, 1, 2)
    assert stops("covered:4", 0, 1, 2, 3)
    assert stops("covered:4", 3, 4)
    assert not stops("covered:copies=2", 0, 1, 4)
    assert stops("covered:copies=2", 0, 1, 4, 6)
    for text, sentence in (
        ("covered:0", "count and copies >= 1"),
        ("covered:copies=0", "count and copies >= 1"),
        ("covered:9", "covered:9 needs 9 workers, but there are n=8"),
        ("covered:copies=5", "copies=5 needs every subset on so many workers; one is on 4"),
    ):
        with pytest.raises(ValueError, match=sentence):
            stops(text)


def test_deadline():
    half = rule("deadline:0.5")
    assert half.remaining(answered(0), 0.2) == pytest.approx(0.3)
    assert half.remaining(answered(0), 0.6) == 0
    assert half.remaining(answered(8), 0.1) == 0, "nobody is left to wait for"
    patient = rule("deadline:seconds=0.5,at_least=2")
    assert patient.remaining(answered(1), 0.6) == math.inf
    assert patient.remaining(answered(2), 0.6) == 0
    with pytest.raises(ValueError, match="seconds > 0"):
        rule("deadline:0")
    with pytest.raises(ValueError, match="a number or auto"):
        rule("deadline:soon")


def test_decodable_stops_at_the_first_set_that_decodes():
    """With a plane's random diagonal code, at the first count whose Err_S / (m k) is small."""
    D = (0, 1, 3)
    A = np.array([[(i - j) % 7 in D for i in range(7)] for j in range(7)]).astype(int)
    code = Code(A, random_diagonal(A, 2, np.random.default_rng(0)), 2)
    for tolerance in (0.0, 0.15, 0.3):
        r = WAITING.build(f"decodable:{tolerance}")
        r.begin(code)
        for count in range(8):
            done = r.remaining(answered(count, 7), 0.0) == 0
            assert done == (code.error(answered(count, 7)) / 14 <= tolerance)
    uncoded = rule("decodable:0")
    assert uncoded.remaining(answered(7), 0.0) == math.inf
    assert uncoded.remaining(answered(8), 0.0) == 0, "exact up to rounding counts as exact"
    with pytest.raises(ValueError, match="tolerance in"):
        rule("decodable:1.5")


def test_auto_deadline_waits_until_it_knows():
    auto = rule("deadline:auto")
    assert auto.remaining(answered(7), 1000.0) == math.inf
    assert auto.remaining(answered(8), 0.0) == 0


def test_auto_deadline_cuts_outliers_and_not_the_healthy():
    auto = rule("deadline:auto")
    rng = np.random.default_rng(0)
    for _ in range(20):
        healthy = rng.uniform(0.05, 0.10, 6)
        auto.observe(np.append(healthy, [1.0, 1.0]))  # two that are late, and known to be
        auto.begin(CODE)
    deadline = auto.remaining(answered(6), 0.0)
    assert 0.10 < deadline < 0.3


def test_auto_deadline_grows_again_when_everything_slows_down():
    """No livelock: with a deadline that is too short late answers still teach it."""
    auto = rule("deadline:auto")
    for _ in range(20):
        auto.observe(np.linspace(0.05, 0.06, 8))
        auto.begin(CODE)
    assert auto.remaining(answered(4), 0.0) < 0.1
    # everybody needs 0.5 s now: half of the workers are waited for whatever the deadline
    assert auto.remaining(answered(3), 0.2) == math.inf
    for _ in range(20):
        auto.observe(np.linspace(0.5, 0.6, 8))
        auto.begin(CODE)
    assert auto.remaining(answered(4), 0.0) > 0.6
