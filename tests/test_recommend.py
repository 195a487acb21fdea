"""`codes recommend`: what it measures and ranks, by dense algebra; the command that it prints."""

import json
import shlex
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

import gcmpi
from gcmpi.codes import candidates, recommendation
from gcmpi.codes.__main__ import main
from gcmpi.codes.assignments.catalogue import entries
from gcmpi.codes.encodings.search.descent import TooLongError, patience
from gcmpi.codes.placement import consecutive
from gcmpi.codes.recommendation import StragglerSets, recommend, server_memory
from gcmpi.commands.train.command import main as train
from gcmpi.learning import gradients
from gcmpi.learning.batches import Sampling
from gcmpi.learning.problem import complete
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, Wanted
from gcmpi.training.memory import Layout
from tests.every import every

COLUMNS = [
    "assignment", "encoding", "load", "mean_error", "standard_error", "worst_found",
    "build_seconds", "plain_gradients", "server_memory",
]  # fmt: skip
FEW = "--assignment groups --assignment cyclic --encoding frame --encoding"
OWN = """\
import numpy as np


def ring(n=8):
    return np.eye(n) + np.eye(n, k=1) + np.eye(n, k=1 - n)


def ones(A, m):
    return np.tile(A, (m, 1)).astype(float)


def broken(A, m):
    return 1 / 0
"""


@pytest.fixture
def run(capsys):
    def run(line):
        assert main(["recommend", *line.split()]) == 0
        return capsys.readouterr().out

    return run


def lost(row, m, late):
    """Return the share of the gradient that is lost for each set, by dense least squares."""
    codes = gcmpi.Ensemble(row["assignment"], m=m, encoding=row["encoding"])
    B, F = codes.at(0).B, np.kron(np.eye(m), np.ones((codes.k, 1)))
    shares = []
    for T in late:
        left = np.delete(B, T, axis=1)
        left = left / np.maximum(np.linalg.norm(left, axis=0), 1e-300)
        R = np.linalg.lstsq(left, F, rcond=1e-12)[0]
        shares.append(np.sum((left @ R - F) ** 2) / (m * codes.k))
    return np.array(shares)


def test_no_code_is_better_than_the_first(run):
    """All sets of 3 of 10 workers, for all pairs: means and worst cases are those of lstsq."""
    rows = json.loads(run("--workers 10 --m 2 --load 2/5 --stragglers 3 --json"))
    late = list(combinations(range(10), 3))
    fixed = [r for r in rows if not ENCODINGS[r["encoding"]].promises.redrawn]
    shares = {(r["assignment"], r["encoding"]): lost(r, 2, late) for r in fixed}
    for r in fixed:
        mine = shares[r["assignment"], r["encoding"]]
        assert r["mean_error"] == pytest.approx(mine.mean(), abs=1e-7)
        assert r["standard_error"] == 0
        assert r["worst_found"] == pytest.approx(mine.max(), abs=1e-7)
        assert r["mean_error"] >= rows[0]["mean_error"]
        assert r["load"] <= 0.4
    assert min(r["mean_error"] for r in rows) == rows[0]["mean_error"]
    # nothing that fits was left out
    names = {r["encoding"] for r in rows}
    assert names >= {"frame", "harmonic", "gaussian-exact", "random-diagonal", "ye-abbe"}
    assert {r["assignment"].partition(":")[0] for r in rows} >= {"groups", "cyclic", "petersen"}


def test_the_first_is_best_on_other_sets(run):
    """16 workers, 5 stragglers: on random sets of our own no pair loses less, beyond chance."""
    rows = json.loads(run("--workers 16 --m 2 --load 1/4 --stragglers 5 --json"))
    rng = np.random.default_rng(5)
    late = [rng.permutation(16)[:5] for _ in range(150)]
    first = lost(rows[0], 2, late)
    for row in rows[1:]:
        if not ENCODINGS[row["encoding"]].promises.redrawn:
            by = lost(row, 2, late) - first
            assert by.mean() >= -2 * by.std(ddof=1) / np.sqrt(len(late)) - 1e-9


