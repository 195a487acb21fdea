"""The page of mathematics: shapes, encoding, decoding, and what is refused."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcmpi import Code
from gcmpi.codes.code import combine, encode, message_length
from tests.every import every

A = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=np.uint8)


def random_code(k, n, m, seed):
    rng = np.random.default_rng(seed)
    A = (rng.random((k, n)) < 0.5).astype(np.uint8)
    A[np.arange(k), rng.integers(n, size=k)] = 1
    B = rng.standard_normal((m, k, n)) * A
    return Code(A, B.reshape(m * k, n), m)


codes = st.builds(
    random_code, st.integers(1, 6), st.integers(1, 7), st.integers(1, 4), st.integers(0, 1000)
)


def padded_parts(G, m):
    """Return Z (d/m, m k) of the paper: column u k + j is part u of gradient j."""
    k, d = G.shape
    length = -(-d // m)
    padded = np.zeros((k, m * length))
    padded[:, :d] = G
    return np.hstack([padded[:, u * length : (u + 1) * length].T for u in range(m)])


@given(codes, st.integers(1, 11), st.integers(0, 1000))
def test_messages_are_columns_of_ZB_and_the_decoded_gradient_those_of_ZBR(code, d, seed):
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((code.k, d))
    Z = padded_parts(G, code.m)
    Y = np.array([code.encode(i, G[code.subsets(i)]) for i in range(code.n)])
    assert np.allclose(Y.T, Z @ code.B)
    R = rng.standard_normal((code.n, code.m))
    decoded = combine(R, Y, d)
    assert decoded.shape == (d,)
    assert np.allclose(decoded, (Z @ code.B @ R).T.ravel()[:d])
    # and Z F is the gradient itself
    assert np.allclose((Z @ code.target).T.ravel()[:d], G.sum(axis=0))


@given(codes, st.integers(0, 1000))
def test_decoding_is_the_projection_by_the_pseudo_inverse(code, seed):
    survivors = np.random.default_rng(seed).random(code.n) < 0.6
    R = code.decode(survivors)
    assert R.shape == (code.n, code.m)
    assert not R[~survivors].any()
    B_S, F = code.B[:, survivors], code.target
    residual = B_S @ np.linalg.pinv(B_S) @ F - F
    assert np.allclose(code.B @ R - F, residual, atol=1e-9)
    assert code.error(survivors) == pytest.approx(np.sum(residual**2), abs=1e-9)
    # least norm for columns of norm 1: no part of it is in their null space
    size = np.linalg.norm(B_S, axis=0)
    unit, X = B_S / np.where(size > 0, size, 1), R[survivors] * size[:, None]
    assert np.allclose(np.linalg.pinv(unit) @ (unit @ X), X, atol=1e-7)


def test_nobody_left_means_a_zero_gradient_and_everything_lost():
    code = random_code(4, 5, 2, 0)
    nobody = np.zeros(5, dtype=bool)
    assert not code.decode(nobody).any()
    assert code.error(nobody) == 8


def test_a_message_that_is_not_used_may_hold_nan():
    R = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 1.0]])
    Y = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    assert combine(R, Y, 3).tolist() == [7.0, 10.0, 3.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_messages_keep_the_type_of_the_gradients(dtype):
    G = np.ones((2, 5), dtype=dtype)
    y = encode(np.ones((2, 2)), G)
    assert y.dtype == dtype
    assert y.tolist() == [4, 4, 2]
    assert combine(np.ones((1, 2)), y[None], 5).dtype == dtype


@given(st.integers(1, 1000), st.integers(1, 50))
def test_message_length_is_the_quotient_rounded_up(d, m):
    length = message_length(d, m)
    assert (length - 1) * m < d <= length * m


def test_parameters_of_an_irregular_assignment():
    code = Code([[1, 1, 0], [1, 0, 0]], np.zeros((2, 3)), 1)
    assert (code.k, code.n, code.delta, code.gamma) == (2, 3, 2, 1)
    assert code.subsets(0).tolist() == [0, 1]
    assert code.coefficients(2).shape == (1, 0)
    assert code.encode(2, np.zeros((0, 4))).tolist() == [0, 0, 0, 0]


def test_a_code_is_a_value():
    B = np.tile(A, (2, 1)).astype(float)
    code = Code(A, B, 2)
    B[0, 0] = 5
    assert code.B[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        code.B[0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        code.A[0, 0] = 0


REFUSED = {
    "m": (A, A, 0, "m must be at least 1, not 0"),
    "shape of B": (A, A, 2, r"shape \(m\*k, n\) = \(6, 3\), not \(3, 3\)"),
    "A with other numbers": (2 * A, A, 1, "zeros and ones"),
    "A with one axis": (A[0], A, 1, "zeros and ones"),
    "subset without worker": (A * [[1], [0], [1]], A, 1, "subset 1 has none"),
    "B outside A": (A, np.ones((3, 3)), 1, "zero wherever A is"),
    "B not finite": (A, np.where(A, np.inf, 0), 1, "finite"),
}


@every("A, B, m, message", REFUSED)
def test_refuses(A, B, m, message):
    with pytest.raises(ValueError, match=message):
        Code(A, B, m)


@pytest.mark.parametrize("survivors", [[1, 0, 1], [True, False], np.ones((1, 3), dtype=bool)])
def test_refuses_survivors_that_are_not_a_mask(survivors):
    with pytest.raises(ValueError, match=r"survivors must be booleans of shape \(n,\) = \(3,\)"):
        Code(A, A, 1).decode(survivors)


@given(hnp.arrays(np.float64, (3, 3), elements=st.floats(-5, 5)))
def test_any_values_on_the_support_make_a_code(values):
    assert (values * A == Code(A, values * A, 1).B).all()


def test_decode_does_not_mind_the_size_of_a_column():
    """Columns that differ by 20 orders of magnitude, and an idle worker's zeros."""
    A = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=int)
    B = A.astype(float)
    survivors = np.array([False, True, True, True])
    code = Code(A, B * [1.0, 1e10, 1e-10, 1.0], 1)
    assert code.error(survivors) < 1e-20
    np.testing.assert_allclose(code.decode(survivors)[:, 0], [0, 1e-10, 1e10, 0])
