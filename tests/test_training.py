"""One iteration and a whole run in one process: the loops against plain gradient descent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcmpi import seeds
from gcmpi.codes.code import Code
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.run import Run
from gcmpi.learning import partition, prepare
from gcmpi.training import Exchange, Replies, Worker
from tests.simulated import follow as train

SMALL = {
    "assignment": "projective-plane:order=2",
    "problem": "softmax",
    "dataset": "mixture:rows=200,features=6",
    "dtype": "float64",
    "wire": "float64",
    "optimizer": "momentum:rate=0.1",
    "iterations": 30,
    "audit_every": 1,
    "stragglers": "none",
    "wait": "all",
}


def make(**settings: object) -> Run:
    experiment = Experiment.from_settings({**SMALL, **settings})
    return build(experiment, assignment_matrix(experiment))


def plain_descent(run: Run) -> np.ndarray:
    """Gradient descent on all training rows: no code, no worker."""
    problem, data, optimizer = run.shared.problem, run.dataset, run.optimizer
    X, Y = prepare(data.X, problem.dtype), problem.targets(data.y)
    theta = run.theta
    for t in range(run.experiment.iterations):
        theta = optimizer.step(theta, problem.gradient(theta, X, Y, 1 / len(X)), t)
    return theta


EXACT = [
    {"assignment": "uncoded:n=5", "encoding": "uncoded", "m": 1},
    {"encoding": "stacked", "m": 1},
    {"assignment": "fractional-repetition:n=6,delta=3", "encoding": "stacked", "m": 1},
    {"assignment": "coset:k=5,m=2,generators=0+1+3", "encoding": "random-diagonal:0.5", "m": 2},
    {"assignment": "coset:k=5,m=3,generators=0+1+3", "m": 3, "encoding": "random-diagonal:0.5"},
    {"assignment": "biregular:n=8,k=4,delta=2,seed=0", "encoding": "random-hadamard", "m": 2},
]


@pytest.mark.parametrize("settings", EXACT, ids=lambda s: f"{s['encoding']}-m{s['m']}")
@pytest.mark.parametrize("problem", ["softmax", "mlp:hidden=5", "logistic", "least-squares"])
def test_exact_code_follows_plain_gradient_descent(settings, problem):
    """With nobody late, coded training is the plain one, to 1e-10 in float64."""
    run = make(problem=problem, **settings)
    state, rows = train(run)
    np.testing.assert_allclose(state.theta, plain_descent(run), rtol=1e-10, atol=1e-12)
    assert all(row.check == 1 for row in rows)
    assert max(row.gradient_error for row in rows) < 1e-9
    assert max(row.approximation_error for row in rows) < 1e-18


def test_fractional_repetition_survives_a_straggler_in_each_group():
    run = make(
        assignment="fractional-repetition:n=6,delta=3", encoding="stacked", m=1,
        stragglers="slow-set:workers=0+4,factor=100", wait="fastest:4",
    )  # fmt: skip
    state, rows = train(run)
    assert not any(row.survivors[[0, 4]].any() for row in rows)
    np.testing.assert_allclose(state.theta, plain_descent(run), rtol=1e-10, atol=1e-12)


def test_ignoring_stragglers_scales_what_came():
    """Uncoded and divided by alpha: the mean over the survivors, n/|S| times their sum."""
    run = make(assignment="uncoded:n=8", encoding="uncoded", m=1, stragglers="bernoulli:q=0.4")
    np.testing.assert_allclose(run.alpha, np.append(1 - np.arange(8) / 8, 1))
    _, rows = train(run)
    assert all(row.check == 1 for row in rows)
    errors = [row.approximation_error for row in rows]
    np.testing.assert_allclose(errors, [8 - row.survivors.sum() for row in rows], atol=1e-12)


@pytest.mark.parametrize(
    ("encoding", "m"),
    [("random-diagonal", 2), ("bibd", 1), ("weighted-rank-one", 2), ("harmonic:t=0", 2)],
)
def test_one_pass_says_what_one_gradient_a_subset_does(encoding, m, monkeypatch):
    run = make(encoding=encoding, m=m)
    worker = Worker(0, run.shared.problem, next(run.shards()), run.shared.schemes)
    theta = run.theta + 0.1
    head, calls = worker.problem.head, []
    monkeypatch.setattr(worker.problem, "head", lambda *a: calls.append(1) or head(*a))
    message = worker.answer(3, m, theta)
    assert len(calls) == 1
    code, data, problem = run.shared.codes.at(3), run.dataset, worker.problem
    held = [r for j, r in enumerate(partition(len(data.X), code.k)) if code.A[j, 0]]
    G = np.stack(
        [
            problem.gradient(theta, data.X[r], problem.targets(data.y[r]), 1 / len(data.X))
            for r in held
        ]
    )
    assert len(G) == 3
    np.testing.assert_allclose(message.y, code.encode(0, G), rtol=1e-11, atol=1e-14)


def test_redrawn_code_changes_and_agrees_between_ranks():
    run, twin = make(), make()
    codes = [run.shared.codes.at(t).B for t in range(3)]
    assert (codes[0] != codes[1]).any()
    assert (codes[1] != codes[2]).any()
    for t in (2, 0, 1):
        np.testing.assert_array_equal(twin.shared.codes.at(t).B, codes[t])
        for i in range(7):
            expected = run.shared.codes.at(t).coefficients(i)
            np.testing.assert_array_equal(twin.shared.codes.coefficients(t, i), expected)


def test_alpha_removes_the_shrinkage():
    """Averaged over redrawn codes, the decoded gradient over alpha is the gradient."""
    run = make(iterations=1)
    code_at, theta = run.shared.codes.at, run.theta + 0.2
    problem, data = run.shared.problem, run.dataset
    X, Y = prepare(data.X, problem.dtype), problem.targets(data.y)
    exact = problem.gradient(theta, X, Y, 1 / len(X))
    workers = [Worker(i, problem, s, run.shared.schemes) for i, s in enumerate(run.shards())]
    total = np.zeros(problem.d)
    draws = 1500
    rng = np.random.default_rng(0)
    for t in range(draws):
        survivors = np.ones(7, dtype=bool)
        survivors[rng.choice(7, 2, replace=False)] = False
        R = code_at(t).decode(survivors)
        Y_ = np.stack([worker.answer(t, 2, theta).y for worker in workers])
        total += (R.T @ Y_).ravel()[: problem.d]
    mean = total / draws
    assert np.linalg.norm(mean / run.alpha[2] - exact) < 0.06 * np.linalg.norm(exact)
    assert run.alpha[2] < 0.85
    assert make(rescale="none").alpha.tolist() == [1.0] * 8


class Corrupting:
    """An exchange whose server receives one worker's message changed."""

    def __init__(self, inner: Exchange, change) -> None:
        self.inner, self.change, self.state = inner, change, {}

    def exchange(self, t, m, theta, rule) -> Replies:
        replies = self.inner.exchange(t, m, theta, rule)
        Y = replies.Y.copy()
        Y[2] = self.change(Y[2])
        return replace(replies, Y=Y)


