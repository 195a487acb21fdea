"""Decoding with memory: against dense formulas, its theorem, what it keeps, what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gcmpi.codes import errors
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.in_turn import InTurn
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.training import memory
from tests.every import every
from tests.simulated import follow

SMALL = {
    "assignment": "projective-plane:order=2",
    "encoding": "stacked",
    "problem": "softmax",
    "dataset": "mixture:rows=210,features=6",
    "dtype": "float64",
    "wire": "float64",
    "optimizer": "momentum:rate=0.1",
    "iterations": 25,
    "audit_every": 1,
    "stragglers": "bernoulli:q=0.4",
    "wait": "deadline:0.02",
}
GROUPS = {"assignment": "groups:n=11,c=3", "encoding": "frame"}
SLOW = {"stragglers": "slow-set:workers=1+3,factor=3.5", "wait": "fastest:5", "late": "remember"}
UNCODED = {"assignment": "uncoded:n=7", "encoding": "uncoded", "m": 1}
KINDS = {
    "fixed": {"encoding": "harmonic:t=0"},
    "lossy": {},
    "redrawn": {"encoding": "random-diagonal:epsilon=0.3"},
    "relabelled": {"relabel": True},
    "groups": GROUPS,
    "groups-3": GROUPS | {"m": 3},
    "graph": {"assignment": "graph:n=12,c=3,r=2", "encoding": "frame"},
    "repetition": {"assignment": "fractional-repetition:n=8,delta=4", "m": 1},
    "uncoded": UNCODED,
    "partial": {"encoding": "partial-stragglers", "stragglers": "shifted-exponential:mean=0.01"},
    "switched": {"encoding": "harmonic:t=0", "switch": "observed:tolerance=0.3,window=2", "m": 3},
    "decoder": {"encoding": "bibd", "decoder": "bibd", "m": 1},
    "batches": GROUPS | {"batch": "0.3", "memory": "auto"},
    "slow": {"stragglers": "slow-set:workers=1+3,factor=3", "wait": "fastest:5"},
    "in-turn": GROUPS | {"encoding": "stacked", "m": 4, "parts": "in-turn"},
    "in-turn-uncoded": UNCODED | {"m": 2, "parts": "in-turn"},
    "in-turn-redrawn": {"encoding": "random-diagonal", "m": 3, "parts": "in-turn"},
    "late": SLOW | {"encoding": "harmonic:t=0"},
    "late-redrawn": SLOW | {"encoding": "random-diagonal"},
    "late-switched": SLOW
    | {"encoding": "harmonic:t=0", "switch": "observed:tolerance=0.3", "m": 3},
    "short": GROUPS | {"wire": "float16", "dtype": "float32"},
    "top-k": {"encoding": "harmonic:t=0", "compression": "top-k"},
}


def make(**settings):
    e = Experiment.from_settings(SMALL | {"memory": "1"} | settings)
    return build(e, assignment_matrix(e))


class Overheard:
    """An exchange that keeps what passes through it."""

    def __init__(self, inner) -> None:
        self.inner, self.heard = inner, []

    @property
    def state(self):
        return self.inner.state

    @state.setter
    def state(self, arrays) -> None:
        self.inner.state = arrays

    def exchange(self, t, m, theta, rule):
        replies = self.inner.exchange(t, m, theta, rule)
        self.heard.append((m, theta, replace(replies, Y=replies.Y.astype(np.float64))))
        return replies


def when(answer):
    return answer[:3]


def dense(run, heard, eta):
    """Yield the gradient of each iteration by the formulas as they stand, with all of Zh."""
    k, d = run.A.shape[0], run.shared.problem.d
    whole = np.zeros((k, 6 * d))

    def learn(m, B, Y):
        length = -(-d // m)
        Z = whole[:, : m * length].reshape(k, m, length).swapaxes(0, 1).reshape(m * k, length)
        Z = Z.copy()
        E = Y - B.T @ Z
        new = Z + eta * np.linalg.pinv(B).T @ E
        whole[:, : m * length] = new.reshape(m, k, length).swapaxes(0, 1).reshape(k, -1)
        return Z, E

    for t, (m, _, replies) in enumerate(heard):
        scheme, S = run.schemes[m], replies.survivors
        for (then, m_then), late in itertools.groupby(
            sorted(replies.kept, key=when), lambda a: a[:2]
        ):
            answers = list(late)
            B = run.schemes[m_then].codes.at(then).B[:, [answer.i for answer in answers]]
            learn(m_then, B, np.stack([answer.y for answer in answers]))
        code = scheme.codes.at(t, None if replies.done is None else replies.done.finished)
        R = scheme.decoder(code, S)
        Z, E = learn(m, code.B[:, S], replies.Y[S])
        yield (code.target.T @ Z + R[S].T @ E).ravel()[:d]


@every("kind", KINDS)
@every("eta", ["1", "0.4"])
def test_training_follows_the_dense_formulas(kind, eta):
    run = make(**{"memory": eta, **kind})
    exchange = Overheard(run.simulate())
    state, rows = follow(run, exchange)
    optimizer, theta = run.optimizer, run.theta
    exact = run.shared.wire.dtype == "float64"
    close = {"rtol": 1e-8, "atol": 1e-11} if exact else {"rtol": 2e-2, "atol": 2e-3}
    for t, g in enumerate(dense(run, exchange.heard, run.eta)):
        np.testing.assert_allclose(exchange.heard[t][1], theta, **close)
        theta = optimizer.step(theta, g.astype(theta.dtype), t)
    np.testing.assert_allclose(state.theta, theta, **close)
    assert {row.check for row in rows} == {1 if run.shared.wire.exact else 255}
    assert {row.divisor for row in rows} == {1.0}
    heard = sum(len(replies.kept) for _, _, replies in exchange.heard)
    assert heard == sum(row.stale_messages for row in rows) * (run.experiment.late == "remember")
    assert heard > 5 or "late" not in kind


@pytest.mark.parametrize("settings", [UNCODED, KINDS["redrawn"], GROUPS | {"m": 3}])
def test_an_audit_finds_a_memory_that_is_not_what_was_learnt(settings, monkeypatch):
    """Another memory, one that is not corrected by what R takes, and one with a wrong message."""
    run = make(**settings)
    gradient = memory.Estimate.gradient

    def wrong(change):
        def decode(self, code, R, replies, d):
            return gradient(self, code, *change(self, R, replies), d)

        monkeypatch.setattr(memory.Estimate, "gradient", decode)
        _, rows = follow(run)
        return [row.check for row in rows]

    def forgetful(estimate, R, replies):
        estimate.state["estimate"][...] *= 0.9
        return R, replies

    assert set(wrong(lambda estimate, R, replies: (R, replies))) == {1}
    assert 0 in wrong(forgetful)
    assert 0 in wrong(lambda estimate, R, replies: (1.1 * R, replies))
    assert 0 in wrong(lambda estimate, R, replies: (R, replace(replies, Y=-replies.Y)))


# the theorem of docs/memory.md


class Quadratics:
    """f_j(x) = (x - c_j)' H_j (x - c_j) / 2, k of them; f is their sum."""

    def __init__(self, k: int, d: int, rng: np.random.Generator) -> None:
        M = rng.normal(size=(k, d, d)) / np.sqrt(d)
        self.H = M @ M.swapaxes(1, 2) + 0.3 * np.eye(d)
        self.c = rng.normal(size=(k, d))
        self.sum = self.H.sum(axis=0)
        values = np.linalg.eigvalsh(self.sum)
        self.mu, self.L = values[0], values[-1]
        self.M = np.sqrt(k * np.sum(np.linalg.eigvalsh(self.H)[:, -1] ** 2))
        self.best = np.linalg.solve(self.sum, np.einsum("jab,jb->a", self.H, self.c))

    def gradients(self, x):
        return np.einsum("jab,jb->ja", self.H, x - self.c)

    def excess(self, x):
        return (x - self.best) @ self.sum @ (x - self.best) / 2