def test_the_order_is_the_rule():
    sets = StragglerSets.uniform(12, 4)
    found = recommend(Wanted(12, load=Fraction(1, 3), m=2, s=4), sets)
    keys = [
        (round(r.mean_error, 9), r.plain_gradients, round(r.worst_found, 6), r.load)
        for r in found.rows[:10]
    ]
    assert keys == sorted(keys)
    assert found.rows[0].plain_gradients == 1
    assert found.why.startswith(
        f"{found.rows[0].assignment} + {found.rows[0].encoding} comes first"
    )
    worst = recommend(Wanted(12, load=Fraction(1, 3), m=2, s=4), sets, against="worst").rows
    assert worst[0].worst_found == min(r.worst_found for r in worst[:10])
    assert worst[0].worst_found <= found.rows[0].worst_found + 1e-9
    frames = recommend(
        Wanted(12, load=Fraction(1, 3), m=2, s=4), sets, against="worst", encodings=["frame"]
    )
    assert "in the worst case that was found" in frames.why


def test_graphs_hold_as_many_subsets_as_the_rule_says(run):
    rows = json.loads(run("--workers 30 --m 2 --load 0.2 --stragglers 8 --assignment graph --json"))
    assert {r["assignment"] for r in rows} == {"graph:n=30,c=5,r=2"}
    rows = json.loads(run("--workers 18 --m 2 --load 1/3 --stragglers 0 --assignment graph --json"))
    assert {r["assignment"] for r in rows} == {"graph:n=18,c=3,r=3"}


def test_table_and_command(run, monkeypatch, capsys, tmp_path):
    out = run(f"--workers 9 --load 1/3 --rows 3 --stragglers bernoulli:q=0.1 {FEW} harmonic")
    lines = out.splitlines()
    assert lines[0] == (
        "# n=9 workers, m=2, load at most 1/3; bernoulli:q=0.1, 1 stragglers in the mean; seed 0"
    )
    (heading,) = [i for i, line in enumerate(lines) if line.startswith("# assignment")]
    assert lines[heading][2:].split("  ")[0] == "assignment"
    assert [h.strip().replace(" ", "_") for h in lines[heading][2:].split("  ") if h] == COLUMNS
    assert lines[heading + 1].split()[:2] == ["groups:n=9,c=3", "frame"]
    assert "# and 1 more: --rows, or --json for all" in lines
    words = shlex.split(lines[-1])
    assert words[:6] == ["mpirun", "-n", "10", "python", "-m", "gcmpi.train"]
    monkeypatch.chdir(tmp_path)
    assert train([*words[6:], "--simulate", "--iterations", "3", "--audit-every", "1"]) == 0
    assert "VALID" in capsys.readouterr().out


def test_whole_hosts_are_late(run, monkeypatch, capsys, tmp_path):
    line = (
        "--workers 12 --load 1/3 --hosts 4 --assignment groups --assignment cyclic --encoding frame"
    )
    rows = json.loads(run(f"{line} --json"))
    assert [list(r) for r in rows] == [COLUMNS] * 2
    assert rows[0]["assignment"] == "groups:n=12,c=3"
    assert rows[0]["mean_error"] == rows[0]["worst_found"] == 0
    (codes,) = candidates.candidates(
        Wanted(12, load=Fraction(1, 3), m=2),
        assignments=["cyclic"],
        encodings=["frame"],
        hosts=consecutive(12, 4),
    ).codes
    each = [codes.codes.at(0).error(consecutive(12, 4) != host) / 24 for host in range(4)]
    assert rows[1]["mean_error"] == pytest.approx(np.mean(each))
    assert rows[1]["worst_found"] == pytest.approx(max(each))
    words = shlex.split(run(line).splitlines()[-1])
    assert words[-2:] == ["--hosts", "4"]
    monkeypatch.chdir(tmp_path)
    assert train([*words[6:], "--simulate", "--iterations", "2"]) == 0
    assert "1 of 4 hosts late, up to 3 workers" in run(line)


