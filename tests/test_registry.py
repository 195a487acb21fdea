"""Names of parts: what is read, what is written, what is refused."""

import sys
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gcmpi
from gcmpi.assignments import projective_plane
from gcmpi.bounds import corollary_1
from gcmpi.codes.theorems import PLAIN_SUMS, cited, closed_form
from gcmpi.promises import EncodingPromises, Promises
from gcmpi.registry import ENCODINGS, STRAGGLERS, OwnPartError, Registry, Spec
from tests.every import every


@pytest.fixture(scope="module")
def registry():
    parts = Registry("part", [], supplied=("n",), promises=EncodingPromises)

    @parts.register("wheel", {"size": 3}, {"size": 5, "spokes": (1, 2)}, exact=True)
    def wheel(
        n: int,
        size: int,
        spokes: tuple[int, ...] = (1,),
        ratio: float = 0.5,
        kind: Literal["steel", "wood"] = "steel",
        spare: bool = False,
        load: float | None = None,
    ) -> tuple[object, ...]:
        """A wheel.

        More.
        """
        return n, size, spokes, ratio, kind, spare, load

    @parts.register("plain")
    def plain() -> str:
        return "plain"

    @parts.register("class", {"speed": 1.0})
    class Train:
        def __init__(self, speed: float, n: int) -> None:
            self.speed, self.n = speed, n

    return parts


def test_builds_with_options_read_by_their_annotations(registry):
    text = "wheel:size=4,spokes=1+2+3,ratio=1e-3,kind=wood,spare=true,load=2"
    assert registry.build(text, n=7, unused=1) == (7, 4, (1, 2, 3), 0.001, "wood", True, 2.0)
    assert registry.build("wheel:size=4", n=7) == (7, 4, (1,), 0.5, "steel", False, None)


def test_a_lone_value_stands_for_the_first_option(registry):
    assert registry.parse("wheel:9,ratio=2") == Spec("wheel", {"size": 9, "ratio": 2.0})


def test_supplies_only_what_a_part_takes(registry):
    assert registry.build("plain", n=3) == "plain"
    train = registry.build("class:speed=2", n=3)
    assert (train.speed, train.n) == (2.0, 3)


@given(
    st.fixed_dictionaries(
        {"size": st.integers(-5, 5)},
        optional={
            "spokes": st.lists(st.integers(-9, 9), min_size=1, max_size=4).map(tuple),
            "ratio": st.floats(allow_nan=False, allow_infinity=False),
            "kind": st.sampled_from(["steel", "wood"]),
            "spare": st.booleans(),
        },
    )
)
def test_what_is_written_is_read_back(registry, options):
    assert registry.parse(str(Spec("wheel", options))) == Spec("wheel", options)


def test_describes_its_parts(registry):
    wheel = registry["wheel"]
    assert [part.name for part in registry] == ["wheel", "plain", "class"]
    assert wheel.summary == "A wheel."
    assert wheel.usage == ("wheel:size=,spokes=1,ratio=0.5,kind=steel,spare=false,load=None")
    assert wheel.promises.exact
    assert not wheel.promises.redrawn
    assert wheel.examples == ({"size": 3}, {"size": 5, "spokes": (1, 2)})
    assert registry["plain"].examples == ({},)
    assert registry["plain"].usage == "plain"


REFUSED = {
    "wheal:size=1": r"unknown part 'wheal' \(did you mean 'wheel'\?\); choose one of wheel, plain",
    "zzz": r"unknown part 'zzz'; choose one of wheel, plain, class",
    "wheel": "part wheel needs size: wheel:size=,",
    "wheel:size=1,seize=2": r"no option 'seize' \(did you mean 'size'\?\); it takes size, spokes",
    "wheel:size=1.5": "part wheel: size must be a whole number, not '1.5'",
    "wheel:size=1,ratio=much": "ratio must be a number, not 'much'",
    "wheel:size=1,load=none": "load must be a number, not 'none'",
    "wheel:size=1,kind=gold": "kind must be steel or wood, not 'gold'",
    "wheel:size=1,spare=yes": "spare must be true or false, not 'yes'",
    "wheel:size=1,spokes=1+x": r"spokes must be numbers joined by \+",
    "wheel:ratio=1,5": "'5' is not of the form key=value",
    "plain:3": "'3' is not of the form key=value",
    "plain:x=3": "no option 'x'; it takes no options",
}


@every("text, message", REFUSED.items())
def test_refuses(registry, text, message):
    with pytest.raises(ValueError, match=message):
        registry.parse(text)


def test_homes_are_imported_when_a_part_is_first_asked_for(tmp_path, monkeypatch):
    parts = Registry("late part", ["home_of_parts"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "the_registry", SimpleNamespace(parts=parts))
    (tmp_path / "home_of_parts.py").write_text(
        "from the_registry import parts\n@parts.register('late')\ndef late(): return 7\n"
    )
    assert "home_of_parts" not in sys.modules
    assert parts.build("late") == 7
    assert [part.name for part in parts] == ["late"]
    del sys.modules["home_of_parts"]


def test_a_name_is_registered_once(registry):
    with pytest.raises(ValueError, match="'plain' is registered twice"):
        registry.register("plain")(lambda: None)


def test_promises_are_those_of_the_kind():
    assert ENCODINGS["stacked"].promises == EncodingPromises(theorem=PLAIN_SUMS)
    assert type(STRAGGLERS["bernoulli"].promises) is Promises
    with pytest.raises(TypeError, match="vertex_transitive"):
        ENCODINGS.register("wheel", vertex_transitive=True)
    with pytest.raises(TypeError, match="positional"):
        EncodingPromises(True)  # type: ignore[misc]


def test_promises_of_another_kind_are_refused():
    own = gcmpi.decoder(unbiased=True)(lambda A, m: A)
    with pytest.raises(OwnPartError, match=r"declares DecoderPromises: .* are EncodingPromises"):
        ENCODINGS.adopt(own)


def test_several_theorems_may_be_declared():
    def my_bound(A, m, s, epsilon):
        if m != 1:
            raise ValueError("for m = 1")
        return s + epsilon

    def stretched(A, m, epsilon=0.25):
        return np.tile(A * (1 + epsilon), (m, 1))

    exact = gcmpi.promises.Theorem("never", lambda A, m, s: corollary_1(A[:, 1:], m, s))
    own = gcmpi.encoding(theorem=[exact, my_bound, "Theorem 9"])(stretched)
    spec = ENCODINGS.adopt(own)
    found = closed_form(projective_plane(2), 1, spec)
    assert (found.name, found.bound(3)) == ("my bound", 3.25)
    assert closed_form(projective_plane(2), 2, spec) is None
    assert cited(spec) == "Theorem 9 (not evaluated)"
    with pytest.raises(ValueError, match="theorem must be a function"):
        gcmpi.encoding(theorem=3)