THEOREM = {
    "uncoded": ("uncoded:n=10", "uncoded", 1, 1.0),
    "groups": ("groups:n=12,c=3", "frame", 2, 1.0),
    "graph": ("graph:n=14,c=2,r=2", "frame", 2, 1.0),
    "harmonic": ("projective-plane:order=2", "harmonic:t=0", 2, 1.0),
    "redrawn": ("projective-plane:order=2", "random-diagonal:epsilon=0.5", 2, 1.0),
    "half": ("groups:n=12,c=3", "frame", 2, 0.5),
}


def descend(code, quadratics, gamma, steps, rng, q, eta=1.0):
    """Yield f - f* along gradient descent with memory, down to 1e-14 of what it was."""
    k, d = quadratics.c.shape
    m = code.m
    estimate = memory.Estimate(memory.Layout.of({m: code}, d), eta, np.float64)
    x = np.zeros(d)
    initial = quadratics.excess(x)
    for t in range(steps):
        yield quadratics.excess(x)
        if quadratics.excess(x) < 1e-14 * initial:
            return
        now, survivors = code.at(t), rng.random(code.n) >= q
        Z = quadratics.gradients(x).reshape(k, m, d // m).swapaxes(0, 1).reshape(m * k, -1)
        Y = now.B.T @ Z
        Y[~survivors] = np.nan
        replies = SimpleNamespace(Y=Y, survivors=survivors)
        x = x - gamma * estimate.gradient(now, now.decode(survivors), replies, d)


@every("assignment, encoding, m, eta", THEOREM)
def test_theorem_c_bounds_the_mean_excess(assignment, encoding, m, eta):
    """Heterogeneous minimisers and q = .25: linear convergence to the optimum, to rounding."""
    q, d = 0.25, 4
    code = Ensemble(assignment, m, encoding)
    f = Quadratics(code.k, d, np.random.default_rng(3))
    p = eta * (2 - eta) * errors.renewal(code, q)
    assert 0.05 < p <= 1
    r = np.sqrt(1 - p)
    theta = 1 - r
    gamma = min(1 / (f.L + np.sqrt(2) * f.M * r / (1 - r)), theta / (2 * f.mu))
    runs = [
        list(descend(code, f, gamma, 3000, np.random.default_rng(seed), q, eta))
        for seed in range(3)
    ]
    steps = min(map(len, runs))
    mean = np.mean([run[:steps] for run in runs], axis=0)
    initial = np.sum(f.gradients(np.zeros(d)) ** 2)
    promised = (1 - gamma * f.mu) ** np.arange(steps) * (mean[0] + gamma * code.k / theta * initial)
    assert (mean <= promised).all()
    assert mean[-1] < 1e-12 * mean[0]


def test_how_much_an_iteration_renews():
    """Uncoded 1 - q; with m = 1 what a group answers at all; nothing where the code is lossy."""
    assert errors.renewal(Ensemble("uncoded:n=9", 1, "uncoded"), 0.3) == pytest.approx(0.7)
    odds = np.linspace(0, 0.8, 9)
    assert errors.renewal(Ensemble("uncoded:n=9", 1, "uncoded"), odds) == pytest.approx(0.2)
    groups = Ensemble("groups:n=11,c=3", 1, "frame")
    assert errors.renewal(groups, 0.4) == pytest.approx(1 - 0.4**3)
    one, two = (errors.renewal(Ensemble("groups:n=9,c=3", 2, "frame"), q) for q in (0.2, 0.5))
    assert 0.8**3 + 3 * 0.8**2 * 0.2 <= one < 1
    assert 0.5 <= two < one
    assert errors.renewal(Ensemble("projective-plane:order=2", 2, "stacked"), 0.2) == 0
    redrawn = errors.renewal(Ensemble("projective-plane:order=2", 2, "random-diagonal"), 0.25)
    assert 0.2 < redrawn < 0.75 * 7 / 14
    assert errors.renewal(groups, 1) == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        errors.renewal(groups, 1.5)


@pytest.mark.parametrize("settings", [UNCODED, {"encoding": "harmonic:t=0"}])
def test_gradients_become_exact_where_the_code_alone_loses_for_ever(settings):
    def error(**more):
        _, rows = follow(make(**settings, **more, iterations=150, optimizer="sgd:rate=0.3"))
        return np.median([row.gradient_error for row in rows[-30:]])

    assert 10 * error() < error(memory="0")


def test_rounding_of_short_messages_does_not_build_up():
    """Relative to a gradient that becomes small, with and without memory."""
    short = GROUPS | {"wire": "float16", "dtype": "float32", "optimizer": "sgd:rate=0.3"}
    short["stragglers"] = "bernoulli:q=0.05"
    errors = {}
    for kept in ("0", "1"):
        _, rows = follow(make(**short, memory=kept, iterations=150))
        errors[kept] = np.median([row.gradient_error for row in rows[-50:]])
    assert errors["1"] < 1.3 * errors["0"]


# what is kept


@every(
    "assignment, encoding, m, gradients",
    {
        "groups": ("groups:n=31,c=5", "frame", 2, 5),
        "repetition": ("fractional-repetition:n=12,delta=4", "stacked", 1, 3),
        "uncoded": ("uncoded:n=6", "uncoded", 1, 6),
        "graph": ("graph:n=30,c=5,r=2", "frame", 2, 10),
        "fixed": ("projective-plane:order=5", "harmonic", 2, 15.5),
        "redrawn": ("projective-plane:order=5", "random-diagonal", 2, 31),
    },
)
def test_no_more_is_kept_than_messages_span(assignment, encoding, m, gradients):
    codes = {m: Ensemble(assignment, m, encoding)}
    assert memory.Layout.of(codes, 60).numbers <= 60 * gradients


def test_memory_is_in_the_state_at_checkpoints_only():
    run = make(**GROUPS)
    seen = []

    class Rows:
        over = False

        def append(self, row, state):
            seen.append(state.memory)

    from gcmpi.training import train

    parts = run.moving(run.simulate())
    state = train(run, parts, run.start, Rows())
    assert seen == [{}] * run.iterations
    assert state.memory["estimate"] is parts.memory.state["estimate"]
    with pytest.raises(ValueError, match="start the run anew"):
        make(**UNCODED).memory.state = state.memory


# settings


def test_auto_is_a_quarter_of_the_part_of_the_rows_that_a_batch_takes():
    assert make(memory="auto").eta == make(memory="auto", batch="rows:24").eta == 1
    assert make(memory="auto", batch="0.4").eta == pytest.approx(0.1, abs=0.005)
    assert make(memory="auto", batch="rows:1").eta == pytest.approx(0.25 / 24, abs=0.001)
    assert make(memory="0.25", batch="0.4").eta == 0.25
    assert make(memory=1).experiment.memory == "1"
    assert Experiment(memory="1.0").digest == Experiment(memory=1).digest != Experiment().digest
    assert Experiment.from_toml("memory = 0.5\n").memory == "0.5"


@every("text", ["-0.1", "1.5", "nan", "yes", "", "true"])
def test_a_memory_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"--memory must be 0 \(none\), a number up to 1"):
        Experiment(memory=text)


