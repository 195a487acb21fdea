"""A resumed run is the uninterrupted one, bit for bit: a law over the registries."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, replace

import h5py
import numpy as np
import pytest

import gcmpi
from gcmpi import records as recording
from gcmpi.experiments import resume
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.launch import conduct
from gcmpi.experiments.run import Run
from gcmpi.registry import COMPRESSORS, OPTIMIZERS, STRAGGLERS, WAITING, Spec
from gcmpi.training import State
from tests.simulated import describe, follow

SMALL = {
    "assignment": "projective-plane:order=2",
    "encoding": "stacked",
    "m": 2,
    "problem": "logistic",
    "dataset": "mixture:rows=60,features=3",
    "iterations": 8,
    "audit_every": 3,
    "warmup": 2,
}
KINDS = {
    "fixed": {},
    "redrawn": {"encoding": "random-diagonal:epsilon=0.1"},
    "relabelled": {"relabel": True},
    "partial": {"encoding": "partial-stragglers"},
    "switched": {"encoding": "random-diagonal", "switch": "observed:tolerance=0.4,window=3"},
    "batches": {"batch": "rows:3"},
    "in turn": {"parts": "in-turn", "memory": "1"},
    "late": {"late": "remember", "memory": "1"},
}
CHANGING = {"redrawn", "relabelled", "partial", "switched", "in turn"}
"""Error feedback is refused where the code changes."""
MEASURED = {"decode_seconds", "update_seconds", "seconds"}


def examples(registry) -> list[str]:
    """Return every example of every part that needs no file, and the tests' own part."""
    return [
        str(Spec(part.name, options))
        for part in registry
        if "path" not in part.options
        for options in part.examples
    ]


FACTORS = {
    "stragglers": [*examples(STRAGGLERS), "tests.own_parts.late_now"],
    "wait": [*examples(WAITING), "tests.own_parts.Patient"],
    "compression": [*examples(COMPRESSORS), "tests.own_parts.Feedback"],
    "optimizer": [*examples(OPTIMIZERS), "tests.own_parts.Heavy"],
    "kind": list(KINDS),
    "memory": ["0", "1", "0.3"],
}


def covering(levels: list[list[str]]) -> list[tuple[str, ...]]:
    """Return combinations in which every two levels of two factors meet; greedy.

    The first two factors are combined in every way, and the others fill in what is missing; what
    is missing then gets combinations of its own.
    """

    def pairs(row: tuple[str, ...]) -> set[tuple[int, str, int, str]]:
        numbered = list(enumerate(row))
        return {(i, a, j, b) for (i, a), (j, b) in itertools.combinations(numbered, 2)}

    missing = set().union(*(pairs(row) for row in itertools.product(*levels)))
    rows = []
    for first in itertools.product(*levels[:2]):
        row = max(
            (first + rest for rest in itertools.product(*levels[2:])),
            key=lambda row: len(pairs(row) & missing),
        )
        rows.append(row)
        missing -= pairs(row)
    while missing:
        i, a, j, b = min(missing)
        free = [[{i: a, j: b}[f]] if f in (i, j) else level for f, level in enumerate(levels)]
        row = max(itertools.product(*free), key=lambda row: len(pairs(row) & missing))
        rows.append(row)
        missing -= pairs(row)
    return rows


COMBINATIONS = covering(list(FACTORS.values()))


def make(
    stragglers="none",
    wait="all",
    compression="none",
    optimizer="sgd",
    kind="fixed",
    memory="0",
    **more,
):
    if kind in CHANGING and compression in examples(COMPRESSORS) and compression != "none":
        compression += ",feedback=false"
    parts = {"stragglers": stragglers, "wait": wait, "compression": compression, "memory": memory}
    e = Experiment.from_settings(SMALL | parts | {"optimizer": optimizer} | KINDS[kind] | more)
    return build(e, assignment_matrix(e))


@dataclass
class Part:
    """A run up to where it was stopped."""

    state: State
    columns: dict[str, np.ndarray]


def go_on(run: Run, before: Part | None = None, stop_after: int | None = None) -> Part:
    """Train from where a run was stopped, with parts that know nothing but its state."""
    state, rows = follow(run, state=before and before.state, stop_after=stop_after)
    record = recording.Record(run.A.shape[1], before and before.columns)
    for row in rows:
        record.append(row)
    return Part(state, record.columns)


