"""Every decoder against `Code.decode`, on codes of full and of deficient rank."""

from functools import partial

import numpy as np
import pytest

from gcmpi import Code
from gcmpi.assignments import biregular, coset, cyclic, projective_plane, steiner_triple
from gcmpi.codes.decoders.least_squares import (
    MAX_CONDITION,
    Downdate,
    NormalEquations,
    always,
    auto,
    decoder_for,
    equal_weights,
    inverse,
    least_squares,
    ridge,
    sparse_least_squares,
)
from gcmpi.encodings import exact_trained, random_diagonal, random_hadamard, stacked, uncoded
from gcmpi.formats import NOISE_POWER
from tests.every import every
from tests.lazily import Lazily

sparse = Lazily("scipy.sparse")

RNG = np.random.default_rng(0)
PLANE, COSET = projective_plane(3), coset(9, 2, (0, 1, 3, 4))
WELL_CONDITIONED = {
    "plane, random diagonal": Code(PLANE, random_diagonal(PLANE, 2, RNG), 2),
    "plane, stacked": Code(PLANE, stacked(PLANE, 3), 3),
    "uncoded": Code(np.eye(6), uncoded(np.eye(6), 1), 1),
    "columns of different size": Code(PLANE, stacked(PLANE, 1) * 2.0 ** np.arange(13), 1),
}
RANK_DEFICIENT = {
    "coset, stacked": Code(COSET, stacked(COSET, 2), 2),
    "more workers than parts": Code(COSET, random_diagonal(COSET, 1, RNG), 1),
    "more subsets than rank": Code(cyclic(6, 2), stacked(cyclic(6, 2), 2), 2),
    "a worker without weights": Code(PLANE, stacked(PLANE, 2) * (np.arange(13) > 0), 2),
    "nearly parallel columns": Code(COSET, random_diagonal(COSET, 2, RNG, epsilon=1e-6), 2),
}
CODES = WELL_CONDITIONED | RANK_DEFICIENT


def decoders(code, eps=0.0):
    """What serves a code: made for it, for another one in every call, and without shortcuts."""
    plain = partial(ridge, eps=eps) if eps else least_squares
    return always(Downdate(code, eps=eps)), NormalEquations(eps), plain


