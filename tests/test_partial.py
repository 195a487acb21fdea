"""Partial stragglers: the order of subsets, the code of a count, and runs on the virtual clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcmpi import records as recording
from gcmpi import seeds
from gcmpi.assignments import projective_plane
from gcmpi.cluster.messages import (
    Coefficients,
    End,
    Finished,
    Parameters,
    Request,
    Silence,
    seconds_needed,
)
from gcmpi.cluster.stragglers import Table
from gcmpi.codes.assignments.order import order
from gcmpi.codes.ensemble import Ensemble
from gcmpi.learning import partition, prepare
from gcmpi.registry import ASSIGNMENTS, STRAGGLERS, Spec
from gcmpi.training.partial import PartWorker, work
from tests import simulated
from tests.every import every
from tests.test_training import make, plain_descent, train

PARTIAL = {"encoding": "partial-stragglers", "stragglers": "slow-set:workers=0+3,factor=2.1"}


# the order


@every("spec", lambda: [Spec(part.name, x) for part in ASSIGNMENTS for x in part.examples])
def test_order_takes_all_pairs_and_every_subset_equally_often_at_each_position(spec):
    A = ASSIGNMENTS.build(spec)
    position = order(A)
    assert ((position >= 0) == (A != 0)).all()
    loads, gammas = A.sum(axis=0, dtype=int), A.sum(axis=1, dtype=int)
    for i, load in enumerate(loads):
        assert sorted(position[A[:, i] != 0, i]) == list(range(load))
    if (loads == loads[0]).all():
        for p in range(loads[0]):
            matched = (position == p).sum(axis=1)
            assert (matched >= gammas // loads[0]).all()
            assert (matched <= -(-gammas // loads[0])).all()


def test_order_of_a_symmetric_design_is_perfect_matchings():
    position = order(projective_plane(5))
    for p in range(6):
        matching = position == p
        assert (matching.sum(axis=0) == 1).all()
        assert (matching.sum(axis=1) == 1).all()


# the code


CODES = {
    name: Ensemble(ASSIGNMENTS.build(name), m, Spec("partial-stragglers"), seed=3)
    for name, m in (
        ("projective-plane:order=3", 2),
        ("projective-plane:order=3", 3),
        ("affine-plane:order=3", 2),
        ("random-replication:n=8,k=6,gamma=3", 1),
    )
}


def holders(codes: Ensemble, finished: np.ndarray) -> np.ndarray:
    """How many workers have finished each subset."""
    count = np.zeros(codes.A.shape[0], dtype=int)
    for i, number in enumerate(finished):
        count[codes.subsets(i)[:number]] += 1
    return count


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_exact_iff_every_subset_was_finished_by_m_workers(data):
    codes = CODES[data.draw(st.sampled_from(sorted(CODES)))]
    loads = codes.A.sum(axis=0, dtype=int)
    finished = np.array([data.draw(st.integers(load // 3, load)) for load in loads])
    code = codes.at(0, finished)
    lost = np.maximum(codes.m - holders(codes, finished), 0).sum()
    error = code.error(np.ones(code.n, dtype=bool))
    assert error == pytest.approx(lost, rel=1e-9, abs=1e-18 * code.m * code.k)


def test_the_server_may_combine_with_the_random_matrix():
    """B R = F for one random R, whatever was finished, where enough workers have finished."""
    codes = CODES["projective-plane:order=3"]
    R = seeds.generator(codes.seed, seeds.CODE).standard_normal((13, codes.m))
    for finished in (np.arange(13) % 5, np.full(13, 3), np.full(13, 4)):
        code = codes.at(0, finished)
        enough = np.tile(holders(codes, finished) >= codes.m, codes.m)
        assert enough.any()
        np.testing.assert_allclose((code.B @ R)[enough], code.target[enough], atol=1e-9)


def test_code_of_a_count():
    codes = CODES["projective-plane:order=3"]
    loads = codes.A.sum(axis=0, dtype=int)
    np.testing.assert_array_equal(codes.at(7, loads).B, codes.at(0).B)
    nothing = codes.at(0, np.zeros(13, dtype=int))
    assert not nothing.B.any()
    finished = np.arange(13) % 5
    code = codes.at(2, finished)
    for i, column in enumerate(codes.columns(2, finished)):
        assert column.shape == (codes.m, finished[i])
        done = codes.subsets(i)[: finished[i]]
        blocks = code.B.reshape(codes.m, 13, 13)[:, :, i]
        np.testing.assert_array_equal(blocks[:, done], column)
        assert np.count_nonzero(blocks) == column.size


# the worker


class ScriptedServer:
    """A worker's mailbox, with a clock of its own: the server asks when it looks so often."""

    def __init__(self, asks_after, d):
        self.now, self.posted = 0.0, []
        self._script = self._notes(asks_after, d)

    def _notes(self, asks_after, d):
        yield Parameters(0, 2, np.zeros(d))
        looks = 0
        while not self.posted:
            yield Request(0) if looks == asks_after else None
            looks += 1
        if getattr(self.posted[0], "subsets", 0):
            yield Coefficients(np.full(2 * self.posted[0].subsets, 0.5))
        while isinstance(self.posted[-1], Finished) and self.posted[-1].subsets:
            yield None
        yield End()

    def post(self, i, note):
        self.posted.append(note)
        return True

    def wait(self, seconds):
        note = next(self._script)
        self.now += max(seconds, 0) if note is None or isinstance(note, Request) else 0
        return [] if note is None else [(0, note)]


