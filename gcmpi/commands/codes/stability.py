"""``python -m gcmpi.codes stability``: the numerical truth about exact codes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import Array
from gcmpi.codes.code import Code
from gcmpi.codes.decoders import always, plain
from gcmpi.codes.errors import WIRES, Rounding, rounding
from gcmpi.commands.codes.arguments import Choice
from gcmpi.commands.codes.output import Progress, new_figure, print_json, save, table
from gcmpi.registry import ENCODINGS, Spec


@dataclass(frozen=True)
class Row:
    """A code, a decoder, and what rounding does to them."""

    choice: Choice
    decoder: str
    s: int
    found: Rounding


def stability(options: argparse.Namespace) -> None:
    """Print condition, noise gain and decoding error of exact codes for several n."""
    numbers = options.workers.split(",")
    if not all(item.isdecimal() and int(item) for item in numbers):
        raise ValueError(f"--workers needs counts such as 10,20,31, not {options.workers!r}")
    if options.sets < 1:
        raise ValueError(f"--sets must be at least 1, not {options.sets}")
    encodings = [ENCODINGS.parse(text) for text in options.encoding or exact_codes()]
    for spec in encodings:
        if not _promises(spec.name):
            raise ValueError(
                f"--encoding {spec} promises no exact decoding with stragglers; choose some of "
                + ", ".join(exact_codes())
            )
    rows: list[Row] = []
    progress = Progress("stability")
    for done, spec in enumerate(encodings):
        progress(done, len(encodings))
        found = [nearest(spec, int(n), options.stragglers, options.m) for n in numbers]
        if None in found and options.encoding:
            raise ValueError(
                f"no code {spec} for s={options.stragglers} and m={options.m} or 1 with about "
                f"{options.workers} workers"
            )
        for choice in filter(None, found):
            rows += _measure(choice, options.seed, options.sets)
    if options.plot:
        plot(options.plot, rows)
    if options.json:
        print_json(map(_object, rows))
    else:
        _print(options, rows)


def exact_codes() -> list[str]:
    """Return the names of the encodings that are exact for gamma - m stragglers, all or with t.

    Without those whose training takes a while: they have to be asked for.
    """
    return [p.name for p in ENCODINGS if _promises(p.name) and "steps" not in p.options]


def _promises(name: str) -> bool:
    """Say whether an encoding is exact for gamma - m stragglers, at least with that as its t."""
    part = ENCODINGS[name]
    return part.promises.tolerant or (part.promises.exact and "t" in part.options)


def nearest(encoding: Spec, n: int, s: int, m: int) -> Choice | None:
    """Return a code with about n workers that survives s stragglers or s + 1, with this m or m = 1.

    On cyclic repetition with n workers, else on fractional repetition with the nearest number. A
    code that is exact up to its own t gets the largest.
    """
    own = "t" in ENCODINGS[encoding.name].options and "t" not in encoding.options
    for parts in dict.fromkeys((m, 1)):
        for delta in (s + parts, s + 1 + parts):
            near = max(1, round(n / delta)) * delta
            for name, workers in (("cyclic", n), ("fractional-repetition", near)):
                assignment = f"{name}:n={workers},delta={delta}"
                options = {**encoding.options, **({"t": delta - parts} if own else {})}
                try:
                    return Choice.parse(assignment, str(Spec(encoding.name, options)), parts)
                except ValueError:
                    continue
    return None


def _measure(choice: Choice, seed: int, sets: int) -> Iterator[Row]:
    """Measure a code with least squares and with the decoder of its source."""
    code = Code(choice.A, choice.draw(seeds.generator(seed, seeds.CODE)), choice.m)
    t = choice.encoding.options.get("t")
    s = t if isinstance(t, int) else code.gamma - code.m
    own = ENCODINGS[choice.encoding.name].promises.decoder
    for name in dict.fromkeys(("least-squares", own)):
        rng = seeds.generator(seed, seeds.MONTE_CARLO)  # the same sets for both
        # least squares itself, without the shortcuts that `decoders.decoder` may choose
        yield Row(choice, name, s, rounding(code, always(plain(code, name)), s, rng, sets=sets))


def _print(options: argparse.Namespace, rows: Sequence[Row]) -> None:
    print(f"# exact codes over {options.sets} random straggler sets, seed {options.seed}")
    print("# condition of B_S; gain: relative error of g for a relative error of the messages;")
    print("# then relative error of g with messages of each type, median and worst set;")
    print("# inf: not exact in double precision, or a message was too large for its type")
    columns = [name for wire in WIRES for name in (wire, "worst")]
    headings = ("encoding", "decoder", "n", "s", "m", "delta", "condition", "gain", *columns)
    table(headings, map(_cells, rows))


def _cells(row: Row) -> tuple[str | int, ...]:
    code, found = row.choice, row.found
    values = [np.median(found.condition), np.median(found.gain)]
    values += [f(found.errors[wire]) for wire in WIRES for f in (np.median, np.max)]
    delta = int(code.A[:, 0].sum(dtype=np.intp))
    shown = [f"{value:.1e}" for value in values]
    return (str(code.encoding), row.decoder, code.n, row.s, code.m, delta, *shown)


def _object(row: Row) -> dict[str, object]:
    """Return a row for JSON; null stands for infinity."""

    def finite(values: Array) -> dict[str, float | None]:
        both = {"median": float(np.median(values)), "max": float(np.max(values))}
        return {key: value if np.isfinite(value) else None for key, value in both.items()}

    choice, found = row.choice, row.found
    return {
        "assignment": str(choice.assignment),
        "encoding": str(choice.encoding),
        "decoder": row.decoder,
        "n": choice.n,
        "s": row.s,
        "m": choice.m,
        "condition": finite(found.condition),
        "gain": finite(found.gain),
        **{wire: finite(found.errors[wire]) for wire in WIRES},
    }


def plot(path: str, rows: Sequence[Row]) -> None:
    """Draw the median error against n, one panel a message type; above 1 nothing is left.

    Raises
    ------
    ValueError
        If matplotlib is missing or the file cannot be written.
    """
    figure = new_figure(11.0, 4.5)
    panels = figure.subplots(1, len(WIRES), sharey=True)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        own = "" if row.decoder == "least-squares" else f", {row.decoder}"
        lines.setdefault(f"{row.choice.encoding}{own} (m={row.choice.m})", []).append(row)
    for axes, wire in zip(panels, WIRES, strict=True):
        for number, (label, found) in enumerate(lines.items()):
            n = [row.choice.n for row in found]
            median = np.array([np.median(row.found.errors[wire]) for row in found])
            style = ("-", "--", ":")[number // 10 % 3]
            axes.plot(n, np.clip(median, 1e-16, 1e2), f"o{style}", ms=3, label=label)
        axes.axhline(1.0, color="black", lw=0.8)
        axes.set_yscale("log")
        axes.set_title(f"{wire} messages", fontsize="medium")
        axes.set_xlabel("workers $n$")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("relative error of the decoded gradient (cut at 100)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", fontsize="small")
    save(figure, path)
