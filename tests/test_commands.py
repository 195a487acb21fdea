"""The commands behind one name: what they list, refuse, complete, and say while they work."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gcmpi.commands.parsing import Parser, complain, prog
from gcmpi.commands.table import COMMANDS
from gcmpi.sentences import did_you_mean, duration, left, words
from tests.conftest import ROOT, Done, Run
from tests.every import every

TINY = ("--assignment", "projective-plane:order=2", "--problem", "softmax", "--dataset",
        "mixture:rows=200,features=5", "--smoke")  # fmt: skip


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return the console script, as pip writes it from pyproject.toml."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["gcmpi"]
    module, _, function = entry.partition(":")
    path = tmp_path / "bin" / "gcmpi"
    path.parent.mkdir()
    path.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return path


def described(text: str) -> dict[str, str]:
    """Return the commands that a help page lists, with the line of each."""
    return dict(re.findall(r"^    (\w+) +(\S.*)$", text.partition("commands:")[2], re.MULTILINE))


def test_the_commands_are_listed_with_a_line_each(alone: Run, script):
    wide = {"COLUMNS": "100"}
    bare = alone("-m", "gcmpi", **wide)
    asked = alone("-m", "gcmpi", "--help", **wide)
    assert (bare.returncode, asked.returncode) == (0, 0)
    assert bare.stdout == asked.stdout
    assert described(bare.stdout) == {name: of.parser().summary for name, of in COMMANDS.items()}
    named = alone(script, **wide)
    assert named.stdout == bare.stdout.replace("python -m gcmpi.COMMAND", "<>").replace(
        "python -m gcmpi", "gcmpi"
    ).replace("<>", "python -m gcmpi.COMMAND")
    assert re.fullmatch(r"gcmpi \d+\.\d+\.\d+\n", alone(script, "--version").stdout)


def test_the_list_needs_neither_numpy_nor_mpi(alone: Run):
    program = (
        "import sys; from gcmpi.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'mpi4py', 'h5py', 'shtab'} & set(sys.modules)\n"
    )
    for line in ("", "--help", "--version", "trian", "codes error --help",
                 "sweep --help"):  # fmt: skip
        done = alone("-c", program, *line.split())
        assert done.returncode == 0, done.stderr


REFUSALS = [
    ("trian", "gcmpi: unknown command 'trian' (did you mean 'train'?)"),
    ("--simulate", "gcmpi: unknown option --simulate: options follow the command"),
    ("train --encodng x", "gcmpi train: unknown option --encodng (did you mean '--encoding'?)"),
    ("train --encod x", "gcmpi train: unknown option --encod (did you mean '--encoding'?)"),
    ("train --simulate m=3", "gcmpi train: 'm=3' belongs to no option"),
    ("train --m", "gcmpi train: argument --m: expected one argument"),
    ("codes shw", "gcmpi codes: unknown command 'shw' (did you mean 'show'?)"),
    ("codes find --wrkers 3", "gcmpi codes: unknown option --wrkers (did you mean '--workers'?)"),
    ("sweep x.toml --lanucher y", "gcmpi sweep: unknown option --lanucher (did you mean '--laun"),
    ("sweep x.toml", "gcmpi sweep: cannot read sweep x.toml: there is no such file"),
    ("--print-completion fish", "gcmpi: unknown shell 'fish'; choose one of bash, zsh"),
]


@pytest.mark.parametrize(("line", "message"), REFUSALS, ids=[line for line, _ in REFUSALS])
def test_refusals_are_one_line_with_a_guess(alone: Run, script, line, message):
    done = alone(script, *line.split())
    assert (done.returncode, done.stdout) == (2, "")
    said = [text for text in done.stderr.splitlines() if not text.startswith("# ")]
    assert len(said) == 1, done.stderr
    assert said[0].startswith(message)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("", 0),
        ("--help", 0),
        ("--version", 0),
        ("x", 2),
        ("codes --help", 0),
        ("sweep -h", 0),
        ("train --help", 0),
        ("codes shw", 2),
        ("sweep no.toml", 2),
    ],
)
def test_one_rank_speaks_and_all_exit_alike(alone: Run, line, status):
    ranks = [
        alone("-m", "gcmpi", *line.split(), PMI_RANK=str(rank), PMI_SIZE="2") for rank in (0, 1)
    ]
    assert [done.returncode for done in ranks] == [status, status]
    assert ranks[0].stdout + ranks[0].stderr
    assert ranks[1].stdout + ranks[1].stderr == ""


@pytest.mark.parametrize("line", ["codes list", "sweep no.toml"])
def test_commands_of_one_process_refuse_many_ranks(alone: Run, line):
    rank_0, rank_1 = [
        alone("-m", "gcmpi", *line.split(), PMI_RANK=str(rank), PMI_SIZE="8") for rank in (0, 1)
    ]
    assert (rank_0.returncode, rank_1.returncode) == (2, 2)
    assert "runs in one process: leave out mpirun -n 8" in rank_0.stderr
    assert rank_0.stdout + rank_1.stdout + rank_1.stderr == ""


def test_the_script_trains_over_mpi_as_the_module_does(mpi: Run, script, tmp_path: Path):
    done = mpi(8, script, "train", *TINY, "--output", "a.h5")
    assert done.returncode == 0, done.stderr
    assert "VALID" in done.stdout.splitlines()
    assert done.stderr.count("# 8 ranks, starting\n") == 1
    wrong = mpi(4, script, "train", *TINY)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "mpirun -n 8 gcmpi train" in wrong.stderr


def test_the_working_directory_is_on_the_path(alone: Run, script, tmp_path: Path):
    (tmp_path / "mine.py").write_text("X = 1\n")
    program = (
        "import os, sys; sys.path = [p for p in sys.path if p not in ('', os.getcwd())]\n"
        "from gcmpi.__main__ import main; main(['--print-completion', 'x'])\n"
        "import mine; assert mine.X == 1\n"
    )
    done = alone("-c", program)
    assert done.returncode == 0, done.stderr
    done = alone("-P", "-c", program)
    assert "No module named 'mine'" in done.stderr, "python -P keeps it out"


def test_prog_is_what_was_typed(monkeypatch):
    for started, name in (
        ("/x/bin/gcmpi", "gcmpi train"),
        ("/x/gcmpi/__main__.py", "python -m gcmpi train"),
        ("/x/gcmpi/train.py", "python -m gcmpi.train"),
        ("mine.py", "python -m gcmpi.train"),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        assert prog("train") == name


def names() -> list[str]:
    """Return the commands, those of commands too: codes, codes list."""
    found = []
    for name, command in COMMANDS.items():
        below = command.parser()._subparsers
        groups = [] if below is None else below._group_actions
        found += [name, *(f"{name} {word}" for group in groups for word in group.choices or ())]
    return found


HELPS = names()


def test_every_command_has_a_door(alone: Run):
    assert {"train", "sweep", "codes", "codes list", "codes recommend"} < set(HELPS)
    for name, command in COMMANDS.items():
        done = alone("-m", f"gcmpi.{name}", "--help", COLUMNS="100")
        assert done.returncode == 0, done.stderr
        assert command.parser().summary in done.stdout


@pytest.mark.parametrize("command", HELPS)
def test_help_has_groups_examples_and_exit_codes(alone: Run, script, command):
    done = alone(script, *command.split(), "--help", COLUMNS="200")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 100
    for part in ("\nexamples:\n", "\nexit status:\n", "--traceback"):
        assert part in done.stdout
    titles = re.findall(r"^([a-z ]+):$", done.stdout, re.MULTILINE)
    assert len(titles) >= 4, titles
    examples = re.findall(r"^  (?:mpirun -n \d+ )?(gcmpi .*)$", done.stdout, re.MULTILINE)
    assert examples


def test_examples_in_help_are_accepted():
    """Every example parses: its options exist."""
    for name, command in COMMANDS.items():
        for line in re.findall(rf"gcmpi\.{name} (-.*)$", command.parser().format_help(), re.M):
            command.parser().parse_args(line.split())


def complete(script: str, *typed: str) -> set[str]:
    """Return what bash offers for the last of the words typed."""
    quoted = " ".join(f"'{word}'" for word in typed)
    program = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(typed) - 1}; COMPREPLY=()\n"
        'registered=$(complete -p gcmpi | sed "s/.*-F \\([^ ]*\\) .*/\\1/"); $registered\n'
        "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_bash_completes(alone: Run, tmp_path: Path):
    pytest.importorskip("shtab", reason="shtab is not installed: pip install 'gcmpi[completion]'")
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine")
    done = alone("-m", "gcmpi", "--print-completion", "bash")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "gcmpi.bash"
    file.write_text(done.stdout)
    assert subprocess.run(["bash", "-n", file], check=False).returncode == 0
    assert complete(done.stdout, "gcmpi", "t") == {"train"}
    assert complete(done.stdout, "gcmpi", "codes", "s") == {"show", "stability"}
    assert complete(done.stdout, "gcmpi", "train", "--enc") == {"--encoding"}
    offered = complete(done.stdout, "gcmpi", "train", "--encoding", "random-")
    assert offered == {"random-diagonal", "random-hadamard"}
    assert complete(done.stdout, "gcmpi", "train", "--dtype", "f") == {"float32", "float64"}
    found = complete(done.stdout, "gcmpi", "train", "--config", f"{tmp_path}/gcmpi.b")
    assert found == {str(file)}
    zsh = alone("-m", "gcmpi", "--print-completion", "zsh")
    assert zsh.returncode == 0
    assert zsh.stdout.startswith("#compdef gcmpi")


def test_completion_without_shtab_says_what_to_install(alone: Run, tmp_path: Path):
    (tmp_path / "shtab.py").write_text("raise ImportError\n")
    done = alone("-m", "gcmpi", "--print-completion", "bash", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--print-completion needs shtab: pip install 'gcmpi[completion]'" in done.stderr


def failure(number: int, *name: str) -> OSError:
    return OSError(number, os.strerror(number), *name)


@every("number", [n for n in sorted(errno.errorcode) if n < 40])
def test_no_error_number_in_words(number):
    for error in (failure(number), failure(number, "x.h5")):
        for named in ("", "x.h5"):
            text = words(error, named)
            assert text
            assert "Errno" not in text
            assert str(number) not in text.replace("x.h5", "")


def test_words():
    missing = failure(errno.ENOENT, "x.h5")
    assert words(missing) == "there is no file x.h5"
    assert words(missing, "x.h5") == words(missing, Path("x.h5")) == "there is no such file"
    assert words(missing, "y.h5") == "there is no file x.h5"
    assert words(failure(errno.EACCES, "x.h5")) == "permission denied: x.h5"
    assert words(OSError("file is\n truncated")) == "file is truncated"
    assert words(ValueError("needs m")) == "needs m"
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode("utf-8")
    assert words(caught.value) == "it is not a text in UTF-8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "missing.toml"), "cannot use --config missing.toml: there is no such file"),
        (("--config", "folder.toml"), "cannot use --config folder.toml: it is a directory"),
        (("--config", "folder"), "cannot read run file folder: it is a directory"),
        (("--resume", "missing.h5"), "there is no run file missing.h5"),
        (("--output", "file/x.h5"), "cannot write --output file/x.h5: "),
        (("--output", "folder"), "--output folder exists"),
        (("--stragglers", "trace:no.csv"), "cannot read trace no.csv: there is no such file"),
        (("--stragglers", "trace:folder"), "cannot read trace folder: it is a directory"),
        (("--stragglers", "trace:latin.csv"), "cannot read trace latin.csv: it is not a text"),
    ],
)
def test_files_that_cannot_be_used_are_described_in_words(alone, tmp_path, arguments, message):
    for name in ("folder", "folder.toml"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "latin.csv").write_bytes("1,2,\xe9".encode("latin-1"))
    tiny = () if arguments[0] == "--resume" else TINY
    done = alone("-m", "gcmpi.train", *tiny, "--simulate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Errno" not in done.stderr


def test_a_launcher_that_does_not_exist_is_one_sentence(alone: Run, tmp_path: Path):
    (tmp_path / "s.toml").write_text("[runs.a]\nassignment = 'projective-plane:order=2'\n")
    done = alone("-m", "gcmpi.sweep", "s.toml", "--launcher", "no-such-launcher -n {ranks}")
    assert done.returncode == 2
    assert "gcmpi.sweep: --launcher: no-such-launcher cannot be started" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr


def caused() -> ValueError:
    """Return a refusal that another error led to."""
    try:
        try:
            {}["deep"]
        except KeyError as error:
            raise ValueError("one\n sentence") from error
    except ValueError as refusal:
        return refusal
    raise AssertionError


def test_complaints(capsys):
    complain("python -m gcmpi.train", caused())
    assert capsys.readouterr().err == "gcmpi.train: one sentence\n"
    complain("gcmpi train", caused(), traceback=True)
    said = capsys.readouterr().err
    assert "KeyError: 'deep'" in said
    assert said.endswith("\ngcmpi train: one sentence\n")
    complain("gcmpi train", MemoryError("3 TB"))
    assert "does not fit into memory, choose smaller numbers: 3 TB" in capsys.readouterr().err
    complain("gcmpi sweep", failure(errno.EACCES, "runs"))
    assert capsys.readouterr().err == "gcmpi sweep: permission denied: runs\n"


@pytest.mark.parametrize("line", ["show --encoding stackd", "--traceback show --encoding stackd"])
def test_traceback_flag(alone: Run, line):
    more = [] if line.startswith("-") else ["--traceback"]
    done = alone("-m", "gcmpi.codes", *line.split(), *more)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("gcmpi.codes: unknown encoding 'stackd'")
    done = alone("-m", "gcmpi.sweep", "missing.toml", "--traceback")
    assert "FileNotFoundError" in done.stderr


def first_lines(done: Done) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("# ")]


def test_the_first_line_says_who_starts(alone: Run):
    done = alone("-m", "gcmpi.train", *TINY, "--simulate")
    assert done.returncode == 0, done.stderr
    assert first_lines(done) == ["# simulating all workers in this process, starting"]
    assert "starting" not in done.stdout
    for quiet in ("--help", "--print-config"):
        assert first_lines(alone("-m", "gcmpi.train", quiet, PMI_RANK="0", PMI_SIZE="8")) == []
    assert first_lines(alone("-m", "gcmpi.train", "--simulate", "--encodng", "x")) == []


def test_the_first_line_comes_before_anything_slow(alone: Run):
    program = (
        "import sys, gcmpi.commands.train.options\n"
        "gcmpi.commands.train.options.announce(['--m', '3'])\n"
        "assert not {'numpy', 'mpi4py', 'h5py'} & set(sys.modules)\n"
    )
    done = alone("-c", program, PMI_RANK="0", PMI_SIZE="32")
    assert (done.returncode, done.stderr) == (0, "# 32 ranks, starting\n")
    assert alone("-c", program, PMI_RANK="1", PMI_SIZE="32").stderr == ""
    assert alone("-c", program).stderr == "", "no launcher: how many ranks there are is not known"


def test_progress_of_a_run(alone: Run):
    done = alone("-m", "gcmpi.train", *TINY, "--simulate")
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if "gradient error" in line)
    heading, rows = lines[at], [line for line in lines[at + 1 :] if line.endswith(" Pass")]
    assert re.match(r" +1 of 5 ", rows[0])
    assert re.match(r" +5 of 5, 0 s left ", rows[-1])
    assert {len(line) for line in rows} == {len(heading)}


def test_time_left_is_measured_from_audit_to_audit(monkeypatch):
    """The first iteration is slow, and every tenth has an audit: the estimate holds both."""
    from gcmpi.commands.train.report import Progress

    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(stream, 101)
    progress.begin()
    for t in range(51):
        audited = t % 10 == 0
        clock[0] += (30.0 if t == 0 else 1.0) + (5.0 if audited else 0.0)
        found = 0.5 if audited else np.nan
        row = SimpleNamespace(
            iteration=t, seconds=0.0, loss=found, accuracy=found, gradient_error=found, check=1,
            survivors=np.ones(3), exchange_seconds=1.0, decode_seconds=0.0, update_seconds=0.0,
        )  # fmt: skip
        progress.show(row, last=False)
    assert re.search(r" 1 of 101  ", stream.getvalue()), "one audit tells no pace"
    said = re.findall(r"(\d+ of 101, .* left) ", stream.getvalue())
    assert said == [f"{t + 1} of 101, {duration(1.5 * (100 - t))} left"
                        for t in range(10, 51, 10)]  # fmt: skip


def test_durations():
    assert [duration(x) for x in (0, 14.2, 99.4, 99.6, 3 * 60, 5990, 7200, 4 * 86400)] == [
        "0 s", "14 s", "99 s", "2 min", "3 min", "2 h", "2 h", "4 days"
    ]  # fmt: skip
    assert left(0.0, 20.0, 20, 34) == "20 of 34, 14 s left"
    assert left(0.0, 60.0, 3, 40, " done, ") == "3 of 40 done, 12 min left"
    assert did_you_mean("stackd", ["stacked", "harmonic"]) == " (did you mean 'stacked'?)"
    assert did_you_mean("zzz", ["stacked"]) == ""


def test_values_that_look_like_options():
    p = Parser("x")
    p.add_argument("--rate", type=float)
    p.add_argument("file", nargs="?")
    assert p.parse_args(["--rate", "-0.5"]).rate == -0.5
    assert p.parse_args(["--rate=-1e-3"]).rate == -0.001
    assert p.parse_args(["--", "--odd"]).file == "--odd"
    with pytest.raises(ValueError, match="unknown option -q"):
        p.parse_args(["-q"])