def worked(asks_after, delay, unit="seconds"):
    """Worker 1 of 7, with three subsets, against a scripted server: (worker, its notes)."""
    run = make(**PARTIAL)
    worker = PartWorker(1, run.shared.problem, list(run.shards())[1])
    server = ScriptedServer(asks_after, run.shared.problem.d)
    work(server, worker, Table(np.array([[0.0, delay]]), unit))
    return worker, server.posted


@pytest.mark.parametrize(("asks_after", "delay", "finished"), [
    (9, 0.0, 3), (9, 0.003, 3), (1, 0.0, 2), (0, 0.0, 1),
])  # fmt: skip
def test_a_worker_says_what_it_has_finished(asks_after, delay, finished):
    """Its message is that of the subsets it counts, with the coefficients that it gets."""
    worker, posted = worked(asks_after, delay)
    assert posted[0] == Finished(0, finished)
    assert len(posted) == 1 + (finished > 0)
    for message in posted[1:]:
        np.testing.assert_array_equal(message.y, worker.encode(np.full((2, finished), 0.5)))
        assert finished * delay / 3 <= message.spent.delay + 1e-12 <= delay + 2e-12
        assert message.spent.compute > 0


def test_a_delay_in_units_of_computation_is_one_for_each_subset():
    message = worked(9, 2.0, unit="compute")[1][1]
    assert message.spent.delay == pytest.approx(2 * message.spent.compute)


def test_a_silent_worker_counts_nothing():
    assert worked(9, np.inf)[1] == [Silence(0)]


def test_pace():
    """Two of four done at 5 s, and in the middle of the third: 8 s for all."""
    counted, finished = np.array([5.0, 5.0, 3.0, np.nan]), np.array([2, 0, 4, 0])
    found = seconds_needed(counted, finished, np.array([4, 4, 4, 4]))
    np.testing.assert_allclose(found, [8.0, 40.0, 3.0, np.nan])


# runs on the virtual clock


