"""m chosen while a run goes on: the rule, and runs whose stragglers come and go."""

from itertools import combinations

import numpy as np
import pytest
from simulated import train

from gcmpi import records as recording
from gcmpi.registry import SWITCHES
from gcmpi.training.switching import Observed

LOSSES = {
    1: np.array([0.0, 0.0, 0.01, 0.03, 0.1, 1.0]),
    2: np.array([0.0, 0.02, 0.05, 0.2, 0.5, 1.0]),
    3: np.array([0.015, 0.1, 0.3, 0.5, 0.8, 1.0]),
}


def choices(rule, stragglers):
    chosen = []
    for s in stragglers:
        chosen.append(rule.choose())
        rule.observe(s)
    return chosen


def test_never():
    rule = SWITCHES.build("never", m=3, losses={})
    assert choices(rule, [0, 5, 2]) == [3, 3, 3]


def test_the_largest_m_within_the_tolerance():
    rule = SWITCHES.build("observed:tolerance=0.02,window=1", m=3, losses=LOSSES)
    #  nobody is expected at first; what 4 stragglers cost is least for m=1, though too much
    assert choices(rule, [1, 0, 2, 4, 5, 0, 0]) == [3, 2, 3, 1, 1, 1, 3]


def test_losses_are_averaged_over_the_window():
    rule = Observed(LOSSES, tolerance=0.02, window=4)
    # m=3 costs .1 once and .015 else: .0575, .043, .036 in the mean, until the 1 has gone;
    # m=2 costs .02 once and nothing else
    assert choices(rule, [0, 1, 0, 0, 0, 0, 2, 0]) == [3, 3, 2, 2, 2, 2, 3, 2]


def test_exact_only_is_a_tolerance_too():
    losses = {1: np.zeros(3), 2: np.array([1e-17, 1e-14, 0.1])}
    rule = Observed(losses, tolerance=0, window=1)
    assert choices(rule, [1, 2, 1]) == [2, 2, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("tolerance=1", r"tolerance in \[0, 1\), not 1"),
        ("tolerance=nan", "tolerance in"),
        ("window=0", "window >= 1, not 0"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        SWITCHES.build(f"observed:{options}", m=3, losses=LOSSES)


# runs


@pytest.fixture
def waves(tmp_path):
    """A trace: nobody late for 20 iterations, three of seven silent for 20, nobody for 20."""
    seconds = np.ones((60, 7))
    rng = np.random.default_rng(0)
    for row in seconds[20:40]:
        row[rng.permutation(7)[:3]] = np.nan
    np.savetxt(tmp_path / "trace.csv", seconds, delimiter=",")
    return {
        "stragglers": f"trace:{tmp_path / 'trace.csv'}",
        "encoding": "harmonic:choices=4",
        "m": 2,
        "switch": "observed:tolerance=0.1,window=4",
        "iterations": 60,
        "wait": "all",
        "audit_every": 2,
    }


def test_m_goes_down_with_the_stragglers_and_up_again(waves):
    trained = train(**waves)
    m = np.array([row.m for row in trained.rows])
    assert (m[:21] == 2).all()
    assert (m[24:41] == 1).all()
    assert (m[44:] == 2).all()
    run = trained.run
    d = run.shared.problem.d
    for row in trained.rows:
        assert row.check == (1 if row.iteration % 2 == 0 or row.iteration == 59 else 255)
        assert row.bytes_up == row.survivors.sum() * 4 * -(-d // row.m)
        assert row.divisor == run.schemes[row.m].alpha[np.sum(~row.survivors)]
        code = run.shared.schemes[row.m].codes.at(row.iteration)
        assert row.approximation_error == pytest.approx(code.error(row.survivors), abs=1e-9)
    assert set(run.schemes) == {1, 2}
    for m, scheme in run.schemes.items():
        losses = scheme.loss
        assert losses.shape == (8,)
        assert losses[0] < 1e-9
        assert losses[7] == pytest.approx(1)
        code = run.shared.schemes[m].codes.at(0)
        errors = [code.error(~np.isin(range(7), T)) for T in combinations(range(7), 3)]
        assert losses[3] == pytest.approx(np.mean(errors) / (7 * m), rel=0.15)


def test_refused_where_there_is_nothing_to_choose(waves):
    with pytest.raises(ValueError, match=r"never take m=2, which loses 0\.2"):
        train(**{**waves, "encoding": "random-diagonal"})
    with pytest.raises(ValueError, match=r"chooses among m = 1 to --m: give --m 2 or more, not 1"):
        train(**{**waves, "m": 1})


def test_a_fixed_m_has_a_family_of_one(waves):
    run = train(**{**waves, "switch": "never", "iterations": 1}).run
    assert list(run.schemes) == [2]
    assert run.schemes[2].loss is None


def test_each_m_has_its_own_alpha(waves):
    lossy = {"encoding": "random-diagonal", "switch": "observed:tolerance=0.3", "iterations": 1}
    trained = train(**{**waves, **lossy})
    assert trained.run.schemes[1].alpha[3] > trained.run.schemes[2].alpha[3] + 0.05
    assert trained.run.alpha is trained.run.schemes[2].alpha


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(waves, tmp_path):
    whole = train(**waves)
    cut = train(**waves, stop_after=22)  # in the middle of a window
    path = cut.save(tmp_path / "cut.h5", status="interrupted")
    resumed = train(recording.read(path), **waves)
    np.testing.assert_array_equal(resumed.record.columns["m"], whole.record.columns["m"])
    np.testing.assert_array_equal(resumed.state.theta, whole.state.theta)


def test_a_late_answer_counts_with_the_bytes_of_its_m():
    """A worker that is asked with m=2 and answers in an iteration with m=1."""
    trained = train(
        encoding="harmonic:choices=4",
        stragglers="markov:q=0.4,stay=0.5,delay=1.5",
        wait="fastest:4",
        switch="observed:window=1",
        iterations=40,
    )
    m, d = [row.m for row in trained.rows], trained.run.shared.problem.d
    crossing = 0
    for row in trained.rows:
        answers = [row.m] * int(row.survivors.sum()) + [m[t] for t, _, _ in row.late]
        assert row.bytes_up == sum(4 * -(-d // asked) for asked in answers)
        crossing += sum(m[t] != row.m for t, _, _ in row.late)
    assert crossing


def test_what_cannot_switch():
    with pytest.raises(ValueError, match="as with --switch observed: give feedback=false"):
        train(encoding="weighted-rank-one", compression="top-k", switch="observed")
    with pytest.raises(ValueError, match="--switch observed needs a code for m=1 too: harmonic"):
        train(encoding="harmonic:t=1,choices=4", switch="observed")
    with pytest.raises(ValueError, match="needs window >= 1"):
        train(encoding="weighted-rank-one", switch="observed:window=0")
