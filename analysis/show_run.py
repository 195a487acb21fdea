"""Draw a run: what it learned, how wrong its gradients were, who answered when, where time went.

    python analysis/show_run.py RUN [RUN ...] [--output FILE]        (from the root; 3 s a run)

RUN is a run file of gcmpi.train. The figure goes to figures/<name of the run>.png, or to FILE, PNG
or SVG by its extension. Exit status 2 if a run cannot be read or FILE not be written.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

if not __package__:  # run as a script: the package is in the directory above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis import panels
from analysis.load import load

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
}
# a dollar in a command is no mathematics
TEXT: dict[str, Any] = {"x": 0.008, "ha": "left", "parse_math": False}
FORMATS = (".png", ".svg")


def draw(run: xr.Dataset, path: str) -> Figure:
    """Return the figure of a run.

    Parameters
    ----------
    run
        What `analysis.load.load` returns.
    path
        Where it comes from, for the line that says how to run it again.

    Raises
    ------
    ValueError
        If the run has no iteration.
    """
    if run.sizes["iteration"] == 0:
        raise ValueError(f"{path} ended before its first iteration: there is nothing to draw")
    figure = Figure(
        figsize=(12, 11), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, hspace=0.03)
    )
    rows = figure.add_gridspec(4, 1, height_ratios=[4.4, 4.4, 2.6, 0.55])
    top, middle, bottom, foot = (figure.add_subfigure(rows[i]) for i in range(4))
    figure.suptitle(_title(run), fontsize=13, weight="bold", **TEXT)
    top.suptitle(_subtitle(run), fontsize=9, color="#333333", **TEXT)
    columns = top.add_gridspec(1, 2, width_ratios=[2, 1.1])
    panels.curves(run, top.add_subfigure(columns[0]).subplots(2, 2, sharex="col", sharey="row"))
    panels.error_against_error(run, top.add_subfigure(columns[1]).subplots())
    upper, lower = middle.subplots(2, 1, sharex=True, height_ratios=[1, 2.2])
    panels.errors(run, upper)
    panels.arrivals(run, lower)
    left, right = bottom.subplots(1, 2, width_ratios=[1.15, 1])
    panels.iteration_times(run, left)
    panels.worker_times(run, right)
    words = _footer(run, path)
    foot.text(y=0.5, s=words, va="center", fontsize=7.5, color="#333333", **TEXT)
    return figure


def save(path: str, output: Path) -> None:
    """Draw the run in the file `path` to the file `output`, PNG or SVG by its extension.

    Raises
    ------
    ValueError
        If there is no run with an iteration in `path`, or `output` cannot be written.
    """
    run = load(path)
    # matplotlib reads some of the style only when it writes
    with mpl.rc_context(STYLE):
        figure = draw(run, path)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(output, dpi=150)
        except OSError as error:
            raise ValueError(f"cannot write {output}: {error.strerror or error}") from error


def _title(run: xr.Dataset) -> str:
    a = run.attrs
    m = " or ".join(map(str, np.unique(run["m"].values)))
    return textwrap.fill(f"{a['encoding']} on {a['assignment']}, m = {m}", 90)


def _subtitle(run: xr.Dataset) -> str:
    """Return what was run and how it ended, one thought a line."""
    a = run.attrs
    loads = run["A"].sum("subset", dtype=int)
    replication = run["A"].sum("worker", dtype=int)
    seconds = run["seconds"].values[-1:].sum()
    end = f"{a['status']}, {'valid' if a['valid'] else 'INVALID'}"
    lines = (
        f"{_count(run, 'worker')}, {_count(run, 'subset')}, load {int(loads.max())}, "
        f"replication {int(replication.min())}; {a['problem']} on {a['dataset']}, "
        f"{a['optimizer']}, {a['dtype']}, seed {a['seed']}",
        f"stragglers {a['stragglers']}; wait {a['wait']}; messages {a['wire']}",
        f"{_count(run, 'iteration')} in {seconds:.4g} s of training; {end}; {_machine(run)}",
    )
    return "\n".join(textwrap.fill(line, 160) for line in lines)


def _count(run: xr.Dataset, dimension: str) -> str:
    count = run.sizes[dimension]
    return f"{count} {dimension}{'s' * (count > 1)}"


def _machine(run: xr.Dataset) -> str:
    a = run.attrs
    if a["mpi_library"] == "simulated":
        return "simulated, on a virtual clock"
    library = " ".join(a["mpi_library"].split()).partition(",")[0].replace(" Version:", "")
    hosts = a["hosts"].count(",") + 1
    return f"{a['ranks']} ranks on {hosts} host{'s' * (hosts > 1)} ({a['cores']} cores), {library}"


def _footer(run: xr.Dataset, path: str) -> str:
    a = run.attrs
    simulated = a["mpi_library"] == "simulated"
    launcher, option = ("", " --simulate") if simulated else (f"mpirun -n {a['ranks']} ", "")
    commit = a.get("git_commit", "")[:12] or "unknown"
    changes = " with changes" if a.get("git_dirty") == "yes" else ""
    command = textwrap.shorten(a["command"], 180, placeholder=" ...")
    again = f"{launcher}python -m gcmpi.train{option} --config {path}"
    if not re.search(r"\bgcmpi[. ](train|sweep)\b", a["command"]):  # a program of the user's own
        again = command
    return (
        f"Run this again:  {again}\n"
        f"It was run as:  {command}\n"
        f"Recorded {a['created']}, experiment {a['hash']}, gcmpi {a['gcmpi_version']}, "
        f"git {commit}{changes}"
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage: one line says what is wrong."""
        raise ValueError(f"{message} (--help says more)")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _Parser(
        prog="show_run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run file of gcmpi.train")
    parser.add_argument("--output", metavar="FILE", help="figures/<name of the run>.png by default")
    try:
        options = parser.parse_args(argv)
        for path, output in zip(options.runs, _outputs(options.runs, options.output), strict=True):
            save(path, output)
            print(output)
    except ValueError as error:
        print(f"show_run.py: {error}", file=sys.stderr)
        return 2
    return 0


def _outputs(runs: list[str], output: str | None) -> list[Path]:
    """Return where the figures go; refuse two in one place and formats that are not offered."""
    if output is None:
        paths = [Path("figures") / f"{Path(run).stem}.png" for run in runs]
        if len(set(paths)) < len(paths):
            raise ValueError("two runs have the same name: draw them one by one with --output")
        return paths
    if len(runs) > 1:
        raise ValueError(f"--output takes the figure of one run, but there are {len(runs)}")
    if Path(output).suffix not in FORMATS:
        raise ValueError(f"--output must end in {' or '.join(FORMATS)}, not {output}")
    return [Path(output)]


if __name__ == "__main__":
    sys.exit(main())
