"""Encodings with the symmetry of a cyclic assignment, trained against an adversary."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.encodings.frames import FULL_RANK, is_cyclic, largest_t
from gcmpi.codes.encodings.harmonic import Frequencies, disjoint, waves
from gcmpi.codes.encodings.search import store
from gcmpi.codes.encodings.search.descent import Backward, Parameters, Progress, Schedule, descend
from gcmpi.codes.encodings.search.objective import unit_columns
from gcmpi.codes.encodings.search.straggler_sets import Law, expected
from gcmpi.registry import ENCODINGS

VERSION = "cyclic-trained 1"
STEPS = 2000
TRIES, TRIED, FINALISTS = 8, 0.075, 2
"""Frequencies that are tried with a share of the steps, and how many are trained to the end."""
RATE, RIDGE = 0.1, (1e-1, 1e-6)
JUDGED = 1024


@ENCODINGS.register("cyclic-trained", {"attack": 0.0, "steps": 4}, exact=True)
def cyclic_trained(
    A: AnyArray,
    m: int,
    attack: float = 0.5,
    seed: int = 0,
    stragglers: int | None = None,
    steps: int = STEPS,
) -> Array:
    """Cyclic, trained: exact when nobody straggles, unbiased as it stands, and hard to attack.

    On an assignment that is the same when all workers and subsets move on by one, the codes with
    ``b_(j+1, i+1) = Q b_(j, i)`` for a rotation Q of the m parts are given by the coefficients of
    one subset. With R of waves over the workers, R_(i+1) = Q R_i, these are the left inverses
    ``b_0 = K_0^+ + Y (I - K_0 K_0^+)``, K_0 the rows of R at the holders of subset 0: the
    few numbers Y are trained, for random stragglers and for those that an adversary removes one
    by one. All shifts of a set of stragglers cost the same, so none is worse than another; for
    m <= 2, E[B_S R] = alpha F for stragglers whose law is invariant under shifts. `harmonic`
    with t = 0 is Y = 0.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix, the same when subsets and workers are shifted by one.
    m
        Communication reduction factor.
    attack
        How much the adversary's sets count, from 0 to 1.
    seed
        Another seed gives another code.
    stragglers
        Numbers of stragglers up to this are trained for; n/4 unless given.
    steps
        Length of the training.

    Returns
    -------
    B : (m * k, n), columns of norm 1

    Raises
    ------
    ValueError
        If A is not cyclic, a subset is on fewer than m workers, or an option is out of range.
    """
    n = A.shape[1]
    largest_t(A, m, "cyclic-trained")
    law = expected(n, "cyclic-trained", stragglers, None, m=m, attack=attack)
    if not is_cyclic(A):
        raise ValueError(
            "cyclic-trained needs an assignment that is the same when all subsets and workers move "
            "on by one, as projective-plane, coset, cyclic and paley (of a prime) are: take "
            f"exact-trained:attack={attack:g}"
        )
    if steps < 1 or seed < 0:
        raise ValueError(
            f"cyclic-trained needs steps >= 1 and seed >= 0, not steps={steps}, seed={seed}"
        )
    name = store.key(VERSION, A, m, seed=seed, steps=steps, **law.key)
    return store.find_or_make(name, A, m, lambda: _train(A, m, law, seed, steps))


def _train(A: AnyArray, m: int, law: Law, seed: int, steps: int) -> Array:
    """Return the best code of some frequencies."""
    rng = np.random.default_rng([seed, m])
    n = A.shape[1]
    found = {disjoint(n, m, (), rng) for _ in range(4 * TRIES)} - {None}
    families = [Family(A, m, f) for f in sorted(filter(None, found))]
    families = [family for family in families if family.exists]
    if not families:
        raise ValueError(f"cyclic-trained found no frequencies for n={n} and m={m}")
    chosen = [families[i] for i in rng.permutation(len(families))[:TRIES]]
    judged = law.judge(JUDGED, rng)
    short = max(1, round(TRIED * steps))
    total = len(chosen) * short + FINALISTS * steps
    progress = Progress(f"training a cyclic code for n={n}, k={len(A)}, m={m}", total)

    def trained(family: Family, length: int) -> tuple[float, Array]:
        Y = rng.standard_normal((m, len(family.holders)))
        schedule = Schedule(length, RATE, RIDGE)
        (Y,) = descend([Y], family.encode, m, law.step, schedule, rng, progress)
        progress.phase(length)
        B = unit_columns(family.encode([Y])[0])[0]
        return law.loss(B, m, judged, RIDGE[1]), B

    order = np.argsort([trained(family, short)[0] for family in chosen])
    finalists = [trained(chosen[i], steps) for i in order[:FINALISTS]]
    progress.close()
    return min(finalists, key=lambda one: one[0])[1]


class Family:
    """The cyclic codes on A whose R is the waves of these frequencies, as a function of Y.

    Attributes
    ----------
    holders : (gamma,)
        The workers of subset 0; Y has shape (m, gamma).
    exists
        Whether there is a code: the rows of R at the holders have full rank.
    """

    def __init__(self, A: AnyArray, m: int, frequencies: Frequencies) -> None:
        self._k, self._n = A.shape
        self._m = m
        self.holders = np.flatnonzero(A[0])
        R = waves(self._n, frequencies)
        # a half-integer frequency closes with a sign: R_(i+n) = -R_i
        self._sign = -1.0 if any(f % 1 for f in frequencies) else 1.0
        Q = R[1:].T @ np.linalg.pinv(R[:-1].T) if self._n > 1 else np.eye(m)
        powers = [np.eye(m)]
        for _ in range(np.lcm(self._k, self._n)):
            powers.append(Q @ powers[-1])
        self._powers = np.array(powers)
        rows = R[self.holders]
        self._base = np.asarray(np.linalg.pinv(rows), np.float64)
        self._rest = np.eye(len(rows)) - rows @ self._base
        self.exists = bool(np.abs(self._base @ rows - np.eye(m)).max() < FULL_RANK)
        shifted = self.holders + np.arange(self._k)[:, None]
        self._workers, self._signs = shifted % self._n, self._sign ** (shifted // self._n)

    def encode(self, parameters: Parameters) -> tuple[Array, Backward]:
        """Return B (m * k, n), and what turns the derivative by B into that by Y."""
        first = self._base + self._symmetric(parameters[0]) @ self._rest
        blocks = self._powers[: self._k] @ first * self._signs[:, None]  # (k, m, gamma)
        B = np.zeros((self._m, self._k, self._n))
        B[:, np.arange(self._k)[:, None], self._workers] = blocks.transpose(1, 0, 2)

        def backward(gradient: Array) -> Parameters:
            whole = gradient.reshape(self._m, self._k, self._n)
            G = whole[:, np.arange(self._k)[:, None], self._workers] * self._signs
            by_first = np.einsum("juv,ujg->vg", self._powers[: self._k], G)
            return [self._symmetric(by_first @ self._rest, back=True)]

        return B.reshape(self._m * self._k, self._n), backward

    def _symmetric(self, Y: Array, *, back: bool = False) -> Array:
        """Return the mean of Y (m, gamma) over the shifts that bring subset 0 back to itself.

        There are several if n is not k or a part of it; with `back`, the transposed map.
        """
        total = np.zeros_like(Y)
        shifts = range(0, int(np.lcm(self._k, self._n)), self._k)
        for shift in shifts:
            moved = self.holders + shift
            place = np.searchsorted(self.holders, moved % self._n)
            signs = self._sign ** (moved // self._n)
            if back:
                total += self._powers[shift].T @ (Y[:, place] * signs)
            else:
                total[:, place] += self._powers[shift] @ Y * signs
        mean: Array = total / len(shifts)
        return mean