def test_trained_encodings_are_measured_where_they_are_kept(run, monkeypatch):
    monkeypatch.setattr(candidates, "PATIENCE", 0.0)
    line = "--workers 8 --load 1/2 --assignment cyclic --encoding frame --encoding "
    trained = "exact-trained:steps=30,starts=1"
    out = run(line + trained)
    assert f"# not measured: {trained} on 1 assignment, to be trained in about " in out
    assert "  exact-trained" not in out
    assert trained in run(line + trained + " --train")
    assert trained in {r["encoding"] for r in json.loads(run(f"{line}{trained} --json"))}
    with patience(0.0), pytest.raises(TooLongError) as stopped:
        ENCODINGS.build("cyclic-trained", A=gcmpi.assignments.cyclic(9, 3), m=2)
    assert stopped.value.seconds > 0


def test_shipped_codes_are_measured(run):
    line = "--workers 13 --load 4/13 --assignment projective-plane --encoding exact-trained --json"
    (row,) = json.loads(run(line))
    assert (row["assignment"], row["encoding"]) == ("projective-plane:order=3", "exact-trained")


def test_own_parts_are_measured(run, monkeypatch, tmp_path):
    (tmp_path / "ownrec.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rows = json.loads(
        run(
            "--workers 8 --load 1/4 --assignment ownrec.ring --encoding ownrec.ones "
            "--encoding frame --json"
        )
    )
    assert [r["encoding"] for r in rows] == ["frame", "ownrec.ones"]
    assert (
        main(["recommend", "--workers", "8", "--load", "1/4", "--encoding", "ownrec.broken"]) == 2
    )


class Counting:
    """A model that counts the gradients it is asked for."""

    d, asked = 4, 0

    def initial(self, rng):
        return np.zeros(4)

    def loss(self, theta, X, Y):
        return float(((X @ theta - Y) ** 2).sum())

    def gradient(self, theta, X, Y, scale):
        self.asked += 1
        return scale * 2 * X.T @ (X @ theta - Y)


@every("encoding", ["frame", "random-diagonal", "stacked", "harmonic:choices=4", "gaussian-exact"])
def test_plain_gradients_are_what_a_worker_computes(encoding):
    code = gcmpi.Ensemble("cyclic:n=6,delta=3", m=2, encoding=encoding).at(0)
    asked = []
    for i in range(6):
        model = Counting()
        problem = complete(model, "float64")
        made = gradients.gradients(
            problem, np.ones((6, 4)), np.ones(6), [2, 2, 2], code.subsets(i), 1.0, Sampling()
        )
        made.begin(0, np.zeros(4))
        model.asked = 0
        made.message(code.coefficients(i))
        asked.append(model.asked)
    assert max(asked) == code.plain_gradients


@every("encoding", ["frame", "random-diagonal", "harmonic:choices=4"])
@every("assignment", ["groups:n=11,c=3", "cyclic:n=6,delta=3", "graph:n=12,c=3,r=2"])
def test_server_memory_is_what_the_server_keeps(assignment, encoding):
    codes = gcmpi.Ensemble(assignment, m=2, encoding=encoding)
    assert server_memory(codes) == Layout.of({codes.m: codes}, 40).numbers / 40
    if assignment.startswith("groups") and encoding == "frame":
        assert server_memory(codes) == 3