def test_division_by_alpha_is_refused_with_memory_and_else_left_out():
    with pytest.raises(ValueError, match="--rescale alpha is for decoding without memory"):
        Experiment(memory="1").change({"rescale": "alpha"})
    with pytest.raises(ValueError, match="--rescale alpha is for decoding without memory"):
        Experiment().change({"rescale": "alpha", "memory": "auto"})
    plain = Experiment(memory="1").change({"memory": "0", "rescale": "alpha"})
    assert plain == Experiment()
    assert make(**KINDS["redrawn"]).alpha.tolist() == [1.0] * 8
    assert make(**KINDS["redrawn"], memory="0").alpha[3] < 1


def test_a_memory_that_does_not_fit_is_refused(monkeypatch):
    from gcmpi import environment

    monkeypatch.setattr(environment, "free_memory", lambda: 100.0)
    with pytest.raises(ValueError, match=r"--memory 1 keeps 98 numbers, 0 MB, but 0 MB are free"):
        make(**KINDS["redrawn"])


# one part in turn


def test_every_worker_sends_every_part_in_turn_and_holders_of_a_subset_share_them_out():
    for assignment, encoding in (("groups:n=11,c=3", "stacked"), ("uncoded:n=5", "uncoded")):
        codes = InTurn(assignment, 3, encoding)
        plain = codes.whole.at(0).B
        parts = np.stack([codes.at(t).B.reshape(3, codes.k, codes.n) for t in range(7)])
        np.testing.assert_array_equal(parts.sum(axis=1), np.broadcast_to(plain, (7, *plain.shape)))
        sent = parts.any(axis=2).argmax(axis=1)  # (t, n)
        np.testing.assert_array_equal(sent[1:], (sent[:-1] + 1) % 3)
        for holders in codes.A.astype(bool):
            assert len(set(sent[0, holders])) == min(3, holders.sum())
        for t in range(3):
            for i in range(codes.n):
                rows = codes.at(t).B.reshape(3, codes.k, codes.n)[:, codes.A[:, i] == 1, i]
                np.testing.assert_array_equal(codes.coefficients(t, i), rows)
    draws = {
        InTurn("uncoded:n=5", 3, "uncoded").draw(np.random.default_rng(s)).tobytes()
        for s in range(20)
    }
    assert len(draws) == 3


