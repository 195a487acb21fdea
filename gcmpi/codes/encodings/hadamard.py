"""Encodings exact without stragglers: Hadamard products with vectors of mutual null spaces."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes import bounds
from gcmpi.promises import SetTheorem
from gcmpi.registry import ENCODINGS

SECONDS = 60.0
"""Time that the search for a vector of signs may take."""


@ENCODINGS.register(
    "random-hadamard",
    {},
    {"variant": "signs"},
    exact=True,
    theorem=SetTheorem("Lemma 2", bounds.lemma_2),
)
def random_hadamard(
    A: AnyArray,
    m: int,
    rng: np.random.Generator,
    variant: Literal["gaussian", "signs"] = "gaussian",
) -> Array:
    """Random Hadamard product with null-space constraints: exact when nobody straggles.

    Row j of block A_u is v_u on the workers H_j that hold subset j, divided by ||v_u(H_j)||^2;
    each v_u lies in the null space of the blocks before it. So A_u v_u = 1 and A_w v_u = 0 for
    w < u, and for w > u too, because rows j of A_u and A_w are multiples of v_u and v_w on the
    same H_j. Hence B v_u = f_u.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix. The paper takes n = m k; the null spaces need n > (m - 1) k.
    m
        Communication reduction factor.
    rng
        Source of the vectors.
    variant
        gaussian: v_1 is Gaussian, the others Gaussian in their null spaces. signs: v_1 is all
        ones, the others are vectors of +1 and -1, found by integer programming; there may be none.

    Returns
    -------
    B : (m * k, n)

    Raises
    ------
    ValueError
        If a null space is empty, if its vectors vanish on all workers of some subset, or if it
        holds no vector of signs.

    References
    ----------
    Munim and Ramamoorthy, arXiv 2603.22514, section 3 (RHN).
    """
    k, n = A.shape
    v = np.ones(n) if variant == "signs" else rng.standard_normal((n,))
    blocks = [_block(A, v)]
    for u in range(2, m + 1):
        constraints = np.vstack(blocks)
        basis = _null_space(constraints)
        if not basis.shape[1]:
            raise ValueError(
                f"random-hadamard needs a vector in the null space of blocks 1..{u - 1}, which is "
                f"empty here: n={n} workers, k={k} subsets, m={m}; it exists for n > (m-1)*k = "
                f"{(m - 1) * k}, and the construction is meant for n = m*k"
            )
        if variant == "gaussian":
            v = basis @ rng.standard_normal(basis.shape[1])
        else:
            v = _signs(A, blocks, rng)
        blocks.append(_block(A, v))
    return np.vstack(blocks)


def _block(A: AnyArray, v: Array) -> Array:
    """Return A diag(v) with row j divided by ||v(H_j)||^2, shape (k, n)."""
    block = A * v
    squared = np.sum(block**2, axis=1, keepdims=True)
    if squared.min() <= 1e-18 * np.max(v**2):
        j = int(squared.argmin())
        raise ValueError(
            f"random-hadamard: the null space vanishes on all workers of subset {j}, so that its "
            "gradient cannot be sent in m parts; give each subset more workers"
        )
    scaled: Array = block / squared
    return scaled


def _null_space(M: Array) -> Array:
    """Return an orthonormal basis of the null space of M (r, n), one vector a column."""
    _, sigma, Vt = np.linalg.svd(M)
    rank = int(np.sum(sigma > sigma[0] * max(M.shape) * np.finfo(np.float64).eps))
    basis: Array = Vt[rank:].T
    return basis


def _signs(A: AnyArray, blocks: list[Array], rng: np.random.Generator) -> Array:
    """Return a random v in {-1, 1}^n with A_u v = 0 for all blocks so far, themselves of signs.

    With v = 2 x - 1 and x binary the conditions M v = 0 read M x = M 1 / 2, M the signs of the
    blocks. A random objective makes the choice random.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    odd = np.flatnonzero(A.sum(axis=1, dtype=np.intp) % 2)
    if odd.size:
        raise ValueError(
            "random-hadamard:variant=signs needs every subset on an even number of workers; "
            f"subset {odd[0]} is on {int(A[odd[0]].sum(dtype=np.intp))}; use variant=gaussian"
        )
    M = np.sign(np.vstack(blocks))
    half = M.sum(axis=1) / 2
    found = milp(
        c=rng.standard_normal(A.shape[1]),
        integrality=np.ones(A.shape[1]),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(M, half, half),
        # any solution will do: a gap of 100% ends the search at the first
        options={"time_limit": SECONDS, "mip_rel_gap": 1.0},
    )
    if found.x is None:
        reason = (
            "there is none" if found.status == 2 else f"none was found in {SECONDS:.0f} seconds"
        )
        raise ValueError(
            f"random-hadamard:variant=signs needs vector {len(blocks) + 1} of m in {{-1, 1}}^n "
            f"and the null space of the blocks before it; {reason}; use variant=gaussian"
        )
    signs: Array = 2.0 * np.round(found.x) - 1.0
    if (M @ signs).any():
        raise ValueError("random-hadamard:variant=signs: the integer program gave a wrong answer")
    return signs