@every("n", [7, 20, 31])
@every("load", ["1/4", "1/3", "2/5"])
@every("m", [1, 2])
def test_assignments_use_the_load(n, load, m):
    """What exists fits; where the load may be chosen it is the largest that fits."""
    wanted, part = Wanted(n, load=Fraction(load), m=m, s=n // 4), Fraction(load)
    found = [e for p in ASSIGNMENTS for e in entries(p, wanted)]
    largest = {}
    for entry in found:
        A = ASSIGNMENTS.build(entry.spec)
        assert A.shape == (entry.k, n)
        assert A.sum(axis=0).max() == entry.delta <= part * entry.k
        assert A.sum(axis=1).min() >= m
        largest[entry.spec.partition(":")[0]] = Fraction(entry.delta, entry.k)
    c = -int(-1 // part)
    assert largest.get("cyclic", 0) == (Fraction(int(part * n), n) if int(part * n) >= m else 0)
    assert largest.get("groups", 0) == (Fraction(1, c) if n // c >= m else 0)


REFUSED = {
    "--workers 9": "arguments are required: --load",
    "--workers 9 --load x": "a part of the data such as 0.25 or 1/4, not 'x'",
    "--workers 9 --load 1/0": "a part of the data such as 0.25 or 1/4",
    "--workers 9 --load 3/2": "the load must be above 0 and at most 1, not 1.5",
    "--workers 9 --load 1/9": "a load of at least 2/9",
    "--workers 0 --load 1": "--workers must be at least 1, not 0",
    "--workers 9 --load 1 --m 0": "m at least 1, not n=9, m=0",
    "--workers 300 --load 1/5": "gcmpi.codes error --assignment groups:n=300,c=5 --encoding frame",
    "--workers 12 --load 1/4 --hosts 1": "all 12 workers are late in every set",
    "--workers 9 --load 1/3 --stragglers 2-3": "--stragglers needs a number such as 5",
    "--workers 9 --load 1/3 --stragglers 10": "must be in 0..9, not 10",
    "--workers 9 --load 1/3 --stragglers lognormal": "delays workers by some time",
    "--workers 9 --load 1/3 --hosts 10": "--hosts must be 1 to 9",
    "--workers 9 --load 1/3 --hosts 3 --stragglers 4": "late hosts must be in 0..3, not 4",
    "--workers 9 --load 1/3 --hosts 3 --stragglers bernoulli": "how many of them, not bernoulli",
    "--workers 9 --load 1/3 --against all": "unknown against 'all'; choose one of mean, worst",
    "--workers 9 --load 1/3 --encoding partial-stragglers": "made of what workers have finished",
    "--workers 9 --load 1/3 --assignment petersen": "no assignment for 9 workers",
    "--workers 9 --load 1/3 --assignment cyclic:n=8,delta=2": "has 8 workers, not 9",
    "--workers 9 --load 1/3 --assignment cyclic:n=9,delta=4": "a load above 0.333333",
    "--workers 9 --load 1/3 --assignment groups --encoding bgc": "it needs m=1, not m=2",
    "--workers 9 --load 1/3 --assignment cyclic --encoding exact-trained": "add --train",
}


@every("line, message", list(REFUSED.items()))
def test_refuses_in_one_line(line, message, capsys):
    assert main(["recommend", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("gcmpi.codes: ")
    assert message in err


def test_what_does_not_exist_leads_here(capsys):
    assert main(["find", "--workers", "31", "--delta", "32"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("python -m gcmpi.codes recommend --workers 31 --load 1 --m 1")
    for assignment, wish in (
        ("fractional-repetition:n=31,delta=6", "--workers 31 --load 6/31"),
        ("expander:n=7,delta=3", "--workers 7 --load 3/7"),
        ("biregular:n=6,k=9,delta=2", "--workers 6 --load 2/9"),
    ):
        assert main(["show", "--assignment", assignment]) == 2
        assert f"python -m gcmpi.codes recommend {wish} ranks" in capsys.readouterr().err


def test_straggler_sets_are_all_or_random():
    few = StragglerSets.uniform(6, 2, seed=1)
    assert few.every
    assert len({tuple(row) for row in few.survivors}) == len(few.survivors) == 15
    assert (few.survivors.sum(axis=1) == 4).all()
    many = StragglerSets.uniform(40, 10)
    assert not many.every
    assert len(many.survivors) == recommendation.SETS
    assert (many.survivors.sum(axis=1) == 30).all()
    hosts = StragglerSets.of_hosts(consecutive(10, 4), 2)
    assert len(hosts.survivors) == 6
    assert hosts.s == max((~hosts.survivors).sum(axis=1))
