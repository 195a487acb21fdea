"""What exists for which number of workers, from formulas: no matrix is built.

Every registration says by ``sizes`` which of its options give n workers. The functions here
write that for the common cases; `find` asks all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from gcmpi.promises import AssignmentPromises
from gcmpi.registry import ASSIGNMENTS, Part, Size, Sizes, Spec, Wanted


@dataclass(frozen=True)
class Entry:
    """An assignment that exists.

    Attributes
    ----------
    spec
        How to name it: ``projective-plane:order=5``.
    n, k, delta, gamma
        Workers, subsets, computation load, replication factor of the subset that is held least.
    vertex_transitive
        Whether its automorphisms act transitively on workers.
    """

    spec: str
    n: int
    k: int
    delta: int
    gamma: int
    vertex_transitive: bool


@dataclass(frozen=True)
class Found:
    """What `find` returns.

    Attributes
    ----------
    exact
        The assignments with as many workers as asked for, the least load first.
    nearest
        For every construction without such an assignment: the ones with the closest numbers of
        workers below and above (up to twice as many), closest first.
    """

    exact: tuple[Entry, ...]
    nearest: tuple[Entry, ...]


def find(n: int, delta: int | None = None, m: int = 1) -> Found:
    """List the registered assignments for n workers, and the nearest where there is none.

    Constructions that exist for every load show one or a few choices unless delta is given.

    Parameters
    ----------
    n
        Workers.
    delta
        Computation load; None for any.
    m
        Communication reduction factor: only assignments with gamma >= m, because no code can
        recover a subset that fewer than m workers hold.

    Raises
    ------
    ValueError
        If n, delta or m is not positive, or n is above a million.
    """
    for name, value in (("n", n), ("delta", delta), ("m", m)):
        if value is not None and value < 1:
            raise ValueError(f"find needs {name} at least 1, not {name}={value}")
    if n > 1_000_000:
        raise ValueError(f"find looks at up to a million workers, not n={n}")
    exact: list[Entry] = []
    nearest: list[Entry] = []
    for part in ASSIGNMENTS:
        here = list(entries(part, Wanted(n, delta, m=m)))
        exact += here
        if not here:
            for counts in (range(n - 1, 0, -1), range(n + 1, 2 * n + 2)):
                wanted = (Wanted(count, delta, m=m) for count in counts)
                found = (list(entries(part, one)) for one in wanted)
                nearest += next(filter(None, found), [])
    exact.sort(key=lambda entry: entry.delta)
    nearest.sort(key=lambda entry: abs(entry.n - n))
    return Found(tuple(exact), tuple(nearest))


def entries(part: Part[AssignmentPromises], wanted: Wanted) -> Iterator[Entry]:
    """Iterate over what exists of one construction, every subset on at least m workers."""
    for size in part.sizes(wanted) if part.sizes else ():
        gamma = wanted.n * size.delta // size.k
        light = wanted.load is None or Fraction(size.delta, size.k) <= wanted.load
        if wanted.delta in (None, size.delta) and light and gamma >= wanted.m:
            spec = str(Spec(part.name, size.options))
            yield Entry(spec, wanted.n, size.k, size.delta, gamma, part.promises.vertex_transitive)


def one_option(
    key: str, formula: Callable[[int], tuple[int, int, int]], possible: Callable[[int], bool]
) -> Sizes:
    """Return the ``sizes`` of a construction with one option.

    Parameters
    ----------
    key
        The name of the option.
    formula
        (n, k, delta) from its value, where that is possible; n grows with the value, and the
        value is at most n.
    possible
        Whether the construction exists for a value.
    """

    def sizes(wanted: Wanted) -> Iterator[Size]:
        n = wanted.n
        value = bisect_left(range(n + 1), n, key=lambda v: formula(v)[0])
        if formula(value)[0] == n and possible(value):
            yield Size({key: value}, *formula(value)[1:])

    return sizes


def no_option(n: int, delta: int) -> Sizes:
    """Return the ``sizes`` of a single graph: n workers and subsets, load delta."""

    def sizes(wanted: Wanted) -> Iterator[Size]:
        if wanted.n == n:
            yield Size({}, n, delta)

    return sizes


def with_complement(sizes: Sizes, graph: bool = False) -> Sizes:
    """Return `sizes` with every construction also under the option ``complement=true``.

    Parameters
    ----------
    sizes
        The construction without the option.
    graph
        The complement is J - I - A, that of a graph, and not J - A, that of a design.
    """

    def both(wanted: Wanted) -> Iterator[Size]:
        for size in sizes(wanted):
            yield size
            load = size.k - graph - size.delta
            yield Size({**size.options, "complement": True}, size.k, load)

    return both


def recommended(n: int, k: int, delta: int, m: int | None = None) -> str:
    """Return the command that ranks all codes of a load, where one assignment does not exist."""
    load = Fraction(min(max(delta, 1), max(k, 1)), max(k, 1))
    parts = "" if m is None else f" --m {m}"
    return f"python -m gcmpi.codes recommend --workers {n} --load {load}{parts}"


def nearby(key: str, value: int, possible: Callable[[int], bool]) -> str:
    """Return ``nearest possible: key=a or b``, the values around `value` that are possible."""
    reach = 100_000
    down = range(value - 1, max(value - reach, 0), -1)
    up = range(max(value, 0) + 1, max(value, 0) + reach)
    values = [next(filter(possible, side), None) for side in (down, up)]
    text = " or ".join(str(v) for v in values if v is not None)
    return f"nearest possible: {key}={text}" if text else f"none possible near {key}={value}"
