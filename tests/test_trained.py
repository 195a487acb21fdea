"""Trained codes: exact for few stragglers whatever the training did, good beyond, found again."""

import numpy as np
import pytest

from gcmpi.assignments import (
    biregular,
    coset,
    fractional_repetition,
    lattice,
    projective_plane,
    steiner_triple,
)
from gcmpi.codes.encodings.frames import Holders
from gcmpi.codes.encodings.search import ship, store
from gcmpi.codes.encodings.search.descent import Schedule, descend
from gcmpi.codes.encodings.search.objective import (
    Stragglers,
    decodings,
    mean_and_gradient,
    unit_columns,
)
from gcmpi.codes.encodings.search.straggler_sets import Uniform
from gcmpi.codes.encodings.trained import Frame
from gcmpi.encodings import exact_trained, harmonic
from gcmpi.errors import ErrorEngine, exhaustive, orders, target
from tests.every import every

PLANE = projective_plane(3)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "_known", {})
    return tmp_path / "gcmpi"


def engine(B, m):
    return ErrorEngine(B, target(B, m))


def test_ridge_decoding_matrices_solve_their_normal_equations():
    rng = np.random.default_rng(0)
    U, _ = unit_columns(rng.standard_normal((12, 7)))
    sets = Stragglers.draw(7, np.array([0, 2, 4]), rng)
    R, losses = decodings(U, 2, sets, 1e-3)
    F = target(U, 2)
    for T, lost, matrix, loss in zip(sets.workers, sets.lost, R, losses, strict=True):
        S = np.setdiff1d(np.arange(7), T[lost])
        direct = np.linalg.solve(U[:, S].T @ U[:, S] + 1e-3 * np.eye(len(S)), U[:, S].T @ F)
        assert np.allclose(matrix[S], direct)
        assert np.allclose(matrix[T[lost]], 0)
        value = np.sum((U[:, S] @ direct - F) ** 2) + 1e-3 * np.sum(direct**2)
        assert loss == pytest.approx(value)


def test_the_gradient_by_the_envelope_theorem_is_that_of_differences():
    rng = np.random.default_rng(1)
    B, step = rng.standard_normal((2, 10, 6))
    sets = Stragglers.draw(6, np.array([0, 1, 1, 3]), rng)
    _, gradient = mean_and_gradient(B, 2, sets, 1e-2)
    h = 1e-6
    up, down = (mean_and_gradient(B + x * step, 2, sets, 1e-2)[0] for x in (h, -h))
    assert np.sum(gradient * step) == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("A", [PLANE, biregular(6, 9, 3, seed=7)[:8]], ids=["regular", "irregular"])
def test_the_gradient_by_k_and_y_is_that_of_differences(A):
    rng = np.random.default_rng(2)
    n, m, t = A.shape[1], 1, 1
    holders = Holders.of(A)
    frame = Frame(holders, n, m)
    Y = rng.standard_normal((len(A), m, holders.workers.shape[1])) * holders.held[:, None]
    at = [rng.standard_normal((n, m + t)), Y]
    step = [rng.standard_normal(p.shape) for p in at]
    by_B = rng.standard_normal((m * len(A), n))
    gradients = frame.encode(at)[1](by_B)
    h = 1e-6
    up, down = (
        np.sum(by_B * frame.encode([p + x * d for p, d in zip(at, step, strict=True)])[0])
        for x in (h, -h)
    )
    along = sum(float(np.sum(g * d)) for g, d in zip(gradients, step, strict=True))
    assert along == pytest.approx((up - down) / (2 * h), rel=1e-5)


@every(
    "A, m",
    [(PLANE, 1), (PLANE, 2), (PLANE, 3), (coset(5, 2, (0, 1, 3)), 2), (lattice(2), 2),
     (biregular(12, 12, 4, seed=1), 2), (fractional_repetition(6, 3), 1)],
)  # fmt: skip
def test_exact_for_every_set_of_t_stragglers_after_any_training(A, m):
    """Fractional repetition is the hard case: weak singular vectors there live on one group."""
    for t in range(int(A.sum(axis=1).min()) - m + 1):
        B = exact_trained(A, m, t, steps=30, starts=1)
        for s in range(t + 1):
            assert exhaustive(engine(B, m), s).max() < 1e-9
        assert np.allclose(np.linalg.norm(B, axis=0), 1)


@pytest.mark.parametrize(("order", "t"), [(5, 4)])
def test_the_shipped_code_is_exact_for_all_sets(order, t):
    B = exact_trained(projective_plane(order), 2)
    for s in (2, 3, t):
        assert exhaustive(engine(B, 2), s).max() < 1e-8


@pytest.mark.parametrize(
    ("order", "s", "most"),
    [
        (5, (0, 2, 3, 5, 6, 8), (1e-12, 1e-6, 1e-4, 0.06, 0.40, 4.5)),
        (9, (5, 9, 14, 18, 23), (1e-4, 0.05, 1.2, 4.4, 9.8)),
    ],
)
def test_the_mean_errors_of_the_shipped_codes(order, s, most):
    A = projective_plane(order)
    B = exact_trained(A, 2)
    errors = engine(B, 2).nested(orders(len(A), 2000, np.random.default_rng(3)), s).mean(axis=0)
    assert (errors <= most).all()


