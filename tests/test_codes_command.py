"""`python -m gcmpi.codes`: what it prints, and one line with status 2 for what it cannot do."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from gcmpi import Code, bounds
from gcmpi.assignments import bernoulli, projective_plane
from gcmpi.codes.__main__ import main
from gcmpi.commands.codes.output import Progress, table
from gcmpi.encodings import stacked
from gcmpi.errors import ErrorEngine, target
from gcmpi.registry import ASSIGNMENTS, ENCODINGS, STRAGGLERS
from tests.every import every

COSET = "coset:k=9,m=2,generators=0+1+3+4"


@pytest.fixture
def run(capsys):
    def run(line):
        assert main(line.split()) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture
def refused(capsys):
    def refused(line):
        assert main(line.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("gcmpi.codes: ")
        return err

    return refused


def test_error_keeps_its_contract(run):
    out = run(
        "error --assignment projective-plane:order=3 --encoding random-diagonal --m 2 "
        "--stragglers 0,3,7 --draws 20 --sets 30 --seed 5 --json"
    )
    found = json.loads(out)
    assert [list(x) for x in found] == [["s", "mean", "stderr", "max", "bound", "lower_bound"]] * 3
    assert [x["s"] for x in found] == [0, 3, 7]
    A = projective_plane(3)
    for x in found:
        assert x["lower_bound"] <= x["mean"] <= x["max"] <= 26
        assert x["mean"] <= x["bound"] + 5 * x["stderr"]
        assert x["bound"] == pytest.approx(bounds.corollary_1(A, 2, x["s"]))
        assert x["lower_bound"] == pytest.approx(bounds.holder_bound(A, 2, x["s"]))


def test_error_has_no_bound_where_no_theorem_applies(run):
    A = bernoulli(18, 9, 4)
    out = run(
        "error --assignment bernoulli:n=18,k=9,delta=4 --encoding stacked --stragglers 1 --json"
    )
    code = Code(A, stacked(A, 2), 2)
    every = [code.error(np.arange(18) != i) for i in range(18)]
    assert json.loads(out) == [
        {
            "s": 1,
            "mean": pytest.approx(np.mean(every)),
            "stderr": pytest.approx(0, abs=1e-12),
            "max": pytest.approx(max(every)),
            "bound": None,
            "lower_bound": 0.0,
        }
    ]


def test_error_of_a_single_set_has_no_standard_error(run):
    found = json.loads(run("error --stragglers 5 --draws 1 --sets 1 --json"))
    assert found[0]["stderr"] is None
    assert found[0]["mean"] == found[0]["max"]


def test_error_prints_a_table_with_its_bound(run):
    out = run("error --draws 3 --sets 10 --stragglers 0-2,9")
    lines = out.splitlines()
    assert lines[0] == "# projective-plane:order=5 + random-diagonal, m=2: Err_S, of m k = 62"
    assert lines[2] == "# bound: Corollary 1"
    assert lines[3].split()[1:6] == ["s", "mean", "+-", "median", "P90"]
    assert [line.split()[0] for line in lines[4:]] == ["0", "1", "2", "9"]
    assert len({len(line) for line in lines[3:]}) == 1


def test_error_for_a_probability(run):
    line = "error --assignment uncoded:n=6 --encoding uncoded --m 1 --probability 0.5 --sets 400"
    (found,) = json.loads(run(f"{line} --json"))
    assert found["q"] == 0.5
    assert found["lower_bound"] == pytest.approx(3)
    assert abs(found["mean"] - 3) < 5 * found["stderr"] < 0.3
    assert "lower bound" in run(line)


def test_show_says_what_a_code_is(run):
    out = run(f"show --assignment {COSET} --encoding random-diagonal:epsilon=0.1")
    facts = dict(line.split("  ", 1) for line in out.partition("\n\n")[0].splitlines())
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    assert facts["assignment"] == "coset (k, m, delta) = (9, 2, 4)"
    assert facts["workers n"] == "18"
    assert facts["replication gamma"] == "8"
    assert facts["vertex-transitive"] == "yes"
    assert facts["eigenvalues of A'A"].startswith("32 (x1), ")
    assert facts["eigenvalues of A'A"].endswith("0 (x9)")
    assert facts["rank of B"].startswith("18 of at most 18")
    assert facts["B is"] == "redrawn in every iteration"
    assert "above by Corollary 3" in out


def test_list_names_every_part(run):
    lines = run("list").splitlines()
    for part in (*ASSIGNMENTS, *ENCODINGS):
        assert f"  {part.name:<21}  {part.summary}" in lines or any(
            line.split()[:1] == [part.name] and line.endswith(part.summary) for line in lines
        )
        if part.options:
            assert any(line.strip() == part.usage for line in lines)


def test_worst_finds_sets_at_least_as_bad_as_claim_1(run):
    found = json.loads(run("worst --stragglers 0,6,12 --restarts 1 --json"))
    assert [x["s"] for x in found] == [0, 6, 12]
    for x in found:
        assert len(set(x["stragglers"])) == x["s"]
        assert x["error"] >= x["claim_1"]
    assert found[2]["claim_1"] == 4
    lines = run("worst --stragglers 0,6,12 --restarts 1").splitlines()
    assert lines[2].split() == ["0", f"{found[0]['error']:.6g}", "0", "-"]
    assert [int(i) for i in lines[4].split()[3:]] == found[2]["stragglers"]


def test_compare_puts_codes_side_by_side(run):
    line = (
        "compare --code projective-plane:order=3 stacked 2 --code uncoded:n=20 uncoded 1 --sets 5"
    )
    out = run(line)
    rows = [line.split() for line in out.splitlines() if not line.startswith("#")]
    assert [row[0] for row in rows] == ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25"]
    assert [float(row[2]) for row in rows] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert float(rows[0][1]) == pytest.approx(0.5)
    found = json.loads(run(f"{line} --json"))
    assert [(x["assignment"], x["encoding"], x["m"]) for x in found] == [
        ("projective-plane:order=3", "stacked", 2),
        ("uncoded:n=20", "uncoded", 1),
    ]
    assert [p["mean"] for p in found[1]["errors"]] == pytest.approx([0, 1, 2, 3, 4, 5])


def test_find_lists_what_exists_and_what_is_near(run):
    exact, _, near = run("find --workers 31 --m 2 --delta 6").partition("# nearest")
    rows = [line.split()[:5] for line in exact.splitlines()]
    assert ["projective-plane:order=5", "31", "31", "6", "6"] in rows
    assert "  affine-plane:order=5 " in near
    assert "uncoded" not in exact + near


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plots(run, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    run(f"error --draws 2 --sets 5 --plot {one}")
    codes = f"--code paley:q=5 random-diagonal 2 --code {COSET} stacked 2"
    run(f"compare {codes} --draws 2 --sets 5 --plot {two}")
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[suffix]
    assert all(path.read_bytes().startswith(start) for path in (one, two))


REFUSED = {
    "": "arguments are required: COMMAND",
    "errors": "unknown command 'errors' (did you mean 'error'?); choose one of list, show",
    "error --draw 3": "unknown option --draw (did you mean '--draws'?)",
    "error --draws x": "argument --draws: invalid int value: 'x'",
    "error --draws 0": "draws and sets must be at least 1, not 0 and 1000",
    "error --draws 1000000 --sets 1000": "use fewer --draws, --sets or --stragglers",
    "error --m 0": "m must be at least 1, not 0",
    "error --seed -1": "must be a whole number from 0 on, not '-1'",
    "error --stragglers 3,x": "--stragglers needs counts such as 0,3,7 or 0-8, not '3,x'",
    "error --stragglers 32": "--stragglers must be in 0..31 (the workers), not 32",
    "error --stragglers 5-3": "--stragglers must be in 0..31",
    "error --probability 1.5": "--probability must be between 0 and 1, not 1.5",
    "error --probability .5 --stragglers 3": "goes with neither --stragglers nor --plot",
    "error --assignment plane": "unknown assignment 'plane'",
    "error --assignment projective-plane:order=6": "order",
    "error --encoding random-diagonal:epsilon=1": "needs epsilon in [0, 1), not epsilon=1.0",
    "error --encoding random-hadamard": "null space",
    "error --encoding uncoded": "needs m=1, not m=2",
    "error --plot /no/such/place.png --draws 1 --sets 1": "cannot write --plot /no/such/place.png",
    "error --plot curve.xyz --draws 1 --sets 1": "cannot write --plot curve.xyz",
    "error --encoding partial-stragglers": "is made of what workers have finished",
    "error --plot= --draws 1 --sets 1": "its name must end in one of",
    "stability --plot curve": "cannot write --plot curve: its name must end in one of",
    "worst --restarts -1": "--restarts must be at least 0, not -1",
    "compare": "arguments are required: --code",
    "compare --code uncoded:n=3 uncoded one": "M a whole number",
    "find --workers 0": "at least 1, not n=0",
    "show --json": "unknown option --json",
}


@every("line, message", REFUSED.items())
def test_refuses_in_one_line(refused, line, message):
    assert message in refused(line)


def test_a_plot_without_matplotlib_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    message = refused("error --draws 1 --sets 1 --plot x.png")
    assert "pip install 'gcmpi[analysis]'" in message


def test_tables_line_up(capsys):
    table(("name", "value", "also"), [("a", 1.5, None), ("long name", 123456.789, 2)])
    assert capsys.readouterr().out == (
        "# name        value  also\n  a             1.5     -\n  long name  123457     2\n"
    )


def test_progress_speaks_every_ten_seconds_where_nobody_watches(capsys, monkeypatch):
    now = iter([0.0, 9.0, 11.0, 15.0, 22.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = Progress("a code")
    for done in range(1, 5):
        progress(done, 4)
    assert capsys.readouterr().err == ("# a code: 2 of 4, 11 s left\n# a code: 4 of 4, 0 s left\n")


def test_help_needs_no_numpy_and_the_command_no_mpi():
    program = (
        "import sys; from gcmpi.codes.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "print(*sys.modules)"
    )

    def modules(*argv):
        done = subprocess.run(
            [sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True
        )
        return set(done.stdout.splitlines()[-1].split())

    assert not modules("error", "--help") & {"numpy", "scipy", "mpi4py", "matplotlib"}
    loaded = modules("error", "--draws", "1", "--sets", "1", "--json")
    assert "numpy" in loaded
    assert not loaded & {"mpi4py", "h5py", "matplotlib", "scipy.linalg", "networkx"}


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "gcmpi.codes", "find", "--workers", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "projective-plane:order=2" in done.stdout
    done = subprocess.run([*command[:-1], "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gcmpi.codes: argument --workers")


def test_show_says_what_a_code_promises(run):
    out = run("show --assignment fractional-repetition:n=8,delta=4 --encoding block-mds --m 2")
    assert "exact up to            s = 2, any stragglers" in out
    assert "decoder of its source  block" in out
    out = run("show --assignment petersen --encoding stacked")
    assert "exact up to            no promise" in out
    assert "decoder of its source  least-squares" in out
    out = run("show --assignment groups:n=11,c=4 --encoding frame --m 2")
    assert "exact up to            s = 0, any stragglers" in out
    assert "above by exact for every set (Theorem A)" in out
    rows = [line.split() for line in out.splitlines() if re.match(r"  \d", line)]
    assert all(row[2] == row[3] for row in rows)
    assert len(rows) > 2


def test_stability_shows_which_codes_lose_their_digits(run):
    found = json.loads(run("stability --workers 10,31 --sets 5 --json"))
    exact = {part.name for part in ENCODINGS if part.promises.tolerant}
    names = {x["encoding"] for x in found}
    # no code survives stragglers without redundancy; t is given to codes that have one
    assert names == exact - {"uncoded"} | {"harmonic:t=2"}
    two_parts = ("ye-abbe", "gaussian-exact", "block-mds", "harmonic:t=2")
    for x in found:
        assert x["s"] in (2, 3)
        assert x["m"] == (2 if x["encoding"] in two_parts else 1)
        A = ASSIGNMENTS.build(x["assignment"])
        assert A.shape[1] == x["n"]
        assert A.sum(axis=1, dtype=int).min() == x["s"] + x["m"]
        assert abs(x["n"] - 10) <= 2 or abs(x["n"] - 31) <= 1
        for key in ("condition", "gain", "float64", "float32", "float16"):
            assert 0 < x[key]["median"] <= x[key]["max"]
        assert x["float64"]["median"] < x["float32"]["median"] * 1.5
        assert x["float32"]["median"] < x["float16"]["median"]
    at_31 = {(x["encoding"], x["decoder"]): x["float64"]["median"] for x in found if x["n"] > 20}
    assert at_31["ye-abbe", "vandermonde"] > 1e-7
    assert at_31["block-mds", "block"] < 1e-14
    assert ("ye-abbe", "least-squares") in at_31


def test_stability_says_where_nothing_is_left(run):
    (lost, own) = json.loads(run("stability --workers 91 --encoding ye-abbe --sets 3 --json"))
    assert own["decoder"] == "vandermonde"
    assert lost["float64"]["median"] > 0.01
    for key in ("condition", "gain", "float32"):
        assert lost[key] == own[key] == {"median": None, "max": None}
    out = run("stability --workers 91 --encoding ye-abbe --sets 3")
    assert "inf" in out.splitlines()[-1]


def test_stability_of_one_option(run):
    out = run("stability --workers 8 --m 1 --encoding ye-abbe:order=ascending --sets 3")
    assert [line.split()[:6] for line in out.splitlines()[-2:]] == [
        ["ye-abbe:order=ascending", "least-squares", "8", "2", "1", "3"],
        ["ye-abbe:order=ascending", "vandermonde", "8", "2", "1", "3"],
    ]


def test_stability_of_a_trained_code_that_is_asked_for(run):
    (row,) = json.loads(
        run("stability --workers 7 --encoding exact-trained:steps=40,starts=1 --sets 3 --json")
    )
    assert row["encoding"] == "exact-trained:t=2,steps=40,starts=1"
    assert row["float64"]["max"] < 1e-9


def test_errors_under_a_straggler_model(run):
    """The sets are those of the model, and the code is built for its odds."""
    words = "error --assignment projective-plane:order=3 --encoding harmonic:choices=20 --draws 1"
    q = np.where(np.arange(13) < 3, 0.6, 0.06)
    model = "bernoulli:q=0.06,rates=" + "+".join(f"{x / 0.06:.0f}" for x in q)
    (x,) = json.loads(run(f"{words} --sets 400 --stragglers {model} --json"))
    A = ASSIGNMENTS.build("projective-plane:order=3")
    B = ENCODINGS.build("harmonic:choices=20", A=A, m=2, odds=q)
    late = [np.isinf(STRAGGLERS.build(model, n=13, seed=0).delays(t)) for t in range(400)]
    values = ErrorEngine(B, target(B, 2)).errors(~np.array(late))
    assert x["mean"] == pytest.approx(values.mean())
    assert x["s"] == pytest.approx(np.mean(np.sum(late, axis=1)))
    assert x["lower_bound"] == pytest.approx(bounds.independent_holder_bound(A, 2, q))
    assert x["lower_bound"] <= x["mean"]
    out = run(f"{words} --sets 50 --stragglers markov:q=0.2,delay=inf")
    assert "50 straggler sets (markov:q=0.2,delay=inf, the same for each draw)" in out


def test_stability_draws(run, tmp_path):
    pytest.importorskip("matplotlib")
    run(f"stability --workers 8,12 --sets 2 --plot {tmp_path}/found.svg")
    assert "ye-abbe, vandermonde" in (tmp_path / "found.svg").read_text()


@pytest.mark.parametrize(
    ("stragglers", "message"),
    [
        ("lognormal", "delays workers by some time; whom the server waits for"),
        ("bernouli:q=0.1", "did you mean 'bernoulli'"),
        ("bernoulli:q=0.1,rates=1+2", "rates must be n = 31 numbers"),
        ("bernoulli --plot x.png", "--plot draws errors over numbers of stragglers"),
    ],
)
def test_error_refuses_models(refused, stragglers, message):
    assert message in refused(f"error --draws 1 --sets 5 --stragglers {stragglers}")


@every(
    "options, message",
    [
        ("--workers 5,x", "--workers needs counts"),
        ("--workers 0", "--workers needs counts"),
        ("--sets 0", "--sets must be at least 1"),
        ("--encoding stacked", "promises no exact decoding"),
        ("--encoding uncoded", "no code uncoded for s=2 and m=2 or 1"),
    ],
)
def test_stability_refuses(refused, options, message):
    assert message in refused(f"stability {options}")
