"""Command line of ``python -m gcmpi.codes``.

Exit status: 0, or 2 for wrong usage with one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from gcmpi import environment

OK, USAGE = 0, 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage: wrong input gets one line."""
        raise ValueError(f"{message} (--help lists the options)")


def _natural(text: str) -> int:
    """Read a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 on, not {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = _Parser(
        prog="python -m gcmpi.codes",
        description="How much of the gradient is lost with a code when workers straggle: "
        "Err_S = min_R ||B_S R - F||_F^2, from 0 (exact) to m k (everything).",
        epilog="A part is name:key=value,key=value, e.g. coset:k=27,m=2,generators=0+1+3+9+20.",
        allow_abbrev=False,
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    command("list", "list assignments, encodings and decoders, with their options")
    show = command("show", "parameters, spectrum and bounds of a code")
    error = command("error", "error against the number of stragglers, between its bounds")
    worst = command("worst", "the worst straggler sets that a search finds")
    compare = command("compare", "mean errors of several codes side by side")
    stability = command(
        "stability", "condition, noise gain and decoding error of the exact codes, as n grows"
    )
    find = command("find", "the assignments for a number of workers, and the nearest")
    for sub in (show, error, worst):
        sub.add_argument("--assignment", metavar="PART", default="projective-plane:order=5")
        sub.add_argument("--encoding", metavar="PART", default="random-diagonal")
        sub.add_argument("--m", type=int, default=2, help="messages of d/m numbers")
    for sub in (show, error, worst, compare, stability):
        sub.add_argument("--seed", type=_natural, default=0, help="of encodings and straggler sets")
    error.add_argument(
        "--stragglers",
        metavar="S,S,..|MODEL",
        help="how many, e.g. 0,3,7 or 0-8, to n/4 by default; or a model of silent workers that "
        "the code is for, e.g. bernoulli:q=0.1,rates=1+1+5",
    )
    worst.add_argument(
        "--stragglers", metavar="S,S,..", help="how many, e.g. 0,3,7 or 0-8; to n/4 by default"
    )
    error.add_argument(
        "--probability",
        type=float,
        metavar="Q",
        help="each worker straggles with probability Q, instead of --stragglers",
    )
    for sub in (error, compare):
        sub.add_argument("--draws", type=int, default=100, help="encodings (default %(default)s)")
        sub.add_argument(
            "--sets", type=int, default=1000, help="sets for each draw (default %(default)s)"
        )
        sub.add_argument("--plot", metavar="FILE", help="draw the curves to FILE (.png, .svg, ..)")
    worst.add_argument(
        "--restarts", type=int, default=8, help="random sets to start from (default %(default)s)"
    )
    compare.add_argument(
        "--code",
        nargs=3,
        action="append",
        required=True,
        metavar=("ASSIGNMENT", "ENCODING", "M"),
        help="a code; give it several times",
    )
    stability.add_argument(
        "--workers", metavar="N,N,..", default="10,20,31,60,91", help="(default %(default)s)"
    )
    stability.add_argument(
        "--stragglers", type=_natural, default=2, metavar="S", help="(default %(default)s)"
    )
    stability.add_argument("--m", type=int, default=2, help="messages of d/m numbers, where it can")
    stability.add_argument(
        "--encoding", metavar="PART", action="append", help="an exact code; all by default"
    )
    stability.add_argument(
        "--sets", type=int, default=50, help="straggler sets of each code (default %(default)s)"
    )
    stability.add_argument(
        "--plot", metavar="FILE", help="draw the errors to FILE (.png, .svg, ..)"
    )
    for sub in (error, worst, compare, stability):
        sub.add_argument("--json", action="store_true", help="print a JSON list")
    find.add_argument("--workers", type=int, required=True, metavar="N")
    find.add_argument("--delta", type=int, help="subsets a worker holds; any by default")
    find.add_argument("--m", type=int, default=1, help="at least m workers for every subset")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    environment.one_blas_thread()  # the matrices are small, and there are many
    try:
        options = parser().parse_args(argv)
        from gcmpi.codes.commands import COMMANDS
        from gcmpi.codes.output import check_plot

        if getattr(options, "plot", None) is not None:
            check_plot(options.plot)
        COMMANDS[options.command](options)
        sys.stdout.flush()
    except ValueError as error:
        print(f"gcmpi.codes: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # as in "list | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


if __name__ == "__main__":
    sys.exit(main())
