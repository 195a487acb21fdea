"""The command line of ``gcmpi train``: what a user may ask for, and what is refused."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gcmpi.commands import parsing
from gcmpi.sentences import words

if TYPE_CHECKING:
    from gcmpi.experiments.experiment import Experiment
    from gcmpi.experiments.recorder import Output
    from gcmpi.records import RunFile

WITHOUT_MPI = ("-h", "--help", "--print-config", "--simulate")
QUIET = ("-h", "--help", "--print-config")
"""With one of these there is nothing to start."""
EXITS = (
    (0, "the run is valid"),
    (1, "crash"),
    (2, "wrong usage: one sentence says what is wrong"),
    (3, "the result is invalid"),
    (75, "interrupted after a checkpoint: go on with --resume"),
)
EXAMPLES = (
    ("mpirun -n 32 {prog}", "the default experiment: one server, 31 workers"),
    (
        "mpirun -n 14 {prog} --assignment projective-plane:order=3 --encoding stacked",
        "another code",
    ),
    ("{prog} --simulate --smoke", "five iterations in one process, without MPI"),
    ("mpirun -n 32 {prog} --config runs/a.h5 --wire float16", "a run again, one thing changed"),
)
NOTES = """\
A PART is name:key=value,key=value, e.g. --encoding random-diagonal:epsilon=0.1. A name with a
dot is your own: --encoding mycodes.gaussian:epsilon=0.3 calls the function gaussian of
mycodes.py. {codes} list shows the codes with their options, and --print-config
the whole experiment with the default of every setting."""


def parser() -> parsing.Parser:
    """Return the command line."""
    p = parsing.Parser(
        prog=parsing.prog("train"),
        summary="Train with a gradient code over MPI.",
        about="Rank 0 is the parameter server, ranks 1 to n are workers.",
        notes=NOTES.format(codes=parsing.prog("codes")),
        examples=EXAMPLES,
        exits=EXITS,
        usage="%(prog)s [OPTIONS]",
    )
    _add_code(p.add_argument_group("the code"))
    _add_problem(p.add_argument_group("the problem"))
    _add_stragglers(p.add_argument_group("stragglers and waiting"))
    _add_messages(p.add_argument_group("messages"))
    _add_run(p.add_argument_group("the run"))
    _add_files(p.add_argument_group("files"))
    _add_questions(p.add_argument_group("questions"))
    return p


def _add_code(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--assignment", metavar="PART", help="which worker holds which subsets")
    add("--encoding", metavar="PART", help="what workers send")
    add("--m", metavar="M", help="communication reduction: messages of d/m numbers")
    add("--switch", metavar="PART", help="never, or observed:tolerance= to change m from 1 to M")
    add("--decoder", metavar="PART", help="auto (optimal), least-squares, ridge or a source's own")
    add(
        "--hosts",
        metavar="H",
        help="spread the holders of a subset over so many hosts, the run's hosts (auto), or by "
        "the workers' known probabilities to straggle (odds)",
    )
    add(
        "--relabel",
        action="store_const",
        const=True,
        help="swap roles in every iteration: unbiased codes on circulant assignments, "
        "for workers that are late equally often",
    )
    add("--parts", metavar="HOW", help="all, or in-turn: one of M parts a message, with --memory")
    add("--memory", metavar="ETA", help="0, or remember gradients: 1, less for mini-batches, auto")
    add("--rescale", metavar="HOW", help="alpha (divide by the mean shrinkage) or none")


def _add_problem(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--problem", metavar="PART", help="mlp, softmax, logistic or least-squares")
    add("--dataset", metavar="PART", help="mnist-10k, mixture, or a path: .npz, .h5, IDX, a folder")
    add("--dtype", metavar="TYPE", help="parameters and gradients: float32 or float64")
    add("--batch", metavar="B", help="rows of a subset a gradient takes: 0.1 (fraction), rows:32")
    add("--optimizer", metavar="PART", help="sgd, momentum, nesterov, adam or lbfgs, with rate=")


def _add_stragglers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--stragglers", metavar="PART", help="how late workers are, e.g. bernoulli:q=0.25")
    add(
        "--wait",
        metavar="PART",
        help="deadline:SECONDS, deadline:auto, fastest:COUNT, all, covered:COUNT or "
        "decodable:TOLERANCE",
    )
    add("--late", metavar="HOW", help="drop late answers, or remember them, with --memory")


def _add_messages(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--wire", metavar="TYPE", help="coded vectors: float16, bfloat16, float32 or float64")
    add("--compression", metavar="PART", help="none, rand-k:fraction= or top-k:fraction=")


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--iterations", metavar="T", help="how many")
    add("--seed", metavar="SEED", help="of data split, parameters, codes and stragglers")
    add("--audit-every", metavar="T", help="iterations between audits (untimed)")
    add("--target-accuracy", metavar="A", help="stop when an audit finds this test accuracy")
    add("--target-loss", metavar="L", help="stop when an audit finds this training loss")
    add(
        "--target-excess",
        metavar="E",
        help="stop at a training loss of (1 + E) times the smallest, which is found before the run "
        "(problems with l2=)",
    )
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="changes",
        help="any setting, or one option of a part: encoding.epsilon=0.1; may be repeated",
    )
    add("--smoke", action="store_true", help="five iterations only, to see that all works")
    add(
        "--simulate",
        action="store_true",
        help="no MPI: all workers in this process, on a virtual clock",
    )
    add(
        "--share",
        action="store_true",
        help="with --simulate: compute a subset's gradient once for all workers that hold it, the "
        "same up to rounding",
    )


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--config", metavar="FILE", help="a TOML experiment, or a run file (.h5) to run again")
    add("--output", metavar="FILE", help="run file to write; runs/... by default")
    add("--overwrite", action="store_true", help="replace an --output that exists")
    add("--resume", metavar="RUN", help="go on with an interrupted run, in its file")


def _add_questions(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--print-config", action="store_true", help="print the experiment as TOML and exit"
    )
    parsing.add_traceback(group)


def announce(argv: list[str]) -> None:
    """Say in one line that the run starts; nothing if no run follows or an option is wrong."""
    if any(word in QUIET for word in argv):
        return
    try:
        simulated = parser().parse_args(argv).simulate
    except ValueError:
        return  # whoever reads the options says what is wrong
    parsing.announce("simulating all workers in this process" if simulated else "")


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes
    ----------
    notes
        What the header should say of the user's own parts.
    share
        Whether workers on a virtual clock share gradients.
    """

    experiment: Experiment
    output: Output
    earlier: RunFile | None
    notes: tuple[str, ...] = ()
    share: bool = False