@every("code", CODES)
@every("which", range(3))
def test_decoders_agree_with_least_squares(which, code):
    decoder, rng = decoders(code)[which], np.random.default_rng(1)
    for q in (0, 0.1, 0.3, 0.6, 0.9, 1):
        survivors = rng.random(code.n) >= q
        R, expected = decoder(code, survivors), code.decode(survivors)
        assert R.shape == (code.n, code.m)
        assert not R[~survivors].any()
        assert np.allclose(R, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
        assert code.residual(R) == pytest.approx(code.error(survivors), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("code", WELL_CONDITIONED.values(), ids=WELL_CONDITIONED)
def test_well_conditioned_codes_do_without_least_squares(monkeypatch, code):
    monkeypatch.setattr(np.linalg, "lstsq", None)
    survivors = np.arange(code.n) > 1
    for decoder in decoders(code)[:2]:
        assert code.residual(decoder(code, survivors)) >= 0


def test_downdate_remembers_the_last_survivor_sets():
    decode = Downdate(CODES["plane, stacked"], keep=2)
    masks = [np.arange(13) != i for i in range(3)]
    first, second, third = (decode(mask) for mask in masks)
    assert decode(masks[1]) is second
    assert decode(masks[2]) is third
    assert decode(masks[0]) is not first  # forgotten
    assert decode(masks[2]) is third  # kept: used since
    with pytest.raises(ValueError, match="read-only"):
        third[0] = 1


def test_normal_equations_notice_another_assignment():
    decoder, rng = NormalEquations(), np.random.default_rng(3)
    for A in (PLANE, cyclic(13, 4), PLANE):
        code = Code(A, random_diagonal(A, 2, rng, epsilon=0.2), 2)
        survivors = np.arange(13) > 2
        assert np.allclose(decoder(code, survivors), code.decode(survivors))


def test_decoders_refuse_survivors_that_are_not_a_mask():
    code = CODES["uncoded"]
    for decoder in decoders(code):
        with pytest.raises(ValueError, match="survivors must be booleans"):
            decoder(code, np.arange(6))


@every("code", CODES)
@every("eps", [1e-1, NOISE_POWER["bfloat16"], NOISE_POWER["float16"], 1e-15])
@every("which", range(2))
def test_decoders_with_a_ridge_agree(which, eps, code):
    decoder, rng = decoders(code, eps)[which], np.random.default_rng(1)
    for q in (0, 0.1, 0.3, 0.6, 0.9, 1):
        survivors = rng.random(code.n) >= q
        R, expected = decoder(code, survivors), ridge(code, survivors, eps=eps)
        assert not R[~survivors].any()
        # a hundredth of the noise, and what least squares may be off by
        assert np.allclose(R, expected, rtol=0, atol=(1e-2 * np.sqrt(eps) + 1e-8)
                           * np.abs(expected).max(initial=1e-9))  # fmt: skip


def test_a_ridge_needs_no_factorisation_of_singular_codes(monkeypatch):
    """An exact code has dependent columns; G + eps D^2 can be inverted all the same."""
    code = Code(PLANE, exact_trained(PLANE, 2), 2)
    assert inverse(code.B.T @ code.B) is None
    survivors = np.arange(13) > 1
    expected = {wire: auto(code, survivors, wire) for wire in ("float16", "bfloat16")}
    monkeypatch.setattr(np.linalg, "lstsq", None)
    for wire, R in expected.items():
        found = Downdate(code, eps=NOISE_POWER[wire])(survivors)
        assert np.allclose(found, R, rtol=0, atol=1e-4 * np.abs(R).max())


def test_the_choice_of_decoder():
    assert isinstance(decoder_for(1000), NormalEquations)
    assert decoder_for(31) is least_squares


def test_equal_weights_are_found_where_there_are_some():
    rng = np.random.default_rng(2)
    B = random_diagonal(PLANE, 2, rng, epsilon=0.5)
    D = equal_weights(Code(PLANE, B, 2))
    assert np.array_equal(B, np.vstack([PLANE * D[0], PLANE * D[1]]))
    assert (equal_weights(CODES["coset, stacked"]) == 1).all()
    assert equal_weights(Code(COSET, random_hadamard(COSET, 2, rng), 2)) is None


def test_inverse_is_refused_above_the_condition_number():
    assert np.allclose(inverse(np.diag([1.0, 1e20])), np.diag([1.0, 1e-20]))  # scaling is harmless
    # the condition number of these is about 2 / (1 - cosine)
    good, bad = (
        np.array([[1, cosine], [cosine, 1]])
        for cosine in (1 - 8 / MAX_CONDITION, 1 - 1 / MAX_CONDITION)
    )
    assert np.allclose(inverse(good) @ good, np.eye(2), atol=1e-6)
    assert inverse(bad) is None
    assert inverse(np.ones((2, 2))) is None
    assert inverse(np.diag([1.0, 0.0])) is None


@every("name", sorted(CODES.keys() - {"nearly parallel columns"}))
def test_sparse_decoder_agrees(name):
    code = CODES[name]
    B = sparse.csr_array(code.B)
    for q in (0, 0.3, 0.6, 1):
        survivors = np.random.default_rng(4).random(code.n) >= q
        R = sparse_least_squares(B, code.m, survivors)
        assert not R[~survivors].any()
        assert np.allclose(R, code.decode(survivors), atol=1e-8)


def test_sparse_decoder_says_when_it_does_not_converge():
    B = sparse.csr_array(np.diag(np.logspace(-9, 0, 20)) + 0.0)
    with pytest.raises(ValueError, match="did not reach tolerance=1e-12 in 200 iterations"):
        sparse_least_squares(B, 1, np.ones(20, dtype=bool))


def test_sparse_decoder_on_ten_thousand_workers():
    """Beyond a dense Gram matrix; optimal because the residual is orthogonal to B_S."""
    n, m = 9999, 2
    rng = np.random.default_rng(5)
    A = sparse.csr_array(cyclic_sparse(n, (0, 1, 5, 25, 125, 625)))
    B = sparse.vstack([A @ sparse.diags_array(rng.choice([-1.0, 1.0], n)) for _ in "ab"])
    survivors = rng.random(n) > 0.05
    R = sparse_least_squares(B, m, survivors)
    residual = B @ R - np.kron(np.eye(m), np.ones((n, 1)))
    assert np.abs(B[:, survivors].T @ residual).max() < 1e-8
    assert 0 < np.sum(residual**2) < m * n / 2


def cyclic_sparse(n, generators):
    rows = np.tile(np.arange(n), len(generators))
    columns = (rows + np.repeat(generators, n)) % n
    return sparse.coo_array((np.ones(rows.size), (rows, columns)), (n, n))


@pytest.mark.parametrize(
    ("m", "survivors"), [(3, np.ones(6, dtype=bool)), (2, np.ones(5, dtype=bool)), (2, np.ones(6))]
)
def test_sparse_decoder_refuses_shapes_that_do_not_fit(m, survivors):
    B = sparse.csr_array(np.ones((4, 6)))
    with pytest.raises(ValueError, match=r"needs B \(m\*k, n\) and n booleans"):
        sparse_least_squares(B, m, survivors)


def test_a_thousand_workers():
    """Large enough for blocked factorisations; m k = 2 n."""
    A = biregular(1000, 500, 4)
    code = Code(A, random_diagonal(A, 3, np.random.default_rng(7)), 3)
    survivors = np.arange(1000) % 20 > 0
    R = Downdate(code)(survivors)
    residual = code.B @ R - code.target
    assert np.abs(code.B[:, survivors].T @ residual).max() < 1e-9
    assert np.allclose(R, NormalEquations()(code, survivors), atol=1e-9)


def test_irregular_loads():
    A = steiner_triple(9)[:7]
    code = Code(A, random_diagonal(A, 2, np.random.default_rng(8)), 2)
    survivors = np.arange(9) > 0
    for decoder in decoders(code):
        assert np.allclose(decoder(code, survivors), code.decode(survivors))