def through_a_file(run: Run, part: Part, path) -> Part:
    record = recording.Record(run.A.shape[1], part.columns)
    recording.write(path, describe(run), record, part.state, status="interrupted", valid=True)
    file = recording.read(path)
    assert file.whole
    assert resume.notes(run, file) == []
    exchange = run.simulate()
    resume.check(run, file, exchange)
    return Part(resume.start(run, file, exchange), dict(file.columns))


def equal(a: Part, b: Part) -> None:
    """Require the same columns and the same state, what was measured aside."""
    assert a.columns.keys() == b.columns.keys()
    for name in a.columns.keys() - MEASURED:
        np.testing.assert_array_equal(a.columns[name], b.columns[name], name, strict=True)
    same_state(a.state, b.state)


def same_state(a: State, b: State) -> None:
    assert (a.t, a.timed_from) == (b.t, b.timed_from)
    np.testing.assert_array_equal(a.theta, b.theta, strict=True)
    here, there = dict(a.arrays()), dict(b.arrays())
    assert here.keys() == there.keys()
    for name, value in here.items():
        np.testing.assert_array_equal(value, there[name], name, strict=True)


def copied(state: State) -> State:
    arrays = {
        part: {name: value.copy() for name, value in getattr(state, part).items()}
        for part in State.PARTS
    }
    return replace(state, theta=state.theta.copy(), **arrays)


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_stopped_after_every_iteration_a_run_is_the_same(combination, tmp_path):
    """Each part of the run knows nothing of the one before but its state.

    What comes after iteration t from the state there is what comes in the uninterrupted run, for
    every t; the state has been through a file once, and going on never changes it.
    """
    run = make(*combination)
    whole, part, states = go_on(run), None, []
    for t in range(run.iterations):
        part = go_on(run, part, stop_after=t)
        if t == 3:
            part = through_a_file(run, part, tmp_path / "run.h5")
        states.append((part.state, copied(part.state)))
    equal(part, whole)
    for state, before in states:
        same_state(state, before)


REMEMBERING = [
    ("wait", {"wait": "deadline:auto", "stragglers": "markov:delay=5"}),
    ("exchange", {"wait": "fastest:4", "stragglers": "slow-set:workers=1,factor=5"}),
    ("exchange", {"compression": "top-k"}),
    ("switch", {"kind": "switched", "stragglers": "bernoulli:q=0.4"}),
    ("optimizer", {"optimizer": "adam"}),
    ("memory", {"memory": "1", "stragglers": "bernoulli:q=0.4", "wait": "deadline:0.02"}),
    ("memory", {"memory": "0.5", "kind": "switched", "stragglers": "bernoulli:q=0.4"}),
]


@pytest.mark.parametrize(("part", "settings"), REMEMBERING, ids=lambda x: str(x)[:40])
def test_without_what_a_part_remembers_the_run_is_another(part, settings):
    """The law would see it: every part of the state matters to some run."""
    run = make(**settings)
    whole, cut = go_on(run), go_on(run, stop_after=3)
    fresh = {
        "wait": run.rule.state,
        "exchange": run.simulate().state,
        "switch": run.switch.state,
        "optimizer": {},
        "memory": run.memory.state,
    }
    other = go_on(run, Part(replace(cut.state, **{part: fresh[part]}), cut.columns))
    equal(go_on(run, cut), whole)
    with pytest.raises(AssertionError):
        equal(other, whole)


def test_an_iteration_that_is_given_up_leaves_no_trace():
    """Half of the answers have come, and compression has moved: it is done again from its start."""
    run = make(compression="top-k", stragglers="markov:delay=5", wait="deadline:0.02")
    exchange = run.simulate()
    state, _ = follow(run, exchange, stop_after=3)

    class GivingUp:
        def remaining(self, answered, elapsed):
            if answered.sum() >= 3:
                raise KeyboardInterrupt
            return np.inf

    with pytest.raises(KeyboardInterrupt):
        exchange.exchange(4, 2, state.theta, GivingUp())
    same_state(state, run.moving(exchange).gathered(state))
    end, _ = follow(run, exchange, state)
    same_state(end, go_on(run).state)


# files of older versions, of other problems, and damaged ones


@pytest.fixture
def cut(tmp_path):
    run = make(wait="deadline:auto", optimizer="momentum", compression="top-k")
    part = go_on(run, stop_after=3)
    through_a_file(run, part, tmp_path / "cut.h5")
    return run, tmp_path / "cut.h5"


