"""Experiments: settings from defaults, TOML, flags and --set; refusals that say what to do."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

import gcmpi
from gcmpi.experiments.experiment import Experiment
from gcmpi.registry import REGISTRIES, Registry
from tests.every import every


def test_toml_round_trip():
    experiment = Experiment(encoding="random-diagonal:0.1", seed=3, target_accuracy=0.9)
    assert Experiment.from_toml(experiment.toml) == experiment
    assert tomllib.loads(experiment.toml)["encoding"] == "random-diagonal:epsilon=0.1"


def test_digest_tells_experiments_apart():
    base = Experiment()
    assert base.digest == Experiment().digest
    assert len(base.digest) == 8
    changed = [Experiment(seed=1), Experiment(m=1), Experiment(wait="all"), Experiment(warmup=0)]
    assert len({base.digest, *(e.digest for e in changed)}) == 5


def test_two_spellings_are_one_experiment():
    assert Experiment(wait="deadline:auto") == Experiment(wait="deadline:seconds=auto")
    assert Experiment(dataset="data/x.npz") == Experiment(dataset="file:path=data/x.npz")


def test_tables_in_toml():
    text = """
    m = 3
    encoding = {name = "random-diagonal", epsilon = 0.1}
    [assignment]
    name = "coset"
    k = 27
    m = 2
    generators = [0, 1, 3]
    """
    experiment = Experiment.from_toml(text)
    assert experiment.assignment == "coset:k=27,m=2,generators=0+1+3"
    assert experiment.encoding == "random-diagonal:epsilon=0.1"
    assert experiment.m == 3


def test_change():
    experiment = Experiment().change(
        {"m": "1", "encoding.epsilon": "0.2", "target_accuracy": "0.5", "problem.hidden": "16"}
    )
    assert experiment.m == 1
    assert experiment.encoding == "random-diagonal:epsilon=0.2"
    assert experiment.problem == "mlp:hidden=16"
    assert experiment.change({"encoding.epsilon": "0.3"}).encoding.endswith("epsilon=0.3")
    assert experiment.change({}) == experiment


@every(
    "settings, pattern",
    [
        ({"encodng": "stacked"}, r"unknown setting 'encodng' \(did you mean 'encoding'\?\)"),
        ({"encoding": "stackd"}, r"unknown encoding 'stackd' \(did you mean 'stacked'\?\)"),
        ({"encoding": "random-diagonal:eps=1"}, r"no option 'eps' \(did you mean 'epsilon'\?\)"),
        ({"encoding": "random-diagonal:x"}, "epsilon must be a number, not 'x'"),
        ({"assignment": "coset:k=5"}, "assignment coset needs m: coset:k=,m=,generators="),
        ({"assignment": "coset:k=5,m=2,generators=0+a"}, "numbers joined by"),
        ({"m": 0}, "--m must be at least 1, not 0"),
        ({"m": "two"}, "--m must be a whole number, not 'two'"),
        ({"m": 1.5}, "--m must be a whole number, not 1.5"),
        ({"m": True}, "--m must be a whole number, not True"),
        ({"iterations": -1}, "--iterations must be at least 1"),
        ({"audit_every": 0}, "--audit-every must be at least 1"),
        ({"seed": -1}, "--seed must be at least 0"),
        (
            {"wire": "float8"},
            "--wire must be one of float16, bfloat16, float32, float64, not 'float8'",
        ),
        ({"rescale": "beta"}, "--rescale must be one of alpha, none"),
        ({"target_accuracy": 1.5}, "between 0 and 1"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"problem": 3}, "--problem must be a text, not 3"),
        ({"wait.seconds.x": "1"}, "has no option 'seconds.x'"),
    ],
)
def test_refusals(settings, pattern):
    with pytest.raises(ValueError, match=pattern):
        Experiment().change(settings)


def test_set_on_something_without_options():
    with pytest.raises(ValueError, match="'wire' has no options"):
        Experiment().change({"wire.bits": "3"})


def test_the_text_of_a_part_is_read_once(monkeypatch):
    read, parse = Counter(), Registry.parse
    monkeypatch.setattr(Registry, "parse", lambda r, x: read.update([(r.kind, x)]) or parse(r, x))
    e = Experiment(
        assignment="cyclic:n=7,delta=3", encoding="random-diagonal:epsilon=0.3",
        switch="observed:tolerance=0.9", decoder="ridge:eps=0.01", problem="mlp:hidden=3",
        dataset="mixture:rows=70,features=3", optimizer="adam:rate=0.01", iterations=2,
        stragglers="markov:q=0.1", wait="fastest:count=5", compression="rand-k:feedback=false",
    )  # fmt: skip
    gcmpi.simulate(e)
    given = {(parts.kind, getattr(e, name)): 1 for name, parts in REGISTRIES.items()}
    assert {key: read[key] for key in given} == given
