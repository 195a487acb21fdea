"""Relabelling: the laws of the new names, and runs that use them."""

from functools import partial
from itertools import combinations, permutations, product

import numpy as np
import pytest
from simulated import train

from gcmpi import Code
from gcmpi.codes.decoders.least_squares import Downdate, ridge
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.relabelling import ByOriginal, Relabelled, Relabelling, check_circulant
from gcmpi.decoders import decoder_of
from gcmpi.errors import alpha, decoder_alpha
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Spec
from tests.every import every

SMALL = 15
"""Workers up to which a circulant assignment is tested."""


def is_circulant(A):
    try:
        check_circulant(A)
    except ValueError:
        return False
    return True


CIRCULANT = {
    str(spec): A
    for part in ASSIGNMENTS
    for spec in [Spec(part.name, options) for options in part.examples]
    if is_circulant(A := ASSIGNMENTS.build(spec)) and A.shape[1] <= SMALL
}
every_circulant = every("A", CIRCULANT)


def random_code(A, m, seed=0):
    rng = np.random.default_rng(seed)
    return Code(A, rng.standard_normal((m * len(A), A.shape[1])) * np.tile(A, (m, 1)), m)


def all_names(k, m):
    for order, signs in product(permutations(range(m)), product((1.0, -1.0), repeat=m)):
        for r in range(k):
            yield Relabelling(r, np.diag(signs)[list(order)])


def test_the_assignments_that_are_circulant_as_numbered():
    assert {name.partition(":")[0] for name in CIRCULANT} >= {
        "projective-plane", "projective-space", "quadratic-residue", "cyclic", "coset", "paley",
        "uncoded",
    }  # fmt: skip
    for text in ("affine-plane:order=3", "fractional-repetition:n=6,delta=3", "paley:q=9"):
        assert not is_circulant(ASSIGNMENTS.build(text))


@every_circulant
@every("m", [1, 2])
def test_the_mean_over_all_names_is_a_multiple_of_the_gradient(A, m):
    """For any code and any set that the names move along, alpha is that of the set."""
    code = random_code(A, m)
    k, n = A.shape
    late = np.random.default_rng(1).permutation(n)[: n // 4]
    survivors = ~np.isin(np.arange(n), late)
    names = list(all_names(k, m))
    total = np.zeros_like(code.target)
    for name in names:
        relabelled = name.of(code)  # Code refuses what a worker does not hold
        moved = survivors[relabelled.played]
        total += relabelled.B @ relabelled.decode(moved)
        assert relabelled.error(moved) == pytest.approx(code.error(survivors), abs=1e-9)
    shrinkage = 1 - code.error(survivors) / (m * k)
    assert np.sum((total / len(names) - shrinkage * code.target) ** 2) < 1e-20


@every("encoding", ["weighted-rank-one", "random-hadamard", "harmonic:t=0"])
@every("assignment", ["cyclic:n=8,delta=4", "coset:k=5,m=2,generators=0+1+3"])
def test_server_and_workers_agree_on_valid_codes(assignment, encoding):
    A = ASSIGNMENTS.build(assignment)
    books = [Ensemble(A, 2, ENCODINGS.parse(encoding), seed=5, relabel=True) for _ in range(2)]
    seen = set()
    decode = ByOriginal(Downdate(books[0].original))
    rng = np.random.default_rng(2)
    for t in (3, 0, 1, 2):
        code = books[0].at(t)
        assert isinstance(code, Relabelled)
        assert (code.A == A).all()
        seen.add(code.B.tobytes())
        for i in range(A.shape[1]):
            np.testing.assert_array_equal(books[1].coefficients(t, i), code.coefficients(i))
        survivors = rng.random(A.shape[1]) >= 0.2
        R = decode(code, survivors)
        assert not R[~survivors].any()
        assert code.residual(R) == pytest.approx(code.error(survivors), abs=1e-9)
        # one solution also where B_S is singular
        ridged = ByOriginal(partial(ridge, books[0].original, eps=1e-3))
        np.testing.assert_allclose(
            ridged(code, survivors), ridge(code, survivors, eps=1e-3), atol=1e-9
        )
    assert len(seen) == 4


@pytest.mark.parametrize("text", ["least-squares", "bibd", "ridge:eps=0.1"])
def test_alpha_by_enumeration(text):
    """All sets and all names: E[B R] = alpha_s F, alpha_s the mean over sets for one name."""
    A = ASSIGNMENTS.build("projective-plane:order=2")
    encoding, m = ("bibd", 1) if text == "bibd" else ("weighted-rank-one", 2)
    book = Ensemble(A, m, ENCODINGS.parse(encoding), relabel=True)
    original, F = book.original, book.at(0).target
    decode_original = decoder_of(original, text)
    decode = ByOriginal(decode_original)
    names = list(all_names(7, m))
    for s in (1, 3):
        sets = [~np.isin(np.arange(7), T) for T in combinations(range(7), s)]
        total = np.zeros_like(F)
        for name in names:
            code = name.of(original)
            total += code.B @ sum(decode(code, S) for S in sets)
        mean = total / len(names) / len(sets)
        shrinkage = np.mean([np.sum(F * (original.B @ decode_original(S))) for S in sets]) / 7 / m
        assert np.sum((mean - shrinkage * F) ** 2) < 1e-20
        rng = np.random.default_rng(3)
        if text == "least-squares":
            lost = np.mean([original.error(S) for S in sets]) / 14
            assert shrinkage == pytest.approx(1 - lost, abs=1e-12)
            assert alpha(book.draw, m, rng)[s] == pytest.approx(1 - lost, abs=0.02)
        else:
            estimate = decoder_alpha(book.at(0), decode, rng)[s]
            assert estimate == pytest.approx(shrinkage, abs=0.02)


def test_training_with_new_names():
    """Every audit passes, alpha is divided out, and the loss falls as it does without."""
    same = {"encoding": "weighted-rank-one:trained=true,steps=40", "problem": "softmax",
            "stragglers": "bernoulli:q=0.25", "optimizer": "sgd:rate=0.2", "iterations": 60,
            "wait": "all"}  # fmt: skip
    plain, relabelled = train(**same), train(**same, relabel=True)
    assert (plain.run.alpha == 1).all()
    assert (np.diff(relabelled.run.alpha[:7]) < 0).all()
    assert all(row.check in (1, 255) for row in relabelled.rows)
    assert relabelled.rows[-1].loss < 0.7 * relabelled.rows[0].loss
    errors = [[row.approximation_error for row in t.rows] for t in (plain, relabelled)]
    assert errors[0] != errors[1]  # the same sets straggle, but play others


def test_what_cannot_be_relabelled():
    with pytest.raises(ValueError, match="the same when all subsets and workers move on by one"):
        train(assignment="affine-plane:order=2", encoding="weighted-rank-one", relabel=True)
    with pytest.raises(ValueError, match="random-diagonal is drawn anew in every iteration"):
        train(relabel=True)
    with pytest.raises(ValueError, match="as with --relabel: give feedback=false"):
        train(encoding="weighted-rank-one", compression="top-k", relabel=True)
    with pytest.raises(ValueError, match="--relabel must be true or false, not 'yes'"):
        train(relabel="yes")