def read_experiment(options: argparse.Namespace) -> Experiment:
    """Return the experiment: defaults, then --config, then flags, then --set.

    An option whose name is that of a setting is its flag.

    Raises
    ------
    ValueError
        If a file cannot be read or a setting is wrong.
    """
    from gcmpi import records as recording
    from gcmpi.experiments.experiment import Experiment

    experiment, run = Experiment(), None
    source = options.config or options.resume
    if source and Path(source).suffix == ".toml":
        try:
            text = Path(source).read_text(encoding="utf-8")
            experiment = Experiment.from_toml(text)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot use --config {source}: {words(error, source)}") from error
    elif source:
        run = recording.read(Path(source))
        experiment = _of_run(run)
    given = {s.name: getattr(options, s.name, None) for s in dataclasses.fields(Experiment)}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for item in options.changes:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set needs key=value, not {item!r}")
        changes[key] = value
    if options.resume and set(changes) - {"iterations"}:
        raise ValueError("--resume goes on with the same experiment: only --iterations may change")
    placement = run.placement if run and options.config else None
    if placement is not None and not {"assignment", "hosts"} & changes.keys():
        changes["hosts"] = "+".join(map(str, placement))
    experiment = experiment.change(changes)
    smoke = {"iterations": 5, "audit_every": 2, "warmup": 1}
    return experiment.change(smoke) if options.smoke else experiment


def _of_run(run: RunFile) -> Experiment:
    """Return the experiment of a run file, if the user's own parts can be found from here."""
    from gcmpi.experiments.experiment import Experiment
    from gcmpi.registry import NotFoundError

    try:
        return Experiment.from_toml(run.experiment)
    except NotFoundError as error:
        files = {source.file for source in run.own.values() if source.file}
        where = "".join(f"; the run had it from {file}" for file in sorted(files)[:1])
        again = f"; the run was started with: {run.command}" if run.command else ""
        raise ValueError(f"{error}{where}{again}") from error


def _notes(source: str | None, experiment: Experiment) -> tuple[str, ...]:
    """Say which own parts have changed since the run whose file is used."""
    from gcmpi import records as recording

    if not source or Path(source).suffix == ".toml" or not experiment.own:
        return ()
    return tuple(recording.read(Path(source)).changed(experiment.own))


def read_request(argv: list[str]) -> Request:
    """Return what the command line asks for, checked as far as one can without building it.

    Raises
    ------
    ValueError
        If it cannot be done; the message is one sentence for the user.
    """
    from gcmpi import records as recording
    from gcmpi.experiments.recorder import Output

    options = parser().parse_args(argv)
    empty = [name for name in ("config", "output", "resume") if getattr(options, name) == ""]
    if empty:
        raise ValueError(f"--{empty[0]} needs the name of a file, not an empty text")
    if options.resume and (options.output or options.config):
        raise ValueError("--resume RUN goes on in RUN: leave out --output and --config")
    if options.share and not options.simulate:
        raise ValueError("--share is for workers in one process: give --simulate too")
    experiment = read_experiment(options)
    notes = _notes(options.config or options.resume, experiment)
    if options.resume:
        path = Path(options.resume)
        earlier = recording.read(path)
        if earlier.simulated != options.simulate:
            clock, flag = ("virtual", "with") if earlier.simulated else ("real", "without")
            raise ValueError(
                f"{path} has {clock} seconds: go on {flag} --simulate, or its times mix two clocks"
            )
        done = earlier.state.t
        if done >= experiment.iterations or (
            earlier.status == "complete" and not options.iterations
        ):
            raise ValueError(
                f"{path} is complete after {done} iterations: to go on, give --iterations "
                f"above {done}"
            )
        return Request(experiment, Output(path, "replace"), earlier, notes)
    taken: Literal["refuse", "replace", "rename"]
    if options.output:
        path, taken = Path(options.output), "replace" if options.overwrite else "refuse"
    else:
        name = f"{experiment.label}-{experiment.digest}-s{experiment.seed}.h5"
        path, taken = recording.free(Path("runs") / name), "rename"
    try:
        if path.exists() and not options.overwrite:
            raise ValueError(
                f"--output {path} exists: give another name, or --overwrite to replace it"
            )
        _probe(path)
    except OSError as error:
        raise ValueError(f"cannot write --output {path}: {words(error, path)}") from error
    return Request(experiment, Output(path, taken), None, notes, options.share)


def _probe(path: Path) -> None:
    """Find out before the run whether its file can be written."""
    from gcmpi import records as recording

    if path.is_dir():
        raise IsADirectoryError("it is a directory")
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recording.probe(path)
    finally:
        for folder in made:  # innermost first; the run makes them again when it writes
            if folder.exists():
                folder.rmdir()
