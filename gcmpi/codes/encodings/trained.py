"""Encodings trained for random stragglers that are exact for few of them by construction."""

from __future__ import annotations

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.codes.encodings.frames import FULL_RANK, Holders, largest_t
from gcmpi.codes.encodings.search import store
from gcmpi.codes.encodings.search.descent import Backward, Parameters, Progress, Schedule, descend
from gcmpi.codes.encodings.search.objective import unit_columns
from gcmpi.codes.encodings.search.straggler_sets import Law, expected
from gcmpi.registry import ENCODINGS

VERSION = "exact-trained 1"
STEPS = 16000
WORKERS = 125
"""There are as many starts as that many workers make, so that all codes take about as long."""
JUDGED, JUDGED_RIDGE = 2048, 1e-6
"""Straggler sets, and the relative noise power, that choose among the starts."""
FREE_RATE, FREE_RIDGE = 0.12, (1e-1, 1e-6)
"""How training goes without the constraint."""
COST = 0.1
"""Share of the mean error that exactness may cost."""
EXACT_SHARE, EXACT_RATE, EXACT_RIDGE = 0.2, 0.003, (1e-6, 1e-8)
"""Steps with the constraint, relative to those without, and how they go."""


@ENCODINGS.register("exact-trained", {"steps": 40, "starts": 1}, exact=True)
def exact_trained(
    A: AnyArray,
    m: int,
    t: int | None = None,
    seed: int = 0,
    stragglers: int | None = None,
    steps: int = STEPS,
    starts: int | None = None,
    attack: float = 0.0,
    odds: Array | None = None,
) -> Array:
    """Exact for s <= t stragglers, trained for a small mean error with more.

    Every dual frame of K = [R Z] (see `gcmpi.encodings.frames`) has the blocks
    ``B_j = [I 0] K_j^+ + Y_j (I - K_j K_j^+)``, K_j = K(H_j): exact for s <= t whatever K and Y
    are, as long as every t rows of Z are independent, which holds for almost all. First codes
    without this constraint are trained from some random starts. The best one's R when nobody
    straggles and its t weakest right singular vectors start K, its coefficients start Y; then K
    and Y are trained. The objective is the mean of ``min_R ||F - B_S R||^2 + eps ||R||^2`` over
    random S, each number of stragglers counting the same.

    The code is for random stragglers; without `attack` the worst sets are worse than those of
    `harmonic`. It is
    kept in the user's cache, and those for projective planes come with the package. The same seed
    gives the same code up to what different machines make of the rounding.

    Parameters
    ----------
    A : (k, n)
        Assignment matrix.
    m
        Communication reduction factor.
    t
        Stragglers that are made good exactly, at most gamma - m. Unless given, gamma - m but not
        more than `stragglers`; half of that or none where it costs too much: more than a tenth
        of the mean error without the constraint, and, unless `odds` count or `stragglers` is
        given, more than a thousandth of m k. With `attack`, the best of the three.
    seed
        Another seed gives another code.
    stragglers
        Numbers of stragglers from 0 to this are trained for; n/4 unless given. The code for n/4 is
        returned where its mean over these is smaller.
    steps
        Length of the training from one start.
    starts
        The number of starts; 125 / n, from 1 to 8, unless given.
    attack
        How much straggler sets chosen by an adversary count in the training, from 0 to 1: the
        worst sets cost less, the mean is higher.
    odds : (n,)
        Each worker's probability to straggle, where the run knows it. The code is trained for
        these stragglers if they differ, or if they are more than n/4 in most iterations, and
        `stragglers` is not given.

    Returns
    -------
    B : (m * k, n), columns of norm 1

    Raises
    ------
    ValueError
        If a subset is on fewer than m + t workers, or an option is out of range.
    """
    n = A.shape[1]
    largest = largest_t(A, m, "exact-trained", t)
    law = expected(n, "exact-trained", stragglers, odds, attack=attack, m=m)
    top = min(largest, law.most)
    ts = list(dict.fromkeys((top, top // 2, 0))) if t is None else [t]
    starts = min(8, max(1, WORKERS // n)) if starts is None else starts
    if min(steps, starts) < 1 or seed < 0:
        raise ValueError(
            "exact-trained needs steps and starts from 1 on and a seed from 0 on, "
            f"not steps={steps}, starts={starts}, seed={seed}"
        )
    options = {"seed": seed, "steps": steps, "starts": starts}
    # the mean of one's own numbers of stragglers, or odds, may be far below a thousandth of m k
    # and yet be what counts
    asked = stragglers is not None or "odds" in law.key
    spared = 0.0 if asked else 0.01 * COST * m * A.shape[0]
    told = {} if stragglers is None else {"spared": spared}
    name = store.key(VERSION, A, m, ts=str(ts), **options, **law.key, **told)

    def make() -> Array:
        B = _train(A, m, ts, law, spared, **options)
        if stragglers is None:
            return B
        # few stragglers may teach less than many: never a code that is worse at its own target
        rival = exact_trained(A, m, t, seed, None, steps, starts, attack)
        judged = law.judge(JUDGED, np.random.default_rng([seed, 1]))
        return min((B, rival), key=lambda code: law.loss(code, m, judged, JUDGED_RIDGE))

    return store.find_or_make(name, A, m, make)


def _train(
    A: AnyArray,
    m: int,
    ts: list[int],
    law: Law,
    spared: float,
    *,
    seed: int,
    steps: int,
    starts: int,
) -> Array:
    """Return the code with the first of `ts` that costs little, else the best of them.

    Little is a tenth of the error without the constraint, or `spared`.
    """
    rng = np.random.default_rng([seed, ts[0]])
    k, n = A.shape
    holders = Holders.of(A)
    last = round(EXACT_SHARE * steps)
    what = f"training an exact code for n={n}, k={k}, m={m}, t={ts[0]}"
    progress = Progress(what, starts * steps + last)

    def free(parameters: Parameters) -> tuple[Array, Backward]:
        return holders.scatter(parameters[0], n), lambda g: [holders.gather(g, m)]

    judged = law.judge(JUDGED, rng)
    best, least = np.zeros(0), np.inf
    for _ in range(starts):
        blocks = rng.standard_normal((k, m, holders.workers.shape[1])) * holders.held[:, None]
        schedule = Schedule(steps, FREE_RATE, FREE_RIDGE)
        (blocks,) = descend([blocks], free, m, law.step, schedule, rng, progress)
        progress.phase(steps)
        B = holders.scatter(blocks, n)
        loss = law.loss(B, m, judged, JUDGED_RIDGE)
        if loss < least:
            best, least = B, loss

    frame = Frame(holders, n, m)
    # against an adversary exactness for few stragglers is nothing to pay for
    allowed = max((1 + COST) * least, least + spared) if "attack" not in law.key else -np.inf
    found, lowest = None, np.inf
    for t in ts:
        K, Y = frame.near(best, t, rng)
        schedule = Schedule(last, EXACT_RATE, EXACT_RIDGE)
        K, Y = descend([K, Y], frame.encode, m, law.step, schedule, rng, progress)
        exact = frame.exact(K, Y)
        loss = law.loss(exact, m, judged, JUDGED_RIDGE) if exact is not None else np.inf
        if loss < lowest:
            found, lowest = exact, loss
        if loss <= allowed:
            break
    progress.close()
    if found is None:
        raise ValueError(f"exact-trained: K lost its rank in training; another seed than {seed}")
    return unit_columns(found)[0]


class Frame:
    """The dual frames of one assignment as a function of K (n, m + t) and Y (k, m, gamma)."""

    def __init__(self, holders: Holders, n: int, m: int) -> None:
        self._holders, self._n, self._m = holders, n, m
        held = holders.held
        self._identity = held[:, :, None] * np.eye(held.shape[1])

    def encode(self, parameters: Parameters) -> tuple[Array, Backward]:
        """Return B (m * k, n), and what turns the derivative by B into those by K and Y."""
        K, Y = parameters
        m, rows = self._m, self._holders.rows(K)
        gram = np.linalg.inv(rows.transpose(0, 2, 1) @ rows)  # (K_j' K_j)^-1
        right = rows @ gram  # (K_j^+)'
        left = right.transpose(0, 2, 1)
        rest = self._identity - rows @ left  # I - K_j K_j^+
        B = self._holders.scatter(left[:, :m] + Y @ rest, self._n)

        def backward(gradient: Array) -> Parameters:
            G = self._holders.gather(gradient, m)
            G_t, Y_t = G.transpose(0, 2, 1), Y.transpose(0, 2, 1)
            # d K^+ = -K^+ dK K^+ + (K'K)^-1 dK' (I - K K^+); d (K K^+) = (I - K K^+) dK K^+ + ..'
            by_rows = rest @ (G_t @ gram[:, :m] - (Y_t @ G + G_t @ Y) @ right)
            by_rows -= right[:, :, :m] @ (G @ right)
            by_K = np.zeros_like(K)
            np.add.at(by_K, self._holders.workers, by_rows * self._holders.held[:, :, None])
            return [by_K, G @ rest]

        return B, backward

    def near(self, B: Array, t: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return K and Y of a dual frame near the code B: its R, and what it nearly maps to 0."""
        m, n = self._m, self._n
        U, _ = unit_columns(B)
        P = U.reshape(m, -1, n).sum(axis=1).T
        R = np.linalg.solve(U.T @ U + FREE_RIDGE[1] * np.eye(n), P)
        Z = np.linalg.svd(U)[2][n - t :].T
        R -= Z @ (Z.T @ R)
        size = float(np.sqrt(np.mean(R**2)))
        K = np.hstack([R / size, np.sqrt(n) * Z])  # entries near 1
        Y = self._holders.gather(U * size, m)
        # where Z lives on few workers, others see dependent columns: stir until none do
        for noise in (0.0, 1e-3, 1e-2, 1e-1, 1.0):
            stirred = K + noise * rng.standard_normal(K.shape)
            if self._condition(stirred) < 1e4:
                return stirred, Y
        return rng.standard_normal(K.shape), Y

    def exact(self, K: Array, Y: Array) -> Array | None:
        """Return B as `encode` does, to rounding; None if some K_j has dependent columns."""
        rows = self._holders.rows(K)
        left = np.linalg.pinv(rows)
        if not np.abs(left @ rows - np.eye(K.shape[1])).max() < FULL_RANK:
            return None
        blocks = left[:, : self._m] + Y @ (self._identity - rows @ left)
        return self._holders.scatter(blocks, self._n)

    def _condition(self, K: Array) -> float:
        sigma = np.linalg.svd(self._holders.rows(K), compute_uv=False)
        return float(np.max(sigma[:, 0] / np.maximum(sigma[:, -1], 1e-300)))
