"""Command line of ``gcmpi codes``.

Exit status: 0, or 2 for wrong usage with one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from fractions import Fraction

from gcmpi import environment
from gcmpi.commands import parsing

OK, USAGE = 0, 2
EXITS = ((OK, "done"), (USAGE, "wrong usage: one sentence says what is wrong"))
NOTES = """\
A PART is name:key=value,key=value, e.g. coset:k=27,m=2,generators=0+1+3+9+20. A name with a dot
is your own: --encoding mycodes.gaussian calls the function gaussian of mycodes.py."""
PLANE = "--assignment projective-plane:order=5"
Subcommand = tuple[str, tuple[tuple[str, str], ...]]
SUBCOMMANDS: dict[str, Subcommand] = {
    "list": (
        "list assignments, encodings and decoders, with their options",
        (("{prog}", "all of them"),),
    ),
    "show": (
        "parameters, spectrum and bounds of a code",
        ((f"{{prog}} {PLANE} --encoding random-diagonal --m 2", "one code"),),
    ),
    "error": (
        "error against the number of stragglers, between its bounds",
        (
            ("{prog} --encoding harmonic --stragglers 0-8", "for 0 to 8 stragglers"),
            ("{prog} --draws 1 --stragglers markov:q=0.1,delay=inf", "under a straggler model"),
        ),
    ),
    "worst": (
        "the worst straggler sets that a search finds",
        (("{prog} --encoding random-hadamard --stragglers 5", "five stragglers"),),
    ),
    "compare": (
        "mean errors of several codes side by side",
        (
            (
                "{prog} --code petersen stacked 1 --code petersen random-diagonal 1",
                "two codes on one graph",
            ),
        ),
    ),
    "stability": (
        "condition, noise gain and decoding error of the exact codes, as n grows",
        (("{prog} --workers 10,31 --plot figure.png", "numbers and a figure"),),
    ),
    "find": (
        "the assignments for a number of workers, and the nearest",
        (("{prog} --workers 31 --m 2", "what exists for 31 workers"),),
    ),
    "recommend": (
        "measure all codes for a number of workers and a load, and rank them",
        (
            ("{prog} --workers 31 --m 2 --load 0.2", "at most a fifth of the data on a worker"),
            ("{prog} --workers 20 --load 1/4 --hosts 5", "five hosts, one of which is late"),
        ),
    ),
}


def _natural(text: str) -> int:
    """Read a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 on, not {text!r}")
    return int(text)


def parser() -> parsing.Parser:
    """Return the command line."""
    p = parsing.Parser(
        prog=parsing.prog("codes"),
        summary="Look at codes without running anything.",
        about="How much of the gradient is lost with a code when workers straggle:\n"
        "Err_S = min_R ||B_S R - F||_F^2, from 0 (exact) to m k (everything).",
        notes=NOTES,
        examples=(
            ("{prog} list", "what there is"),
            ("{prog} error --help", "the options of one command"),
        ),
        exits=EXITS,
        usage="%(prog)s COMMAND [OPTIONS]",
    )
    parsing.add_traceback(p)
    commands = p.add_subparsers(
        dest="command",
        required=True,
        metavar="COMMAND",
        title="commands",
        prog=p.prog,
    )
    subs = {
        name: commands.add_parser(
            name,
            help=text,
            summary=text[0].upper() + text[1:] + ".",
            examples=examples,
            exits=EXITS,
            usage="%(prog)s [OPTIONS]",
        )
        for name, (text, examples) in SUBCOMMANDS.items()
    }
    for name in ("show", "error", "worst"):
        _add_code(subs[name])
    _add_compared(subs["compare"])
    _add_exact(subs["stability"])
    _add_wanted(subs["find"])
    _add_wish(subs["recommend"])
    _add_stragglers(subs["error"], subs["worst"])
    _add_sample(subs)
    _add_output(subs)
    return p


