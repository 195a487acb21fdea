"""`assignments.find`: what it lists exists, and what exists it lists."""

import dataclasses
import inspect

import pytest

from gcmpi import assignments
from gcmpi.registry import ASSIGNMENTS, Spec, Wanted
from tests.every import every


def check_entry(entry):
    A = ASSIGNMENTS.build(entry.spec)
    p, least = assignments.parameters(A), A.sum(axis=1, dtype=int).min()
    assert (p.n, p.k, p.delta, least) == (entry.n, entry.k, entry.delta, entry.gamma)
    promises = ASSIGNMENTS[entry.spec.partition(":")[0]].promises
    assert entry.vertex_transitive == promises.vertex_transitive
    assert p.gamma == least or promises.irregular


@every("n", [*range(1, 66), 73, 81, 91, 100, 121, 133, 156])
def test_what_is_listed_exists(n):
    found = assignments.find(n)
    assert found.exact
    for entry in found.exact:
        assert entry.n == n
        check_entry(entry)
    loads = [entry.delta for entry in found.exact]
    assert loads == sorted(loads)


@every("n", [6, 7, 13, 16])
def test_a_load_is_respected(n):
    for delta in range(1, n + 1):
        for entry in assignments.find(n, delta).exact:
            assert (entry.n, entry.delta) == (n, delta)
            check_entry(entry)


@every("spec", lambda: [Spec(p.name, x) for p in ASSIGNMENTS if p.sizes for x in p.examples])
def test_every_example_is_found(spec):
    p = assignments.parameters(ASSIGNMENTS.build(spec))
    found = assignments.find(p.n, p.delta).exact
    assert spec.name in {entry.spec.partition(":")[0] for entry in found}


def required(part):
    return [key for key, p in part.options.items() if p.default is inspect.Parameter.empty]


@every("part", lambda: {p.name: p for p in ASSIGNMENTS if len(required(p)) == 1})
def test_every_value_of_a_single_option_is_found(part):
    """Build all that can be built up to 130 workers, and compare with the formulas."""
    (key,) = required(part)
    built = set()
    for value in range(1, 131):
        try:
            A = ASSIGNMENTS.build(Spec(part.name, {key: value}))
        except ValueError:
            continue
        if A.shape[1] > 130:
            break
        built.add((value, A.shape, int(A[:, 0].sum())))
    listed = {
        (size.options[key], (size.k, n), size.delta)
        for n in range(1, 131)
        for size in part.sizes(Wanted(n))
        if set(size.options) - {key} <= {"squares"} and size.options.get("squares", 1) == 1
    }
    assert built == listed
    assert built


def test_every_construction_says_what_exists():
    for part in ASSIGNMENTS:
        assert part.sizes or part.promises.irregular


def test_default_experiment_is_listed():
    specs = {entry.spec for entry in assignments.find(31, delta=6).exact}
    assert "projective-plane:order=5" in specs
    assert "cyclic:n=31,delta=6" in specs


def test_nearest_constructions_come_with_the_closest_counts():
    found = assignments.find(32)
    assert "projective-plane" not in {entry.spec.partition(":")[0] for entry in found.exact}
    planes = [entry.n for entry in found.nearest if entry.spec.startswith("projective-plane")]
    assert sorted(set(planes)) == [31, 57]
    distances = [abs(entry.n - 32) for entry in found.nearest]
    assert distances == sorted(distances)
    assert 0 not in distances
    for entry in found.nearest:
        check_entry(entry)


def test_nearest_keeps_the_load():
    found = assignments.find(30, delta=6)
    assert {entry.delta for entry in found.nearest} == {6}
    assert "projective-plane:order=5" in {entry.spec for entry in found.nearest}


def test_an_impossible_load_leaves_only_the_nearest():
    assert assignments.find(4, delta=9).exact == ()
    assert {entry.delta for entry in assignments.find(8, delta=9).nearest} == {9}


def test_m_asks_for_as_many_holders():
    assert min(entry.gamma for entry in assignments.find(49, m=4).exact) >= 4
    assert min(entry.gamma for entry in assignments.find(49).exact) == 1


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 4, "delta": 0}, {"n": 4, "m": 0}])
def test_find_refuses(options):
    name = next(key for key, value in options.items() if value == 0)
    with pytest.raises(ValueError, match=f"find needs {name} at least 1, not {name}=0"):
        assignments.find(**options)


def test_find_builds_no_matrix(monkeypatch):
    def build(*args, **options):
        raise AssertionError("a matrix was built")

    parts = {part.name: dataclasses.replace(part, function=build) for part in ASSIGNMENTS}
    monkeypatch.setattr(ASSIGNMENTS, "_parts", parts)
    with pytest.raises(AssertionError):
        ASSIGNMENTS.build("petersen")
    assert len(assignments.find(993).exact) > 5
