"""What the pages say exists: names, links, files, commands, flags, columns; and their code runs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import sys

import h5py
import pytest

import gcmpi
from analysis import idea
from gcmpi import registry
from gcmpi.commands.codes import command_line
from gcmpi.commands.table import COMMANDS
from gcmpi.commands.train import options
from gcmpi.registry import NotFoundError
from gcmpi.training import FIELDS
from tests.conftest import ROOT
from tests.every import every

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
PAGE = every("page", {page.stem: page for page in PAGES})
FOLDERS = "analysis|docs|examples|gcmpi|jobs|tests"


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page, *languages):
    """Yield the fenced code blocks of these languages ('' is none)."""
    for language, body in re.findall(
        r"^```(\w*)\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL
    ):
        if language in languages:
            yield body


def program(page, name):
    """Return the block whose first line is ``# NAME``."""
    return next(b for b in blocks(page, "python") if b.startswith(f"# {name}\n"))


# names


def missing(name):
    """Return what of a dotted name does not exist; empty if all does."""
    pieces, found, where = name.split("."), None, 0
    for count in range(len(pieces), 0, -1):
        module = ".".join(pieces[:count])
        with contextlib.suppress(ModuleNotFoundError):
            found, where = importlib.import_module(module), count
            break
    for piece in pieces[where:]:
        fields = {f.name for f in dataclasses.fields(found)} if _is_dataclass(found) else set()
        if piece in fields | set(getattr(found, "__annotations__", {})):
            return ""
        if not hasattr(found, piece):
            return f"{name}: {piece}"
        found = getattr(found, piece)
    return ""


def _is_dataclass(found):
    return isinstance(found, type) and dataclasses.is_dataclass(found)


@PAGE
def test_names_exist(page):
    names = set(re.findall(r"(?<![\w/.\-\[])gcmpi(?:\.[A-Za-z_]\w*)+", text(page)))
    absent = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is None]
    known = [name for name in sorted(names) if not set(absent) & set(name.split("."))]
    assert [wrong for name in known if (wrong := missing(name))] == []


def test_names_that_do_not_exist_are_found():
    assert missing("gcmpi.codes.code.combine") == ""
    assert missing("gcmpi.training.scheme.Scheme.decoder") == ""
    assert missing("gcmpi.codes.code.combined") == "gcmpi.codes.code.combined: combined"


def test_walk_passes_every_page_of_the_loop():
    walk = text(DOCS / "iteration.md")
    stations = ("exchange", "solve", "learn", "inspect", "answer", "step", "combine", "after")
    assert [name for name in stations if not re.search(rf"\.{name}`", walk)] == []


# links and files


def anchors(page):
    """Return the anchors of a page's headings."""
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@PAGE
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to {target}"


@PAGE
def test_files_exist(page):
    paths = re.findall(rf"(?<![\w/.\-])(?:{FOLDERS})/[\w./\-]*", text(page))
    assert [p for p in sorted(set(paths)) if not (ROOT / p.rstrip(".")).exists()] == []


def test_every_page_is_in_the_map():
    assert [page.name for page in PAGES[1:] if f"](docs/{page.name})" not in text(README)] == []


# commands


