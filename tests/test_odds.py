"""Workers with different odds: models, laws, the bound, and codes that know them."""

from itertools import product

import numpy as np
import pytest

from gcmpi import bounds
from gcmpi.assignments import biregular, coset, projective_plane
from gcmpi.codes.encodings.search.objective import Stragglers, losses, mean_and_gradient
from gcmpi.codes.encodings.search.straggler_sets import (
    Attacked,
    Independent,
    Uniform,
    attacks,
    expected,
    joined,
    quantile,
    tempered,
)
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.errors.worst import Search
from gcmpi.encodings import exact_trained, harmonic, random_diagonal, stacked, weighted_rank_one
from gcmpi.errors import ErrorEngine, target
from gcmpi.experiments.building import build
from gcmpi.experiments.experiment import Experiment
from gcmpi.registry import STRAGGLERS, Spec
from tests.every import every

PLANE = projective_plane(3)
SLOW = np.where(np.arange(13) < 3, 0.6, 0.05)


def all_sets(q):
    """Return every set of stragglers, (2^n, n), and its probability."""
    late = np.array(list(product((False, True), repeat=len(q))))
    return late, np.prod(np.where(late, q, 1 - np.asarray(q)), axis=1)


def mean_error(B, m, q):
    late, weights = all_sets(q)
    return float(weights @ ErrorEngine(B, target(B, m)).errors(~late))


@pytest.mark.parametrize("spec", ["bernoulli:q=0.1,rates=1+2+5+0+1", "markov:q=0.2,stay=0.5"])
def test_models_say_how_often_each_worker_straggles(spec):
    model = STRAGGLERS.build(spec, n=5, seed=1)
    late = np.array([model.delays(t) > 0 for t in range(4000)])
    assert np.allclose(late.mean(axis=0), model.odds, atol=0.04)


@pytest.mark.parametrize("spec", ["none", "lognormal", "slow-set"])
def test_other_models_do_not_say(spec):
    assert STRAGGLERS.build(spec, n=5, seed=1).odds is None


CODES = {
    "harmonic": lambda A, m: harmonic(A, m, choices=10),
    "rank one": weighted_rank_one,
    "stacked": stacked,
    "random": lambda A, m: random_diagonal(A, m, np.random.default_rng(0)),
}


@every("make", CODES)
@every("m", [1, 2])
def test_no_code_is_below_the_holder_bound_of_independent_stragglers(make, m):
    rng = np.random.default_rng(1)
    for A in (projective_plane(2), coset(4, 2, (0, 1, 2)), biregular(9, 6, 2)):
        B = make(A, m)
        for _ in range(3):
            q = rng.choice([0.0, 0.05, 0.3, 0.9, 1.0], A.shape[1])
            assert mean_error(B, m, q) >= bounds.independent_holder_bound(A, m, q) - 1e-9


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_holder_bound_is_an_expectation(m):
    A = biregular(9, 6, 2)
    q = np.random.default_rng(2).random(9)
    late, weights = all_sets(q)
    holders = (~late).astype(int) @ A.T
    direct = weights @ np.maximum(m - holders, 0).sum(axis=1)
    assert bounds.independent_holder_bound(A, m, q) == pytest.approx(direct)
    equal = np.full(9, 0.3)
    size = [np.sum(all_sets(equal)[1] * (late.sum(axis=1) == s)) for s in range(10)]
    mixture = sum(p * bounds.holder_bound(A, m, s) for s, p in enumerate(size))
    assert bounds.independent_holder_bound(A, m, equal) == pytest.approx(mixture)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(13, 1.5)])
def test_odds_are_probabilities(wrong):
    with pytest.raises(ValueError, match="must be n=13 probabilities"):
        bounds.independent_holder_bound(PLANE, 2, wrong)
    with pytest.raises(ValueError, match="harmonic needs n=13 probabilities as odds"):
        harmonic(PLANE, 2, odds=wrong)


def test_judging_sets_have_the_mean_of_the_law():
    """Half of them are tempered, and weighed: compare with all sets, for a rare costly event."""
    q = np.array([0.0, 1.0, 0.02, 0.05, 0.3, 0.01])
    sets = Independent(q).judge(200_000, np.random.default_rng(3))
    late, weights = all_sets(q)
    for costly in (lambda x: x.sum(axis=1) >= 4, lambda x: x[:, 2] & x[:, 3]):
        exact = float(weights @ costly(late))
        plain = np.sqrt(exact / len(sets.workers))
        assert sets.mean(costly(sets.late(6))) == pytest.approx(exact, abs=3 * plain)
    assert quantile(q, 0.5) == np.searchsorted(
        np.cumsum([weights[late.sum(axis=1) == s].sum() for s in range(7)]), 0.5
    )
    raised = tempered(q, 3.0)
    assert raised.sum() == pytest.approx(3.0)
    assert (raised >= q).all()
    assert list(raised[:2]) == [0, 1]