def _add_code(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("the code").add_argument
    add(
        "--assignment",
        metavar="PART",
        default="projective-plane:order=5",
        help="which worker holds which subsets (default: %(default)s)",
    )
    add(
        "--encoding",
        metavar="PART",
        default="random-diagonal",
        help="what workers send (default: %(default)s)",
    )
    add("--m", type=int, default=2, metavar="M", help="messages of d/m numbers (default: 2)")


def _add_compared(sub: argparse.ArgumentParser) -> None:
    sub.add_argument_group("the codes").add_argument(
        "--code",
        nargs=3,
        action="append",
        required=True,
        metavar=("ASSIGNMENT", "ENCODING", "M"),
        help="a code; give it several times",
    )


def _add_exact(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("the codes").add_argument
    add("--encoding", metavar="PART", action="append", help="an exact code; all by default")
    add("--m", type=int, default=2, metavar="M", help="messages of d/m numbers, where it can")
    add(
        "--workers",
        metavar="N,N,..",
        default="10,20,31,60,91",
        help="how many workers (default: %(default)s)",
    )
    add(
        "--stragglers",
        type=_natural,
        default=2,
        metavar="S",
        help="how many stragglers (default: %(default)s)",
    )


def _add_wanted(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("the assignment").add_argument
    add("--workers", type=int, required=True, metavar="N", help="how many workers")
    add("--delta", type=int, metavar="DELTA", help="subsets a worker holds; any by default")
    add("--m", type=int, default=1, metavar="M", help="at least m workers for every subset")


def _add_wish(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument_group("what is wanted").add_argument
    add("--workers", type=int, required=True, metavar="N", help="how many workers")
    add("--m", type=int, default=2, metavar="M", help="messages of d/m numbers (default: 2)")
    add(
        "--load",
        type=_fraction,
        required=True,
        metavar="L",
        help="at most this part of the data on a worker, as 0.25 or 1/4",
    )
    add(
        "--stragglers",
        metavar="S|MODEL",
        help="how many, a quarter of the workers by default; or a model of silent workers, e.g. "
        "bernoulli:q=0.1",
    )
    add(
        "--hosts",
        type=int,
        metavar="H",
        help="the workers are on so many hosts, and S whole hosts are late, one by default",
    )
    add(
        "--against",
        choices=("mean", "worst"),
        default="mean",
        help="rank by the mean error or by the worst one found (default: %(default)s)",
    )
    add = sub.add_argument_group("what is measured").add_argument
    add("--assignment", metavar="PART", action="append", default=[], help="only this; repeatable")
    add("--encoding", metavar="PART", action="append", default=[], help="only this; repeatable")
    add("--train", action="store_true", help="train the encodings that have to be trained")


def _fraction(text: str) -> Fraction:
    """Read a part of the data: 0.25 or 1/4."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        message = f"must be a part of the data such as 0.25 or 1/4, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _add_stragglers(error: argparse.ArgumentParser, worst: argparse.ArgumentParser) -> None:
    group = error.add_argument_group("stragglers")
    group.add_argument(
        "--stragglers",
        metavar="S,S,..|MODEL",
        help="how many, e.g. 0,3,7 or 0-8, to n/4 by default; or a model of silent workers that "
        "the code is for, e.g. bernoulli:q=0.1,rates=1+1+5",
    )
    group.add_argument(
        "--probability",
        type=float,
        metavar="Q",
        help="each worker straggles with probability Q, instead of --stragglers",
    )
    worst.add_argument_group("stragglers").add_argument(
        "--stragglers", metavar="S,S,..", help="how many, e.g. 0,3,7 or 0-8; to n/4 by default"
    )


def _add_sample(subs: dict[str, parsing.Parser]) -> None:
    groups = {
        name: subs[name].add_argument_group("the sample")
        for name in ("show", "error", "worst", "compare", "stability", "recommend")
    }
    for name in ("error", "compare"):
        groups[name].add_argument(
            "--draws", type=int, default=100, metavar="D", help="encodings (default: %(default)s)"
        )
    for name, sets in (("error", 1000), ("compare", 1000), ("stability", 50)):
        groups[name].add_argument(
            "--sets",
            type=int,
            default=sets,
            metavar="N",
            help="straggler sets of each code or draw (default: %(default)s)",
        )
    groups["worst"].add_argument(
        "--restarts",
        type=int,
        default=8,
        metavar="N",
        help="random sets to start from (default: %(default)s)",
    )
    for group in groups.values():
        group.add_argument(
            "--seed",
            type=_natural,
            default=0,
            metavar="SEED",
            help="of encodings and straggler sets (default: %(default)s)",
        )


def _add_output(subs: dict[str, parsing.Parser]) -> None:
    for name, sub in subs.items():
        group = sub.add_argument_group("output")
        if name == "recommend":
            group.add_argument(
                "--rows",
                type=_natural,
                default=10,
                metavar="R",
                help="codes shown, and measured on all sets (default: %(default)s)",
            )
        if name in ("error", "worst", "compare", "stability", "recommend"):
            group.add_argument("--json", action="store_true", help="print a JSON list")
        if name in ("error", "compare", "stability"):
            group.add_argument("--plot", metavar="FILE", help="draw to FILE (.png, .svg, ..)")
        # what was given before the subcommand stays
        parsing.add_traceback(group, default=argparse.SUPPRESS)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    environment.one_blas_thread()  # the matrices are small, and there are many
    try:
        options = parser().parse_args(argv)
        if parsing.refuse_ranks(parsing.prog("codes")):
            return USAGE
        from gcmpi.commands.codes.commands import COMMANDS
        from gcmpi.commands.codes.output import check_plot

        if getattr(options, "plot", None) is not None:
            check_plot(options.plot)
        COMMANDS[options.command](options)
        sys.stdout.flush()
    except (ValueError, MemoryError) as error:
        parsing.complain(parsing.prog("codes"), error, parsing.TRACEBACK in argv)
        return USAGE
    except BrokenPipeError:  # as in "list | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK
