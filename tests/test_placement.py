"""Who holds what, where workers share hosts or are known to straggle with different odds."""

import itertools

import numpy as np
import pytest

from gcmpi import assignments, bounds, records, simulate
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.placement import consecutive, place
from gcmpi.experiments.experiment import Experiment
from gcmpi.registry import ASSIGNMENTS

SMALL = {
    "problem": "softmax",
    "dataset": "mixture:rows=200,features=6",
    "iterations": 8,
    "audit_every": 2,
}


def holders(A, hosts):
    """Return how many holders of each subset are on each host, (subsets, hosts)."""
    return A.astype(int) @ (hosts[:, None] == np.unique(hosts))


def test_ranks_fill_hosts_one_after_the_other():
    assert consecutive(31, 8).tolist() == [(i + 1) // 4 for i in range(31)]
    assert consecutive(5, 1).tolist() == [0] * 5
    assert np.bincount(consecutive(30, 4)).tolist() == [7, 8, 8, 7]
    for hosts in (0, 6):
        with pytest.raises(ValueError, match="--hosts must be 1 to 5, the number of workers"):
            consecutive(5, hosts)


def test_no_host_holds_more_than_its_share_of_a_subset():
    for n, r, hosts in itertools.product((30, 31, 32), (1, 2), (2, 3, 4, 6, 8, 16)):
        A, on = assignments.graph(n, 5, r), consecutive(n, hosts)
        columns = place(A, 2, hosts=on)
        assert sorted(columns) == list(range(n))
        count = holders(A[:, columns], on)
        assert (count <= np.ceil(count.sum(axis=1, keepdims=True) / hosts)).all(), (n, r, hosts)
    A, on = assignments.fractional_repetition(30, 6), np.arange(30) % 3  # hosts may be mixed
    assert (holders(A[:, place(A, 2, hosts=on)], on) == 2).all()


@pytest.mark.parametrize(
    "assignment",
    ["groups:n=31,c=5", "graph:n=31,c=5,r=2", "fractional-repetition:n=30,delta=6",
     "cyclic:n=31,delta=6", "projective-plane:order=5"],
)  # fmt: skip
def test_two_late_hosts_of_eight_cost_as_little_as_they_can(assignment):
    A = ASSIGNMENTS.build(assignment)
    on = consecutive(A.shape[1], 8)

    def lost(columns):
        left = [
            A[:, columns][:, (on != a) & (on != b)].sum(axis=1, dtype=int)
            for a, b in itertools.combinations(range(8), 2)
        ]
        return np.maximum(2 - np.array(left), 0).sum()

    assert lost(place(A, 2, hosts=on)) == 0
    consecutive_groups = assignment.startswith(("fractional", "cyclic"))
    assert (lost(np.arange(len(on))) > 0) == consecutive_groups


def test_groups_by_odds_are_as_good_as_the_best_partition():
    rng, worst, different = np.random.default_rng(0), 1.0, 0
    for n, c, m in itertools.product((6, 8), (2, 3), (1, 2)):
        A = assignments.groups(n, c)
        sets = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        partitions = np.array([*itertools.product(range(c), repeat=n)])
        index = (partitions[:, None, :] == np.arange(c)[:, None]) @ 2 ** np.arange(n)
        for odds in (rng.random(n), rng.choice([0.05, 0.5], n), rng.choice([0.01, 0.2, 0.9], n)):
            loss = bounds.independent_holder_bound
            each = np.array([loss(held[None], m, odds) for held in sets])
            columns = place(A, m, odds=odds)
            found = loss(A[:, columns], m, odds)
            worst = max(worst, found / each[index].sum(axis=1).min())
            sizes = A[:, columns].sum(axis=1, dtype=int)
            assert sizes.min() > 0
            different += np.ptp(sizes) > 1
    assert worst <= 1.15
    assert different > 3


def test_six_bad_workers_of_31_are_spread():
    odds = np.where(np.arange(31) < 6, 0.5, 0.05)
    for assignment in ("groups:n=31,c=5", "graph:n=31,c=5,r=2"):
        A = ASSIGNMENTS.build(assignment)
        columns = place(A, 2, odds=odds)
        assert np.array_equal(columns, place(A, 2, odds=odds))
        found = bounds.independent_holder_bound(A[:, columns], 2, odds) / (2 * len(A)) * 62
        assert found < 0.00044
    A = assignments.cyclic(12, 4)
    odds = np.where(np.arange(12) < 3, 0.5, 0.05)
    columns = place(A, 2, odds=odds)
    assert sorted(columns) == list(range(12))
    before, after = (bounds.independent_holder_bound(x, 2, odds) for x in (A, A[:, columns]))
    assert after < 0.2 * before
    assert place(A, 2, odds=np.full(12, 0.3)).tolist() == list(range(12))
    on = consecutive(31, 8)
    plain = holders(assignments.groups(31, 5)[:, place(assignments.groups(31, 5), 2, hosts=on)], on)
    both = place(assignments.groups(31, 5), 2, hosts=on, odds=np.linspace(0, 0.5, 31))
    assert holders(assignments.groups(31, 5)[:, both], on).max() == plain.max()  # hosts first


def test_a_placement_refuses_what_is_none():
    A = assignments.groups(6, 2)
    for hosts in (np.zeros(5, int), np.full(6, -1)):
        with pytest.raises(ValueError, match="hosts must be n=6 numbers"):
            place(A, 2, hosts=hosts)
    for odds in (np.linspace(0, 1, 5), np.linspace(0, 2, 6)):
        with pytest.raises(ValueError, match="odds must be n=6 probabilities"):
            place(A, 2, odds=odds)
    for placement in (range(5), [0, 1, 2, 3, 4, 6]):
        with pytest.raises(ValueError, match="a placement must be n=6 columns"):
            Ensemble("groups:n=6,c=2", 2, "frame", placement=placement)


def test_an_encoding_is_made_for_its_assignment_and_then_placed():
    columns = np.random.default_rng(0).permutation(7)
    odds = np.linspace(0.1, 0.7, 7)
    for encoding in ("harmonic", "random-diagonal", "gaussian-exact"):
        plain = Ensemble("projective-plane:order=2", 2, encoding, odds[np.argsort(columns)], 5)
        placed = Ensemble("projective-plane:order=2", 2, encoding, odds, 5, placement=columns)
        assert np.array_equal(placed.A, plain.A[:, columns])
        assert np.array_equal(placed.at(3).B, plain.at(3).B[:, columns])
        assert np.array_equal(placed.coefficients(3, 2), plain.coefficients(3, columns[2]))
    moved = Ensemble("groups:n=6,c=2", 2, "frame", placement=[0, 0, 0, 0, 1, 1])
    assert moved.A.sum(axis=1).tolist() == [4, 2]
    assert moved.at(0).error(np.array([True, True, False, False, True, True])) < 1e-12
    partial = Ensemble("cyclic:n=6,delta=2", 1, "partial-stragglers", placement=[5, 4, 3, 2, 1, 0])
    everything = partial.A.sum(axis=0, dtype=int)
    assert np.array_equal(partial.at(0, everything).B, partial.at(0).B)


def test_the_placement_is_in_the_run_file_and_a_replay_takes_it_from_there(tmp_path, alone):
    rates = "+".join(["5"] * 2 + ["1"] * 5)
    e = Experiment(
        assignment="groups:n=7,c=2",
        encoding="frame",
        stragglers=f"bernoulli:q=0.1,rates={rates}",
        hosts="odds",
        **SMALL,
    )
    run = simulate(e, output=tmp_path / "a.h5")
    odds = np.array([0.5] * 2 + [0.1] * 5)
    file = records.read(tmp_path / "a.h5")
    assert np.array_equal(file.placement, place(assignments.groups(7, 2), 2, odds=odds))
    done = alone("-m", "gcmpi.train", "--simulate", "--config", "a.h5", "--output", "b.h5")
    assert done.returncode in (0, 3), done.stderr
    again = records.read(tmp_path / "b.h5")
    literal = "+".join(map(str, file.placement))
    assert Experiment.from_toml(again.experiment) == e.change({"hosts": literal})
    for name in ("loss", "survivors", "approximation_error"):
        assert np.array_equal(again.columns[name], run[name], equal_nan=True)
    other = ("--assignment", "groups:n=5,c=2", "--stragglers", "none", "--output", "c.h5")
    done = alone("-m", "gcmpi.train", "--simulate", "--config", "a.h5", *other)
    assert done.returncode == 2  # odds are asked for again, and nothing is known of them
    assert "--hosts odds needs a straggler model that knows each worker's" in done.stderr
    plain = simulate(e.change({"hosts": "off"}), output=tmp_path / "d.h5")
    assert records.read(tmp_path / "d.h5").placement is None
    assert len(plain["loss"]) == 8


def test_a_code_that_is_placed_is_used_as_it_is():
    code = Ensemble("groups:n=5,c=2", 2, "frame", placement=[4, 3, 2, 1, 0])
    run = simulate(Experiment(code=code, **SMALL))
    assert run.experiment.hosts == "4+3+2+1+0"


def test_a_resumed_run_keeps_its_placement(tmp_path):
    e = Experiment(assignment="graph:n=8,c=2,r=2", encoding="frame", hosts="3", **SMALL)
    whole = simulate(e.change({"iterations": 12}))
    simulate(e, output=tmp_path / "a.h5")
    on = simulate(e.change({"iterations": 12}), resume=tmp_path / "a.h5")
    assert np.array_equal(on["approximation_error"], whole["approximation_error"])
    assert on["loss"][-1] == whole["loss"][-1]
    placed = records.read(tmp_path / "a.h5").placement
    assert np.array_equal(placed, place(assignments.graph(8, 2, 2), 2, hosts=consecutive(8, 3)))


def test_impossible_hosts_are_refused():
    for hosts in ("", "many", "3.5", "-1", "1+", "+", "auto+1"):
        with pytest.raises(ValueError, match="--hosts must be off, a number of hosts, auto"):
            Experiment(hosts=hosts)
    assert Experiment.from_toml("hosts = 8").hosts == "8"
    with pytest.raises(ValueError, match="--hosts 8 places workers for the whole run, and --rel"):
        Experiment(hosts="8", relabel=True)
    small = {"assignment": "groups:n=5,c=2", "encoding": "frame", **SMALL}
    for hosts, said in (("6", "--hosts must be 1 to 5"), ("0+1", "a placement must be n=5")):
        with pytest.raises(ValueError, match=said):
            simulate(Experiment(hosts=hosts, **small))


def test_hosts_are_learned_over_mpi(tmp_path, train):
    done = train(
        6, "--assignment", "groups:n=5,c=2", "--encoding", "frame", "--hosts", "auto",
        "--problem", "softmax", "--dataset", "mixture:rows=200,features=6", "--smoke",
        "--output", tmp_path / "a.h5",
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    assert records.read(tmp_path / "a.h5").placement.tolist() == [0, 1, 2, 3, 4]  # one host