def test_a_quarter_of_the_bytes_and_the_same_optimum():
    parts = {"parts": "in-turn", "iterations": 150, "optimizer": "sgd:rate=0.3"}
    _, rows = follow(make(**GROUPS | {"encoding": "stacked", "m": 4}, **parts))
    _, plain = follow(make(**GROUPS | {"encoding": "stacked", "m": 1, "iterations": 150}))
    assert (
        rows[-1].bytes_up / rows[-1].survivors.sum()
        < 0.4 * plain[-1].bytes_up / plain[-1].survivors.sum()
    )
    assert np.median([row.gradient_error for row in rows[-30:]]) < 0.1


@every(
    "settings, message",
    [
        ({"memory": "0"}, "leaves out all parts of a message but one.*: give --memory 1"),
        ({"switch": "observed:tolerance=0.4"}, "with one m: give --switch never"),
        ({"relabel": True}, "--parts in-turn goes without --relabel"),
        ({"encoding": "partial-stragglers"}, "needs an encoding that is fixed before"),
        ({"compression": "top-k"}, "as with --parts in-turn"),
    ],
)
def test_parts_in_turn_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(parts="in-turn", **{"m": 2} | settings)


# late answers


def test_late_answers_bring_what_slow_workers_alone_hold():
    """Uncoded, the rows of two slow workers are lost for good; remembered, they are a bit old."""
    settings = UNCODED | SLOW | {"iterations": 200, "optimizer": "sgd:rate=0.3"}
    loss = {late: follow(make(**settings | {"late": late}))[1][-1].loss for late in LATE}
    best = follow(make(**settings | {"wait": "all", "late": "drop"}))[1][-1].loss
    assert loss["remember"] < best + 0.05 * (loss["drop"] - best)


LATE = ("drop", "remember")


@every(
    "settings, message",
    [
        ({"memory": "0"}, "--late remember feeds late answers to the server's memory"),
        ({"encoding": "partial-stragglers"}, "--late remember is for whole answers"),
    ],
)
def test_late_answers_that_cannot_be_remembered_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(late="remember", **settings)