def commands(page):
    """Yield the command lines of gcmpi in code blocks, without launcher, as (command, words)."""
    for body in blocks(page, "", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            if re.search(r"\b(ASSIGNMENT|COMMAND)\b", line):
                continue  # a pattern to fill in
            found = re.match(
                r"(?:\$ )?(?:mpirun -n \d+ )?(?:gcmpi|python -m gcmpi)(?:[ .](\w+))?(?= |$)(.*)",
                line,
            )
            if found:
                yield found[1], shlex.split(found[2], comments=True)


@PAGE
def test_commands_parse(page, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir(exist_ok=True)  # a folder that a page tells to make
    monkeypatch.chdir(tmp_path)
    for command, words in commands(page):
        if command is None:
            assert words == []
            continue
        parsed = COMMANDS[command].parser().parse_args(words)
        if command == "train" and not (parsed.config or parsed.resume):
            with contextlib.suppress(NotFoundError):  # a module that a page tells to write
                options.read_experiment(parsed)


def test_commands_are_found():
    assert len(list(commands(README))) >= 2
    page = list(commands(DOCS / "codes-command.md"))
    assert {words[0] for command, words in page if command == "codes"} == set(
        command_line.SUBCOMMANDS
    )


def test_ci_finds_the_commands_of_the_readme():
    main, tests = re.findall(r"<!-- ([\w ]+) -->\n```\n(python3 .*)\n```\n", text(README))
    assert (main[0], tests[0]) == ("main job", "tests")
    assert main[1].endswith("mpirun -n 32 .venv/bin/python -m gcmpi.train")
    assert tests[1].endswith("&& .venv/bin/pytest")


# pages are complete


def test_every_flag_is_in_train_md():
    page = text(DOCS / "train.md")
    flags = set(re.findall(r"(?m)^  (?:-\w, )?(--[\w-]+)", options.parser().format_help()))
    assert len(flags) > 20
    assert [flag for flag in sorted(flags) if f"`{flag}" not in page] == []


@every("setting", list(registry.REGISTRIES))
def test_every_part_is_in_train_md(setting):
    page = text(DOCS / "train.md")
    shipped = [part.name for part in registry.REGISTRIES[setting] if not part.own]
    hidden = {"file"}  # typed as the path alone
    absent = [name for name in shipped if not re.search(rf"`{re.escape(name)}[:`]", page)]
    assert set(absent) <= hidden


def test_defaults_in_train_md_are_the_defaults():
    row = r"^\| `--([\w-]+)` \| `?([\w.:=-]+)`? \|"
    rows = dict(re.findall(row, text(DOCS / "train.md"), re.MULTILINE))
    assert rows.pop("relabel") == "off"
    assert len(rows) >= 18
    settings = {name.replace("-", "_"): value for name, value in rows.items()}
    assert gcmpi.Experiment.from_settings(settings) == gcmpi.Experiment()


def test_every_column_is_in_files_md(tmp_path):
    page = text(DOCS / "files.md")
    path = tmp_path / "run.h5"
    e = gcmpi.Experiment(
        assignment="cyclic:n=5,delta=3", encoding="harmonic", problem="softmax", iterations=2
    )
    gcmpi.simulate(e, output=path)
    with h5py.File(path) as file:
        words = [*file.attrs, *file["code"].attrs, *file["code"], *file["final"].attrs, *FIELDS]
        groups = [f"/{name}" for name in file]
    said = {w for w in (*groups, *words) if f"`{w}`" in page}
    scales = {"subset", "worker", "coded_row", "straggler_count"}
    assert {*groups, *words} - scales == said - scales
    rows = set(re.findall(r"^\| `(\w+)` \| (yes)? ?\|", page, re.MULTILINE))
    by_worker = {name for name, yes in rows if yes}
    assert by_worker == {name for name, field in FIELDS.items() if field.by_worker}


# what the pages show runs


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_own_code_of_the_readme_runs(tmp_path):
    (tmp_path / "mycodes.py").write_text(program(README, "mycodes.py"), encoding="utf-8")
    for command, words in commands(README):
        if "mycodes.gaussian:epsilon=0.3" not in words:
            continue
        few = ["--simulate", "--smoke"] if command == "train" else ["--draws", "3", "--sets", "9"]
        done = run(tmp_path, "-m", f"gcmpi.{command}", *words, *few)
        assert done.returncode == 0, done.stderr
        assert "mycodes.gaussian:epsilon=0.3" in done.stdout


def test_own_model_of_the_readme_runs(tmp_path):
    pytest.importorskip("torch", reason="the model of the README is a torch network")
    body = program(README, "mine.py").replace("iterations=50", "iterations=3")
    (tmp_path / "mine.py").write_text(body, encoding="utf-8")
    done = run(tmp_path, "mine.py")
    assert done.returncode == 0, done.stderr
    assert "VALID" in done.stdout
    assert (tmp_path / "mine.h5").exists()


def test_programs_of_the_codes_page_run():
    for body in blocks(DOCS / "codes-command.md", "python"):
        few = body.replace("range(9))", "range(2), sets=9, draws=2)")
        exec(compile(few, "codes-command.md", "exec"), {})


def test_picture_is_what_its_script_draws():
    assert idea.FILE.read_text(encoding="utf-8") == idea.picture()


def test_picture_shows_a_code_that_loses_nothing():
    code = gcmpi.Ensemble(f"cyclic:n={idea.N},delta={idea.HELD}", m=2, encoding="gaussian-exact")
    survivors = [i != idea.STRAGGLER for i in range(idea.N)]
    assert code.at(0).error(survivors) < 1e-9


# words


def test_readme_is_short():
    assert len(text(README).splitlines()) <= 150


@PAGE
def test_a_report_is_what_a_run_prints(page):
    prose = re.sub(r"```.*?```|`[^`]*`", "", text(page), flags=re.DOTALL)
    if page.stem in ("glossary", "train"):
        return
    assert re.findall(r".*\breport\w*\b.*", prose) == []
