"""What exists for which number of workers, from formulas: no matrix is built.

Every registration says by ``sizes`` which options give n workers; `one_option` writes that for
a construction with a single parameter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from gcmpi.registry import Size, Sizes


def one_option(
    key: str, formula: Callable[[int], tuple[int, int, int]], possible: Callable[[int], bool]
) -> Sizes:
    """Return the ``sizes`` of a construction with one option.

    Parameters
    ----------
    key
        The name of the option.
    formula
        (n, k, delta) from its value; n grows with the value and is never below it.
    possible
        Whether the construction exists for a value.
    """

    def sizes(n: int, delta: int | None) -> Iterator[Size]:  # noqa: ARG001
        value = bisect_left(range(n + 1), n, key=lambda v: formula(v)[0])
        if formula(value)[0] == n and possible(value):
            yield Size({key: value}, *formula(value)[1:])

    return sizes


def nearby(key: str, value: int, possible: Callable[[int], bool]) -> str:
    """Return ``nearest possible: key=a or b``, the values around `value` that are possible."""
    reach = 1000
    below = next((v for v in range(value - 1, 0, -1) if possible(v)), None)
    start = max(value, 0) + 1
    above = next((v for v in range(start, start + reach) if possible(v)), None)
    values = [str(v) for v in (below, above) if v is not None]
    return f"nearest possible: {key}={' or '.join(values) or 'none'}"
