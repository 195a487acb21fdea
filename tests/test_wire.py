"""Wire types and lossy compression."""

from __future__ import annotations

import numpy as np
import pytest

from gcmpi.formats import EPSILON, storage
from gcmpi.registry import COMPRESSORS
from tests.every import every

TYPES = sorted(EPSILON)
L = 1001
Y = np.random.default_rng(0).normal(size=L).astype(np.float32)


def wire(text: str, dtype: str = "float32", length: int = L):
    return COMPRESSORS.build(text, length=length, dtype=dtype, seed=3)


def through(sender, y: np.ndarray, t: int = 0, worker: int = 0) -> np.ndarray:
    """Send y and receive it with another wire of the same kind."""
    receiver = sender
    sent = np.zeros(sender.elements, storage(sender.dtype))
    scale = sender.pack(y, t, worker, sent)
    out = np.full(sender.length, np.nan, y.dtype)
    receiver.unpack(sent, scale, t, worker, out)
    return out


@every("dtype", TYPES)
@every("size", [1e-20, 1e-7, 1.0, 1e6])
def test_rounding(dtype, size):
    """Half a unit in the last place for every number that is not tiny next to the largest."""
    y = (size * Y).astype(np.float32)
    got = through(wire("none", dtype), y)
    large = np.abs(y) > 1e-4 * np.abs(y).max()
    np.testing.assert_allclose(got[large], y[large], rtol=EPSILON[dtype] / 2 * 1.001 + 1e-7)
    assert np.abs(got - y).max() <= EPSILON[dtype] * np.abs(y).max()


def test_bfloat16_against_the_definition():
    """Round to nearest even on the upper half of float32's bits."""
    y = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159, 1e-40, 0.0, -0.0], np.float32)
    got = through(wire("none", "bfloat16", len(y)), y)
    np.testing.assert_array_equal(got[:4], np.array([1.0, 1.0, 1 + 2**-6, -3.140625], np.float32))
    assert got[5] == 0
    assert np.signbit(got[6])


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_not_finite_arrives_so(dtype):
    y = np.array([1.0, np.nan, 2.0, np.inf], np.float32)
    got = through(wire("none", dtype, 4), y)
    assert np.isnan(got[1])
    assert np.isinf(got[3])
    np.testing.assert_array_equal(through(wire("none", dtype, 4), np.zeros(4, np.float32)), 0)


@every("text", ["rand-k:fraction=0.3", "top-k:fraction=0.3"])
@every("dtype", TYPES)
def test_sparse_messages_have_the_bytes_they_promise(text, dtype):
    w = wire(text, dtype)
    assert w.elements <= 0.3 * L
    assert w.elements >= 0.3 * L - 4
    got = through(w, Y)
    kept = got != 0
    assert 0.05 * L < kept.sum() <= w.elements
    np.testing.assert_allclose(got[kept], Y[kept], rtol=EPSILON[dtype])


def test_top_k_keeps_the_largest():
    got = through(wire("top-k:fraction=0.5"), Y)
    kept = got != 0
    assert kept.sum() == 250
    assert np.abs(Y[kept]).min() >= np.abs(Y[~kept]).max()


def test_rand_k_differs_by_iteration_and_worker_and_is_unbiased_without_feedback():
    w = wire("rand-k:fraction=0.5,feedback=false")
    sets = {tuple(np.flatnonzero(through(w, Y, t, i))) for t in range(3) for i in range(3)}
    assert len(sets) == 9
    mean = np.mean([through(w, Y, t) for t in range(4000)], axis=0)
    # variance y^2 (1 - p) / p of one draw
    assert np.abs(mean - Y).max() < 5 * np.abs(Y).max() / np.sqrt(4000)


@pytest.mark.parametrize("text", ["rand-k:fraction=0.25", "top-k:fraction=0.25"])
def test_error_feedback_sends_everything_in_the_end(text):
    """What is left out stays bounded: the sums of what was sent and what was meant agree."""
    w = wire(text)
    sent = sum(through(w, Y, t) for t in range(200))
    assert np.linalg.norm(sent - 200 * Y) < 20 * np.linalg.norm(Y)
    # without feedback top-k never sends the small entries
    plain = wire("top-k:fraction=0.25,feedback=false")
    lost = sum(through(plain, Y, t) for t in range(200)) - 200 * Y
    assert np.linalg.norm(lost) > 100 * np.linalg.norm(Y) / 2


def test_refusals():
    for text in ("rand-k:fraction=0", "top-k:fraction=1.5"):
        with pytest.raises(ValueError, match=r"fraction in \(0, 1\]"):
            wire(text)