@pytest.mark.parametrize("wire", ["float64", "float32", "float16"])
def test_audit_finds_a_wrong_message(wire):
    run = make(wire=wire, dtype="float32" if wire == "float16" else "float64", iterations=5)
    _, clean = train(run)
    assert [row.check for row in clean] == [1] * 5
    for change in (lambda y: -y, lambda y: 1.5 * y, lambda y: np.roll(y, 1), lambda y: y * np.nan):
        _, rows = train(run, Corrupting(run.simulate(), change))
        assert 0 in [row.check for row in rows]


def test_nobody_answers():
    """An empty set of survivors decodes to zero: the parameters stay, and nothing divides by 0."""
    run = make(stragglers="bernoulli:q=1", optimizer="sgd:rate=0.1", iterations=2)
    state, rows = train(run)
    np.testing.assert_array_equal(state.theta, run.theta)
    assert [row.approximation_error for row in rows] == [14.0, 14.0]
    assert [row.gradient_error for row in rows] == [1.0, 1.0]


def test_virtual_clock():
    """A worker 2.5 times slower: late in its first iteration, then given the newest parameters."""
    run = make(stragglers="slow-set:workers=1,factor=2.5", wait="fastest:6", iterations=8)
    _, rows = train(run)
    for row in rows:
        assert row.exchange_seconds == pytest.approx(0.01)
        assert row.survivors.sum() == 6
    # its answers take 25 ms: given at 0, there at 25 ms, in the third iteration, and so on
    assert [(row.iteration, late) for row in rows for late in row.late] == [
        (2, (0, 1, pytest.approx(0.025))),
        (4, (2, 1, pytest.approx(0.030))),
        (7, (4, 1, pytest.approx(0.035))),
    ]
    assert sum(row.stale_messages for row in rows) == 3


