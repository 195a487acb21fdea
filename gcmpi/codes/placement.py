"""Which machine plays which worker: where machines share hosts, or straggle with known odds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from gcmpi.arrays import AnyArray, Array, BoolArray, IntArray
from gcmpi.codes.assignments.structure import groups
from gcmpi.codes.bounds import check_odds

TRIES, KICKS = 20_000, 12
"""Changes that are tried at most, and random new starts from the best placement."""
LOST = 1e4
"""What a lost part costs; the square of the holders that a host has above its share costs 1."""


def place(
    A: AnyArray, m: int, *, hosts: IntArray | None = None, odds: Array | None = None
) -> IntArray:
    """Return the column of A that each machine is to hold: ``A[:, place(...)]`` is the assignment.

    With `hosts` two things are made small: first what is lost when one or two hosts are late, the
    sum over these of (m - h)^+ for a subset with h holders left; then the numbers of holders of a
    subset that a host has above its share, ceil(gamma / hosts) of the gamma holders. With `odds`
    the sum over subsets of E(m - h)^+ is made small, which no code can avoid. With both, hosts
    count first.

    Machines swap columns as long as that helps, from what they would hold anyhow and from random
    changes of the best placement. Workers in groups start better: dealt in turn, host by host;
    or, by the odds alone, the most reliable first, each to the group whose loss falls most. By
    the odds alone a machine may also go over to another group, so that groups get different sizes
    and a column may be held more than once.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    hosts : (n,)
        The host of each machine, numbered from 0.
    odds : (n,)
        Each machine's probability to straggle.

    Returns
    -------
    columns : (n,)
        0, 1, .. n - 1 where nothing is better. The same for the same arguments.

    Raises
    ------
    ValueError
        If `hosts` are not n numbers or `odds` not n probabilities.
    """
    n = A.shape[1]
    start, hosts = np.arange(n), _checked(hosts, n)
    if odds is not None:
        odds = check_odds(odds, n) if np.ptp(odds) else None
    if hosts is None and odds is None:
        return start
    costs, group = _Costs(m, hosts, odds), _groups(A)
    if group is not None and hosts is not None:
        start = _dealt(group, hosts)
    elif group is not None and odds is not None:
        start = _greedy(A, m, group, odds)
    search = _Search(A.astype(np.bool_), costs, min((np.arange(n), start), key=costs.of(A)))
    if group is None or hosts is not None:
        return search.best(None)
    return search.best(np.unique(group, return_index=True)[1])


def consecutive(n: int, hosts: int) -> IntArray:
    """Return the host of each worker, (n,), where ranks fill hosts one after the other.

    Rank 0 is the server; worker i is rank i + 1. Hosts have equal numbers of ranks, but for one.

    Raises
    ------
    ValueError
        If `hosts` is not in 1..n.
    """
    if not 1 <= hosts <= n:
        raise ValueError(f"--hosts must be 1 to {n}, the number of workers, not {hosts}")
    return np.arange(1, n + 1) * hosts // (n + 1)


class _Costs:
    """What subsets lose, from the machines that hold them."""

    def __init__(self, m: int, hosts: IntArray | None, odds: Array | None) -> None:
        self._m, self._odds, self._on = m, odds, None
        if hosts is not None:
            self._on = (hosts[:, None] == np.unique(hosts)).astype(np.float64)  # (n, hosts)

    def __call__(self, held: BoolArray) -> Array:
        """Return the cost of each subset from its machines, (subsets, n) -> (subsets,)."""
        cost = np.zeros(len(held))
        if self._odds is not None:
            # below 1 in all: it decides between placements that are the same for the hosts
            weight = 1.0 if self._on is None else 0.5 / (self._m * held.shape[1])
            cost += weight * self._of_odds(held, self._odds)
        if self._on is not None:
            cost += self._of_counts(held @ self._on)
        return cost

    def floor(self, held: BoolArray) -> float:
        """Return what these subsets cost at least: by the hosts, if each has as many holders."""
        if self._on is None:
            return 0.0
        hosts = self._on.shape[1]
        whole, more = np.divmod(held.sum(axis=1, keepdims=True), hosts)
        return float(self._of_counts(whole + (np.arange(hosts) < more)).sum())

    def of(self, A: AnyArray) -> Callable[[IntArray], float]:
        """Return what a placement of A costs."""
        return lambda columns: float(self(A[:, columns].astype(np.bool_)).sum())

    def _of_counts(self, count: AnyArray) -> Array:
        """Return the cost of each subset from its holders on each host, (subsets, hosts)."""
        hosts, gamma = count.shape[1], count.sum(axis=1, keepdims=True)
        share = np.ceil(gamma / hosts)
        crowded = (np.maximum(count - share, 0) ** 2).sum(axis=1)
        one = np.maximum(self._m - gamma + count, 0).sum(axis=1)
        first, second = np.triu_indices(hosts, 1)
        two = np.maximum(self._m - gamma + count[:, first] + count[:, second], 0).sum(axis=1)
        total: Array = crowded + LOST * (hosts * one + two)
        return total

    def _of_odds(self, held: BoolArray, odds: Array) -> Array:
        # a machine that is always late is as good as none
        most = int(held.sum(axis=1).max(initial=0))
        late = np.sort(np.where(held, odds, 1.0), axis=1)[:, :most]
        law = np.zeros((len(held), self._m))  # P(h = 0), .., P(h = m - 1)
        law[:, 0] = 1.0
        for q in late.T:
            law = with_one_more(law, q[:, None])
        loss: Array = law @ (self._m - np.arange(self._m))
        return loss


def with_one_more(law: Array, q: Array) -> Array:
    """Return P(h = 0), .., P(h = m - 1) with one more holder, late with probability q: (..., m)."""
    shifted = np.zeros_like(law)
    shifted[..., 1:] = law[..., :-1]
    more: Array = q * law + (1 - q) * shifted
    return more


class _Search:
    """A placement that is improved by changing the columns of one or two machines."""

    def __init__(self, A: BoolArray, costs: _Costs, columns: IntArray) -> None:
        self._A, self._costs, self._left = A, costs, TRIES
        self._start(columns)

    def _start(self, columns: IntArray) -> None:
        self._columns, self._held = columns.copy(), self._A[:, columns]
        self._cost = self._costs(self._held)

    def best(self, firsts: IntArray | None) -> IntArray:
        """Return the best placement that changes lead to, from the first one and random others.

        Parameters
        ----------
        firsts
            A column of every group, for machines that may go over to another group.
        """
        rng, floor = np.random.default_rng(0), self._costs.floor(self._held) * (1 + 1e-9)
        least, found = float(self._cost.sum()), self._columns
        for kick in range(KICKS + 1):
            self._improve(firsts)
            if float(self._cost.sum()) < least * (1 - 1e-9):
                least, found = float(self._cost.sum()), self._columns
            if least <= floor or self._left <= 0:
                break
            kicked = found.copy()
            moved = rng.permutation(len(kicked))[: 3 + kick % 4]
            kicked[moved] = kicked[np.roll(moved, 1)]
            self._start(kicked)
        return found

    def _improve(self, firsts: IntArray | None) -> None:
        """Try all changes again and again, until none helps."""
        improved = True
        while improved:
            improved = False
            for machines, columns in self._changes(firsts):
                improved |= self._try(machines, columns)
                if self._left <= 0:
                    return

    def _changes(self, firsts: IntArray | None) -> Iterator[tuple[list[int], list[int]]]:
        n = len(self._columns)
        if firsts is not None:
            for i, column in itertools.product(range(n), firsts.tolist()):
                yield [i], [column]
        for i, j in itertools.combinations(range(n), 2):
            yield [i, j], [int(self._columns[j]), int(self._columns[i])]

    def _try(self, machines: list[int], columns: list[int]) -> bool:
        new = self._A[:, columns]
        rows = np.flatnonzero((new != self._held[:, machines]).any(axis=1))
        if not rows.size:
            return False
        self._left -= 1
        held = self._held[rows]
        held[:, machines] = new[rows]
        if not held.any(axis=1).all():
            return False
        cost = self._costs(held)
        before, after = float(self._cost[rows].sum()), float(cost.sum())
        if not after < before * (1 - 1e-9):
            return False
        self._columns[machines] = columns
        self._held[rows], self._cost[rows] = held, cost
        return True


def _groups(A: AnyArray) -> IntArray | None:
    try:
        return groups("placement", A)
    except ValueError:
        return None


def _dealt(group: IntArray, hosts: IntArray) -> IntArray:
    """Return columns of all groups in turn, for the machines host by host, large hosts first."""
    place_in_group = np.empty_like(group)
    for number in range(group.max() + 1):
        members = np.flatnonzero(group == number)
        place_in_group[members] = np.arange(len(members))
    large = -np.bincount(hosts)[hosts]
    columns = np.empty_like(group)
    columns[np.lexsort((hosts, large))] = np.lexsort((group, place_in_group))
    return columns


def _greedy(A: AnyArray, m: int, group: IntArray, odds: Array) -> IntArray:
    """Return a column of the group of each machine: the most reliable chooses first."""
    firsts = np.unique(group, return_index=True)[1]
    held = A[:, firsts].sum(axis=0, dtype=np.intp)
    law = np.zeros((len(firsts), m))
    law[:, 0] = 1.0
    lost = m - np.arange(m)
    columns = np.empty(len(odds), dtype=np.intp)
    for i in np.argsort(odds, kind="stable"):
        more = with_one_more(law, odds[i])
        chosen = int((held * ((law - more) @ lost)).argmax())
        columns[i], law[chosen] = firsts[chosen], more[chosen]
    return columns


def _checked(hosts: IntArray | None, n: int) -> IntArray | None:
    if hosts is not None and (np.shape(hosts) != (n,) or (np.asarray(hosts) < 0).any()):
        raise ValueError(f"hosts must be n={n} numbers from 0, one a worker, not {hosts!r:.60}")
    return hosts