def test_when_the_law_of_the_run_counts():
    low, high, different = np.full(31, 0.25), np.full(31, 0.4), np.linspace(0.1, 0.2, 31)
    assert expected(31, "x", None, None) == Uniform(31, 8)
    assert expected(31, "x", None, low) == Uniform(31, 8)
    assert expected(31, "x", 5, different) == Uniform(31, 5)
    for q in (high, different):
        law = expected(31, "x", None, q)
        assert isinstance(law, Independent)
        assert law.most == quantile(q, 0.9)
    attacked = expected(31, "x", None, None, attack=0.5)
    assert isinstance(attacked, Attacked)
    keys = [expected(31, "x", None, q).key for q in (low, high, different)] + [attacked.key]
    assert len({str(key) for key in keys}) == 4


def test_the_shipped_code_serves_equal_odds_up_to_a_quarter():
    A = projective_plane(5)
    assert exact_trained(A, 2, odds=np.full(31, 0.25)) is exact_trained(A, 2)


def test_weights_of_sets_count_in_the_gradient():
    rng = np.random.default_rng(4)
    B, step = rng.standard_normal((2, 10, 6))
    sets = Stragglers.of(rng.random((5, 6)) < 0.4, rng.random(5))
    assert np.array_equal(Stragglers.of(sets.late(6)).late(6), sets.late(6))
    _, gradient = mean_and_gradient(B, 2, sets, 1e-2)
    h = 1e-6
    up, down = (mean_and_gradient(B + x * step, 2, sets, 1e-2)[0] for x in (h, -h))
    assert np.sum(gradient * step) == pytest.approx((up - down) / (2 * h), rel=1e-6)
    assert sets.mean(losses(B, 2, sets, 1e-2)) == pytest.approx(
        mean_and_gradient(B, 2, sets, 1e-2)[0]
    )


@pytest.mark.parametrize("make", [
    lambda q: harmonic(PLANE, 2, choices=40, odds=q),
    lambda q: exact_trained(PLANE, 2, steps=500, starts=1, odds=q),
    lambda q: weighted_rank_one(PLANE, 2, trained=True, steps=500, odds=q),
])  # fmt: skip
def test_codes_that_know_the_odds_are_better(make):
    aware, unaware = mean_error(make(SLOW), 2, SLOW), mean_error(make(None), 2, SLOW)
    assert bounds.independent_holder_bound(PLANE, 2, SLOW) < aware
    assert aware < 0.9 * unaware


def test_they_stay_exact_for_t_stragglers():
    B = exact_trained(PLANE, 2, 1, steps=60, starts=1, odds=SLOW)
    late = ~np.eye(13, dtype=bool)
    assert ErrorEngine(B, target(B, 2)).errors(late).max() < 1e-9


def test_a_run_gives_its_odds_to_the_code():
    rates = "+".join(["12"] * 3 + ["1"] * 10)
    experiment = Experiment(
        assignment="projective-plane:order=3", encoding="harmonic:choices=20",
        stragglers=f"bernoulli:q=0.05,rates={rates}", problem="softmax", iterations=1,
    )  # fmt: skip
    book = build(experiment, PLANE).shared.codes
    assert np.allclose(book.odds, SLOW)
    assert np.array_equal(book.fixed, harmonic(PLANE, 2, choices=20, odds=book.odds))
    spec = Spec("harmonic", {"choices": 20})
    mixed = Ensemble(PLANE, 2, spec, relabel=True, odds=SLOW)
    assert np.allclose(mixed.odds, SLOW.mean())  # everybody plays the slow workers in turn


def test_attacks_are_the_greedy_search():
    """The worker that costs most is removed next, as in `worst_set`; it costs more than chance."""
    B = harmonic(PLANE, 2, 0, choices=10)
    found = attacks(B, 2, 5, 20, np.random.default_rng(5))
    assert (found.late(13).sum(axis=1) == 5).all()
    search = Search(B, 2)
    for T in found.workers:
        costs = search.costs(T[:-1])
        assert costs[T[-1]] == pytest.approx(np.delete(costs, T[:-1]).max(), rel=1e-3)
    chance = Stragglers.draw(13, np.full(200, 5), np.random.default_rng(6))
    assert losses(B, 2, found, 1e-6).mean() > 1.1 * losses(B, 2, chance, 1e-6).mean()
    both = joined(chance, found, 13, 0.3)
    assert both.weights[200:].sum() == pytest.approx(0.3)
    assert both.mean(np.ones(220)) == pytest.approx(1)