def test_every_plane_ships_with_m_2_and_3(cache):
    for order in ship.ORDERS:
        for m in ship.MS:
            A = projective_plane(order)
            B = exact_trained(A, m)
            assert engine(B, m).errors(np.ones((1, len(A)), dtype=bool))[0] < 1e-9
    assert not cache.exists()  # nothing was trained


def test_training_beats_the_closed_form():
    A = projective_plane(3)
    order = orders(13, 1000, np.random.default_rng(4))
    trained = engine(exact_trained(A, 2, 0, steps=1500, starts=2), 2).nested(order, range(4))
    closed = engine(harmonic(A, 2, 0), 2).nested(order, range(4))
    assert trained.mean() < closed.mean()


def test_exactness_that_costs_too_much_is_given_up():
    """100 subsets on 3 workers each: making one straggler good nearly doubles the mean error."""
    A = steiner_triple(25)
    order = orders(25, 300, np.random.default_rng(5))
    chosen, forced = (
        engine(exact_trained(A, 2, t, steps=400, starts=1), 2).nested(order, range(8))
        for t in (None, 1)
    )
    assert forced[:, 1].max() < 1e-9 < chosen[:, 1].min()
    assert chosen.mean() < 0.8 * forced.mean()
    plane = engine(exact_trained(PLANE, 2, steps=400, starts=1), 2)
    assert exhaustive(plane, 2).max() < 1e-9  # there it costs little


def test_codes_for_few_stragglers_are_never_worse_at_their_own_target():
    """Few stragglers teach less than many: such a code can be worse than the one for n/4."""
    order = orders(13, 1000, np.random.default_rng(1))
    for seed in range(4):
        short = {"steps": 30, "starts": 1, "seed": seed}
        few, many = (
            engine(exact_trained(PLANE, 2, 0, stragglers=s, **short), 2).nested(order, range(2))
            for s in (1, None)
        )
        assert few.mean() <= many.mean() * 1.02 + 1e-9


def test_codes_follow_from_their_seed_and_are_kept(cache, monkeypatch):
    def build(**options):
        return exact_trained(PLANE, 2, steps=20, starts=1, **options)

    first = build()
    assert build() is first
    assert not first.flags.writeable
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(store, "_known", {})
    assert np.array_equal(build(), first)
    assert not np.array_equal(build(seed=1), first)
    for damage in (b"", b"PK\x03\x04 half a file"):
        for file in cache.iterdir():
            file.write_bytes(damage)
        monkeypatch.setattr(store, "_known", {})
        assert np.array_equal(build(), first)  # trained again, the same
    assert not [file for file in cache.iterdir() if file.suffix != ".npz"]


def test_a_file_that_does_not_fit_is_made_anew(cache, capsys):
    name = store.key("test", PLANE, 1)
    for wrong in (np.ones((13, 13)), np.zeros((2, 2)), PLANE * np.nan, PLANE.astype(np.int8)):
        store.write(cache / f"{name}.npz", wrong)
        assert store.read(cache / f"{name}.npz", PLANE, 1) is None
        assert "does not fit the assignment; made anew" in capsys.readouterr().err
    store.write(cache / f"{name}.npz", PLANE.astype(float))
    assert np.array_equal(store.find_or_make(name, PLANE, 1, lambda: 1 / 0), PLANE)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "gcmpi").write_text("a file where the directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "_known", {})
    B = store.find_or_make(store.key("test", PLANE, 1), PLANE, 1, lambda: PLANE.astype(float))
    assert np.array_equal(B, PLANE)
    assert "is not kept for the next start" in capsys.readouterr().err


def test_the_key_tells_everything_apart():
    cases = [("a", PLANE, 1, {}), ("b", PLANE, 1, {}), ("a", PLANE, 2, {}), ("a", PLANE.T, 1, {}),
             ("a", PLANE, 1, {"t": 0}), ("a", PLANE, 1, {"t": 1})]  # fmt: skip
    keys = [store.key(name, A, m, **options) for name, A, m, options in cases]
    assert len(set(keys)) == len(keys)
    assert store.key("a", PLANE.astype(float), 1) == keys[0]


def test_descent_tells_every_step():
    told = []
    rng = np.random.default_rng(0)
    B = rng.standard_normal((6, 4))
    descend(
        [B],
        lambda p: (p[0], lambda g: [g]),
        1,
        Uniform(4, 1).step,
        Schedule(7, 0.1, (1e-2, 1e-3)),
        rng,
        lambda done, _: told.append(done),
    )
    assert told == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 5}, "at least m=5 workers"),
        ({"m": 2, "t": 3}, "0 <= t <= gamma - m = 2"),
        ({"m": 2, "steps": 0}, "not steps=0, starts=8, seed=0"),
        ({"m": 2, "seed": -1}, "not steps=16000, starts=8, seed=-1"),
    ],
)
def test_exact_trained_says_why_it_does_not_exist(options, message):
    with pytest.raises(ValueError, match=f"exact-trained.*{message}"):
        exact_trained(PLANE, **options)


def test_padding_of_subsets_with_fewer_holders():
    A = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    holders = Holders.of(A)
    B = np.random.default_rng(0).standard_normal((4, 4)) * np.tile(A, (2, 1))
    assert np.array_equal(holders.scatter(holders.gather(B, 2), 4), B)
    for j, rows in enumerate(holders.rows(np.eye(4))):
        assert [list(row).index(1) for row in rows if row.any()] == list(np.flatnonzero(A[j]))