def test_virtual_deadline():
    run = make(stragglers="bernoulli:q=0.5", wait="deadline:0.3", iterations=20)
    _, rows = train(run)
    for row in rows:
        # a server with a deadline does not know that the missing ones will never answer
        expected = 0.01 if row.survivors.all() else 0.3
        assert row.exchange_seconds == pytest.approx(expected)


def test_decodable_waits_for_no_more_than_it_needs():
    run = make(
        assignment="fractional-repetition:n=6,delta=3", encoding="stacked", m=1,
        stragglers="shifted-exponential:mean=0.1", wait="decodable:0", iterations=20,
    )  # fmt: skip
    _, rows = train(run)
    for row in rows:
        groups = row.survivors.reshape(2, 3)
        assert groups.any(axis=1).all()
        assert groups.sum(axis=1).min() == 1, "it stopped when the last group had its first answer"


def test_erasurehead_stops_at_one_answer_of_each_group_or_at_a_count():
    """With a count of two it may miss a group of the two, and never waits for a third answer."""
    parts = {"assignment": "fractional-repetition:n=6,delta=3", "encoding": "erasurehead", "m": 1,
             "decoder": "first-of-group"}  # fmt: skip
    _, rows = train(make(**parts, stragglers="shifted-exponential:mean=0.1", wait="covered:2"))
    groups = [row.survivors.reshape(2, 3).any(axis=1).sum() for row in rows]
    assert set(groups) == {1, 2}
    for row, seen in zip(rows, groups, strict=True):
        assert row.survivors.sum() == 2
        assert row.approximation_error == pytest.approx(6 - 3 * seen)
        assert row.check == 1


def test_same_stragglers_for_every_code():
    """Changing the code keeps data, initial parameters and straggler trace."""
    a, b = make(), make(encoding="stacked", m=1)
    np.testing.assert_array_equal(a.theta, b.theta)
    np.testing.assert_array_equal(a.dataset.X, b.dataset.X)
    c, d = make(stragglers="bernoulli"), make(stragglers="bernoulli", encoding="stacked")
    for t in range(5):
        np.testing.assert_array_equal(c.shared.stragglers.delays(t), d.shared.stragglers.delays(t))


def test_streams_are_independent():
    draws = [seeds.generator(0, stream).random(4) for stream in range(5)]
    assert len({tuple(draw) for draw in draws}) == 5
    assert (seeds.generator(0, 1, 5).random(4) != seeds.generator(0, 1, 6).random(4)).all()


def test_code_book_refuses_an_encoding_that_does_not_fit():
    with pytest.raises(ValueError, match="needs --assignment uncoded"):
        make(encoding="uncoded", m=1)
    with pytest.raises(ValueError, match="needs m=1"):
        make(assignment="uncoded:n=4", encoding="uncoded", m=2)


