"""Many cases of one check in one test: all are run, and a failure names its case."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

Cases = Iterable[Any] | Callable[[], Iterable[Any]]
Test = Callable[..., None]


class Axis(NamedTuple):
    """One decorator of a test: parameters, and the values that they take."""

    names: list[str]
    cases: Cases

    def points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name of each case, and its values by parameter."""
        cases = self.cases() if callable(self.cases) else self.cases
        named = cases.items() if isinstance(cases, Mapping) else ((None, case) for case in cases)
        for name, case in named:
            values = case if len(self.names) > 1 else (case,)
            words = [str(getattr(value, "__name__", value))[:60] for value in values]
            yield name or " ".join(words), dict(zip(self.names, values, strict=True))


def every(names: str, cases: Cases) -> Callable[[Test], Test]:
    """Run a test for every case, as `pytest.mark.parametrize` does, but as one test.

    Fixtures are made once and serve all cases. Several of these decorators give all combinations.

    Parameters
    ----------
    names
        The parameters of the test that a case gives, with commas between them.
    cases
        Values of the one parameter, or tuples of values; a mapping gives each case a name. Of a
        function, what it returns when the test runs: nothing is built while pytest collects.
    """
    axis = Axis([name.strip() for name in names.split(",")], cases)

    def decorate(test: Test) -> Test:
        function, inner = getattr(test, "axes", (test, []))
        axes = [axis, *inner]

        @functools.wraps(function, updated=())
        def run(subtests: pytest.Subtests, **fixtures: Any) -> None:
            for point in itertools.product(*[axis.points() for axis in axes]):
                values = {key: value for _, given in point for key, value in given.items()}
                with subtests.test(" ".join(name for name, _ in point)):
                    function(**fixtures, **values)

        given = {name for axis in axes for name in axis.names}
        taken = inspect.signature(function).parameters.values()
        fixtures = [parameter for parameter in taken if parameter.name not in given]
        subtests = inspect.Parameter("subtests", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = inspect.Signature([*fixtures, subtests])  # type: ignore[attr-defined]
        run.axes = function, axes  # type: ignore[attr-defined]
        run.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]
        return run

    return decorate