def test_a_file_of_an_older_version_goes_on_and_says_that_it_is_not_the_same(cut):
    run, path = cut
    with h5py.File(path, "a") as file:
        final = file["final"]
        for name in final.attrs["arrays"].split():
            if not name.startswith("optimizer_"):
                del final[name]
        del final.attrs["arrays"], final.attrs["timed_from"], file.attrs["writer"]
    file = recording.read(path)
    assert not file.whole
    (note,) = resume.notes(run, file)
    assert note.startswith("an older version wrote the run file")
    exchange = run.simulate()
    resume.check(run, file, exchange)
    part = go_on(run, Part(resume.start(run, file, exchange), dict(file.columns)))
    assert part.columns["iteration"].tolist() == list(range(8))
    assert "velocity" in part.state.optimizer


def test_a_state_that_lacks_something_is_refused(cut):
    run, path = cut
    with h5py.File(path, "a") as file:
        del file["final/wait_recent"]
    with pytest.raises(ValueError, match=r"cannot read run file .*wait_recent"):
        recording.read(path)
    with h5py.File(path, "a") as file:
        names = file["final"].attrs["arrays"].split()
        file["final"].attrs["arrays"] = "\n".join(n for n in names if n != "wait_recent")
    with pytest.raises(ValueError, match="deadline:auto needs recent, counts, but recent"):
        resume.check(run, recording.read(path))


def test_another_number_of_parameters_is_refused(cut):
    _, path = cut
    other = make(dataset="mixture:rows=60,features=9")
    with pytest.raises(ValueError, match=r"has parameters of shape \(\d+,\), but problem logistic"):
        resume.check(other, recording.read(path))


@pytest.mark.parametrize(
    ("setting", "part", "message"),
    [
        ("wait", "Learning", "wait rule tests.own_parts.Learning shows no `state`"),
        ("optimizer", "Forgetful", "optimizer tests.own_parts.Forgetful shows no `state`"),
        ("compression", "Hiding", "compression tests.own_parts.Hiding shows no `state`"),
    ],
)
def test_a_part_of_ones_own_without_state_is_named(tmp_path, setting, part, message):
    run = make(**{setting: f"tests.own_parts.{part}"})
    part = go_on(run, stop_after=3)
    record = recording.Record(run.A.shape[1], part.columns)
    path = tmp_path / "run.h5"
    recording.write(path, describe(run), record, part.state, status="interrupted", valid=True)
    (note,) = resume.notes(run, recording.read(path))
    assert note == f"{message}: unless it remembers nothing, {resume.MAY_DIFFER}"


def test_a_part_of_ones_own_that_has_lost_its_state_is_refused(tmp_path):
    run = make(optimizer="tests.own_parts.Heavy")
    through_a_file(run, go_on(run, stop_after=3), tmp_path / "run.h5")
    other = make(optimizer="tests.own_parts.Forgetful")
    with pytest.raises(ValueError, match="the optimizer has no `state` to put it into"):
        resume.check(other, recording.read(tmp_path / "run.h5"))


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    e = Experiment.from_settings(SMALL | {"wait": "deadline:auto", "optimizer": "momentum"})
    path, killed = tmp_path / "run.h5", tmp_path / "killed.h5"

    def copy(row):
        if row.iteration == 2:
            shutil.copy(path, killed)

    whole = gcmpi.simulate(e, output=path, observer=copy)
    file, run = recording.read(killed), build(e, assignment_matrix(e))
    assert (file.status, file.state.t, file.whole) == ("running", 0, True)
    assert resume.notes(run, file) == []
    done = conduct(run, run.simulate(), whole.environment, earlier=file)
    equal(Part(done.state, done.columns), Part(whole.state, whole.columns))


def test_the_resume_of_a_failed_run_says_what_is_done_again(tmp_path):
    e = Experiment.from_settings(SMALL)
    path = tmp_path / "run.h5"

    def fail(row):
        if row.iteration == 2:
            raise RuntimeError("a full disk")

    with pytest.raises(RuntimeError):
        gcmpi.simulate(e, output=path, observer=fail)
    (note,) = resume.notes(build(e, assignment_matrix(e)), recording.read(path))
    assert "workers may have done a part of iteration 3" in note
