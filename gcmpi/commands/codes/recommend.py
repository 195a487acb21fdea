"""``python -m gcmpi.codes recommend``: which code to take, and the command that trains with it."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict, fields

from gcmpi.codes import recommendation
from gcmpi.codes.candidates import check
from gcmpi.codes.encodings.frames import most_stragglers
from gcmpi.codes.placement import consecutive
from gcmpi.codes.recommendation import Row, StragglerSets
from gcmpi.commands.codes import arguments
from gcmpi.commands.codes.output import Progress, print_json, table
from gcmpi.registry import Spec, Wanted

TIES = """\
# Codes whose errors tie are ordered by plain gradients, then worst found (or mean error), load,
# build seconds in tenths, noise gain, name. Means tie that differ by at most two standard errors of
# their difference."""


def recommend(options: argparse.Namespace) -> None:
    """Print the codes that fit, best first, why the first is first, and how to train with it."""
    n, m, load = options.workers, options.m, options.load
    if n < 1:
        raise ValueError(f"--workers must be at least 1, not {n}")
    check(Wanted(n, load=load, m=m))
    model = arguments.straggler_model(options.stragglers)
    sets, late = _late(options, model)
    found = recommendation.recommend(
        Wanted(n, load=load, m=m, s=sets.s),
        sets,
        against=options.against,
        assignments=options.assignment,
        encodings=options.encoding,
        train=options.train,
        shown=options.rows,
        progress=Progress("codes"),
    )
    if options.json:
        print_json(asdict(row) for row in found.rows)
        return
    print(f"# n={n} workers, m={m}, load at most {load}; {late}; seed {options.seed}")
    print(f"# Best first by the {options.against} error, a share of the gradient: Err_S / (m k).")
    print(TIES)
    table([_words(field.name) for field in fields(Row)], map(_cells, found.rows[: options.rows]))
    if left := len(found.rows) - options.rows:
        print(f"# and {left} more: --rows, or --json for all")
    for one in found.untrained:
        count = len(one.assignments)
        print(
            f"# not measured: {one.encoding} on {count} assignment{'s' if count > 1 else ''}, "
            f"to be trained in about {one.seconds:.0f} s with --train"
        )
    print(f"\n{found.why}\n")
    print(shlex.join(_command(options, model, found.rows[0])))


def _late(options: argparse.Namespace, model: Spec | None) -> tuple[StragglerSets, str]:
    """Return the straggler sets, and what they are in words."""
    n, seed, text = options.workers, options.seed, options.stragglers
    if model is not None and options.hosts is not None:
        raise ValueError(
            f"--hosts makes whole hosts late: give --stragglers how many of them, not {model}"
        )
    if model is not None:
        answers = arguments.survivors(model, n, recommendation.SETS, seed)
        found = StragglerSets.given(answers, odds=arguments.odds(model, n))
        return found, f"{model}, {found.s} stragglers in the mean"
    if text is not None and not text.isdecimal():
        raise ValueError(
            "--stragglers needs a number such as 5, or a model of silent workers such as "
            f"bernoulli:q=0.25, not {text!r}"
        )
    if options.hosts is not None:
        count = 1 if text is None else int(text)
        found = StragglerSets.of_hosts(consecutive(n, options.hosts), count, seed)
        return found, f"{count} of {options.hosts} hosts late, up to {found.s} workers"
    count = most_stragglers(n, None, "recommend") if text is None else int(text)
    found = StragglerSets.uniform(n, count, seed)
    return found, f"{count} stragglers, {'all sets' if found.every else 'random sets'}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cells(row: Row) -> list[str | int | float]:
    """Return a row's cells: three digits say enough of what was measured."""
    values = asdict(row) | {"build_seconds": round(row.build_seconds, 2)}
    return [float(f"{x:.3g}") if isinstance(x, float) else x for x in values.values()]


def _command(options: argparse.Namespace, model: Spec | None, best: Row) -> list[str]:
    """Return the command that trains with a code."""
    words = ["mpirun", "-n", str(options.workers + 1), "python", "-m", "gcmpi.train"]
    words += ["--assignment", best.assignment, "--encoding", best.encoding]
    words += ["--m", str(options.m), "--memory", "auto"]
    words += ["--stragglers", str(model)] if model is not None else []
    return words + (["--hosts", str(options.hosts)] if options.hosts is not None else [])