def recomputed(run, finished, survivors):
    """The parameters after iterations with these counts, from all subset gradients."""
    problem, data, codes = run.shared.problem, run.dataset, run.shared.codes
    X, Y = prepare(data.X, problem.dtype), problem.targets(data.y)
    slices = partition(len(X), codes.A.shape[0])
    theta, optimizer, length = run.theta, run.optimizer, -(-problem.d // codes.m)
    for t, (done, answered) in enumerate(zip(finished, survivors, strict=True)):
        code = codes.at(t, done)
        weights = (code.B @ code.decode(answered)).reshape(code.m, code.k, code.m)
        decoded = np.zeros((code.m, length))
        for j, rows in enumerate(slices):
            g = np.zeros(code.m * length)
            g[: problem.d] = problem.gradient(theta, X[rows], Y[rows], 1 / len(X))
            decoded += weights[:, j].T @ g.reshape(code.m, length)
        theta = optimizer.step(theta, decoded.ravel()[: problem.d], t)
    return theta


def test_virtual_clock():
    """The three phases: a worker sees the request when its subset is computed, or in its delay."""
    # 3.33 ms for a subset of the others; 3.33 ms and 3.67 ms of delay for one of workers 0 and 3
    trace = {"stragglers": "slow-set:workers=0+3,factor=2.1"}
    for wait, finished, seconds in (
        ("deadline:0.0125", 1, 0.0125),  # in the delay of the second: asked at once
        ("deadline:0.0145", 2, 0.007 * 2 + 0.01 / 3),  # computes the third: asked when it has
        ("fastest:5", 1, 0.007 + 0.01 / 3),
        ("all", 3, 0.021),
    ):
        _, rows = train(make(encoding="partial-stragglers", **trace, wait=wait))
        for row in rows:
            assert row.finished.tolist() == [finished, 3, 3, finished, 3, 3, 3]
            assert row.survivors.all()
            np.testing.assert_allclose(row.arrival_seconds, seconds)
            assert row.exchange_seconds == pytest.approx(seconds)
            assert row.stale_messages == 0


def test_a_count_that_comes_late_on_the_virtual_clock():
    """One subset a worker, and a deadline before it is there: the count is late, and dropped."""
    run = make(
        encoding="partial-stragglers", assignment="uncoded:n=4", m=1,
        wait="deadline:0.003", iterations=8,
    )  # fmt: skip
    state, rows = train(run)
    # a count comes after 10 ms. The server waits for 3 ms, and as long for those it has asked; who
    # is late gets newer parameters in the middle of an iteration, at 10, 20 and 30 ms
    late = {row.iteration: row.late for row in rows if row.late}
    assert {t: {iteration for iteration, _, _ in found} for t, found in late.items()} == {
        2: {0}, 4: {2}, 7: {4},
    }  # fmt: skip
    for row, seconds in zip(late.values(), (0.010, 0.011, 0.012), strict=True):
        assert sorted(i for _, i, _ in row) == [0, 1, 2, 3]
        np.testing.assert_allclose([x for _, _, x in row], seconds)
    assert not any(row.survivors.any() for row in rows)
    np.testing.assert_array_equal(state.theta, run.theta)


@pytest.mark.parametrize("wait", ["fastest:4", "deadline:0.015", "deadline:auto", "covered:5"])
def test_run_is_what_the_counts_say(wait):
    run = make(**PARTIAL | {"stragglers": "shifted-exponential:mean=0.03"}, wait=wait)
    state, rows = train(run)
    finished = np.array([row.finished for row in rows])
    assert ((finished > 0) & (finished < 3)).any()
    theta = recomputed(run, finished, [row.survivors for row in rows])
    np.testing.assert_allclose(state.theta, theta, rtol=1e-9, atol=1e-12)
    assert all(row.check == 1 for row in rows)
    for row in rows:
        lost = np.maximum(2 - holders(run.shared.codes, row.finished), 0).sum()
        assert row.approximation_error == pytest.approx(lost, abs=1e-12)


def test_exact_where_ignoring_late_workers_is_not():
    """Three of seven workers finish two thirds: every subset has two holders, nothing is lost."""
    slow = {"stragglers": "slow-set:workers=0+1+3,factor=2.1", "wait": "deadline:0.0145"}
    run = make(encoding="partial-stragglers", **slow)
    state, rows = train(run)
    assert all(row.finished.tolist() == [2, 2, 3, 2, 3, 3, 3] for row in rows)
    np.testing.assert_allclose(state.theta, plain_descent(run), rtol=1e-9, atol=1e-11)
    _, ignoring = train(make(encoding="exact-trained", **slow))
    assert np.median([row.gradient_error for row in ignoring]) > 0.1
    assert max(row.gradient_error for row in rows) < 1e-9


def test_silent_workers_finish_nothing():
    run = make(**PARTIAL | {"stragglers": "bernoulli:q=0.3"}, wait="all")
    _, rows = train(run)
    for row in rows:
        np.testing.assert_array_equal(row.finished, 3 * row.survivors)
    assert not all(row.survivors.all() for row in rows)
    state, rows = train(make(**PARTIAL | {"stragglers": "bernoulli:q=1"}, iterations=2))
    np.testing.assert_array_equal(state.theta, run.theta)
    assert [row.approximation_error for row in rows] == [14.0, 14.0]


def test_deadline_that_follows_counts_stays_where_the_healthy_are():
    """Workers that are cut off are known by their pace, and messages after it do not move it."""
    run = make(**PARTIAL | {"stragglers": "slow-set:workers=0,factor=8"}, wait="deadline:auto",
               iterations=60)  # fmt: skip
    _, rows = train(run)
    late = [row.exchange_seconds for row in rows[20:]]
    assert 0.01 < min(late)
    assert max(late) < 0.015


# what is refused, and what is kept


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"m": 4}, r"partial-stragglers needs every subset on at least m=4 workers"),
        ({"compression": "top-k"}, r"as with --encoding partial-stragglers: give feedback=false"),
        ({"decoder": "bibd", "m": 1}, r"decoder bibd serves .* --decoder least-squares serves all"),
        ({"decoder": "block"}, r"decoder block needs|decoder block serves"),
        ({"encoding": "partial-stragglers:finished=1"}, "no option 'finished'"),
        ({"relabel": True}, "partial-stragglers is made of what workers have finished"),
        ({"switch": "observed"}, "partial-stragglers is made of what workers have finished"),
    ],
)
def test_refused_in_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**PARTIAL | wrong)


@pytest.mark.parametrize(
    "settings", [{"decoder": "ridge"}, {"compression": "top-k:feedback=false"}, {"wire": "float16"}]
)
def test_what_fits_runs(settings):
    run = make(**PARTIAL | settings, wait="deadline:0.0145", iterations=5)
    _, rows = train(run)
    assert {row.check for row in rows} == {255 if "compression" in settings else 1}


def test_who_had_finished_a_part_is_late_in_a_replay(tmp_path):
    path = simulated.train(**PARTIAL, wait="deadline:0.0145").save(tmp_path / "run.h5")
    delays = STRAGGLERS.build(f"replay:{path}", n=7, seed=0).delays(0)
    assert np.isinf(delays).tolist() == [True, False, False, True, False, False, False]


def test_run_file_keeps_what_was_finished(tmp_path):
    trained = simulated.train(**PARTIAL, wait="deadline:0.0145")
    path = trained.save(tmp_path / "run.h5")
    finished = recording.read(path).columns["finished"]
    assert finished.tolist() == [[2, 3, 3, 2, 3, 3, 3]] * 8
    ordinary = simulated.train()
    columns = recording.read(ordinary.save(tmp_path / "ordinary.h5")).columns
    np.testing.assert_array_equal(columns["finished"], 3 * columns["survivors"].astype(int))