def test_fixed_code_is_kept():
    run = make(assignment="biregular:n=8,k=4,delta=2,seed=0", encoding="random-hadamard")
    first: Code = run.shared.codes.at(0)
    assert run.shared.codes.at(5) is first


def test_lossy_compression_trains_and_promises_nothing():
    """Half the bytes by top-k or rand-k with error feedback: near plain descent, never checked."""
    same = {"assignment": "uncoded:n=5", "encoding": "uncoded", "m": 1, "iterations": 60,
            "optimizer": "sgd:rate=0.1"}  # fmt: skip
    _, plain = train(make(**same))
    for compression in ("top-k", "rand-k"):
        _, rows = train(make(**same, compression=f"{compression}:fraction=0.5"))
        assert {row.check for row in rows} == {255}
        assert rows[-1].loss < 1.2 * plain[-1].loss
        assert rows[0].bytes_up <= 0.51 * plain[0].bytes_up
    with pytest.raises(ValueError, match="every iteration, as with --encoding random"):
        make(compression="top-k")


SOURCES = [
    ("fractional-repetition:n=6,delta=3", "fractional-repetition", "first-of-group", 1),
    ("projective-plane:order=2", "bibd", "bibd", 1),
    ("projective-plane:order=2", "bibd", "one-step", 1),
    ("fractional-repetition:n=6,delta=3", "block-mds", "block", 2),
    ("cyclic:n=6,delta=3", "ye-abbe", "vandermonde", 2),
    ("cyclic:n=6,delta=3", "cyclic-repetition", "least-squares", 1),
    ("cyclic:n=6,delta=3", "gaussian-exact", "least-squares", 2),
]


@pytest.mark.parametrize(("assignment", "encoding", "decoder", "m"), SOURCES)
def test_baselines_train_with_the_decoder_of_their_source(assignment, encoding, decoder, m):
    """Exact with nobody late, every audit passes with stragglers, and the loss falls."""
    parts = {"assignment": assignment, "encoding": encoding, "decoder": decoder, "m": m}
    run = make(**parts)
    state, _ = train(run)
    np.testing.assert_allclose(state.theta, plain_descent(run), rtol=1e-8, atol=1e-10)
    _, rows = train(make(**parts, stragglers="bernoulli:q=0.2", iterations=40))
    assert all(row.check == 1 for row in rows)
    assert rows[-1].loss < 0.6 * rows[0].loss


def test_short_messages_are_decoded_with_a_ridge():
    """An exact code with as many stragglers as it can do: rounding does not blow up."""
    same = {"assignment": "projective-plane:order=5", "encoding": "exact-trained", "m": 2,
            "wait": "fastest:27", "wire": "bfloat16", "iterations": 30}  # fmt: skip
    worst = {}
    for decoder in ("auto", "least-squares"):
        _, rows = train(make(**same, decoder=decoder))
        assert all(row.check == 1 for row in rows)
        worst[decoder] = max(row.gradient_error for row in rows)
    assert 4 * worst["auto"] < worst["least-squares"]
    alphas = [make(**same, relabel=True, decoder=d).alpha for d in ("auto", "ridge:eps=0.3")]
    assert alphas[0][0] == pytest.approx(1, abs=1e-4)
    assert alphas[1][0] < 0.9


def test_decoder_refuses_a_code_that_it_does_not_serve():
    with pytest.raises(ValueError, match="graph"):
        make(decoder="graph")


def test_ties_favour_nobody():
    """Equal virtual times: with fastest:3 of 7 every worker is among the first equally often."""
    run = make(wait="fastest:3", iterations=300, audit_every=300)
    _, rows = train(run)
    counts = np.sum([row.survivors for row in rows], axis=0)
    assert counts.sum() == 900
    assert counts.min() > 90
    assert counts.max() < 170
