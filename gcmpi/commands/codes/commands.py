"""The commands: each prints what the options ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import Array
from gcmpi.codes import assignments, bounds, errors, theorems
from gcmpi.codes.assignments import catalogue
from gcmpi.codes.code import Code
from gcmpi.codes.decoders.least_squares import noise_gain
from gcmpi.commands.codes.arguments import Choice
from gcmpi.commands.codes.output import Progress, curve_objects, plot, print_json, statistics, table
from gcmpi.commands.codes.recommend import recommend
from gcmpi.commands.codes.stability import stability
from gcmpi.registry import ASSIGNMENTS, DECODERS, ENCODINGS

FRACTIONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
ODDS = 0.2
"""The probability to straggle for which `show` says how much memory renews."""
LARGEST = 1 << 28
"""Errors kept for the quantiles at most: 2 GiB."""


def list_parts(options: argparse.Namespace) -> None:  # noqa: ARG001
    """List the registered assignments, encodings and decoders."""
    for registry in (ASSIGNMENTS, ENCODINGS, DECODERS):
        print(f"# {registry.kind}s")
        width = max(len(part.name) for part in registry)
        for part in registry:
            print(f"  {part.name:<{width}}  {part.summary}")
            if part.options:
                print(f"  {'':<{width}}    {part.usage}")


def show(options: argparse.Namespace) -> None:
    """Show parameters, spectrum and bounds of a code."""
    choice = _choice(options)
    A, m = choice.A, choice.m
    B = choice.draw(seeds.generator(options.seed, seeds.CODE))
    code = Code(A, B, m)
    everybody = np.ones(choice.n, dtype=np.bool_)
    promises = ENCODINGS[choice.encoding.name].promises
    transitive = ASSIGNMENTS[choice.assignment.name].promises.vertex_transitive
    made = "redrawn in every iteration" if promises.redrawn else "the same in all iterations"
    if promises.partial:
        made = "made of what workers have finished; here: everything"
    every_set = theorems.holds_for_every_set(promises, B, m)
    reach = f"s = {code.gamma - m}, any stragglers"
    sigma = np.linalg.svd(B, compute_uv=False)
    rank = int(np.linalg.matrix_rank(B))
    facts = {
        "code": choice.name,
        "assignment": str(assignments.parameters(A)),
        "workers n": choice.n,
        "subsets k": choice.k,
        "load delta": code.delta,
        "replication gamma": code.gamma,
        "vertex-transitive": "yes" if transitive else "not known",
        "eigenvalues of A'A": _spectrum(A.T.astype(np.float64) @ A),
        "rank of A": int(np.linalg.matrix_rank(A.astype(np.float64))),
        "B is": made,
        "rank of B": f"{rank} of at most {min(B.shape)} (seed {options.seed})",
        "condition of B": f"{sigma[0] / sigma[rank - 1]:.3g} (without its null space)",
        "exact up to": reach if promises.tolerant or every_set else "no promise",
        "decoder of its source": promises.decoder,
        "Err, no stragglers": f"{code.error(everybody):.6g} of m k = {choice.total}",
        "noise gain": f"{noise_gain(code, code.decode(everybody)):.3g} (relative error of g for a "
        "relative error of the messages)",
        "p, for --memory": _renewal(choice),
    }
    for name, value in facts.items():
        print(f"{name:<{max(map(len, facts))}}  {value}")
    theorem = theorems.closed_form(A, m, choice.encoding)
    print("\n# bounds: for the mean of Err_S over S, below for any encoding, above ", end="")
    name = theorem.name if theorem else theorems.cited(choice.encoding) or "no closed form"
    if every_set:  # what no code can avoid is what this one loses
        theorem = theorems.Bound(theorems.EVERY_SET.name, lambda s: bounds.holder_bound(A, m, s))
        name = theorem.name
    print(f"by {name}", end="; for the worst S\n")
    rows = [
        (
            s,
            f"{s / choice.n:.3f}",
            bounds.holder_bound(A, m, s),
            theorem.bound(s) if theorem else None,
            bounds.claim_1(A, m, s),
        )
        for s in choice.counts(None)
    ]
    table(("s", "s/n", "mean at least", "mean at most", "worst at least"), rows)


def _renewal(choice: Choice) -> str:
    """Say what p of the theorem about memory is."""
    if choice.partial:
        return "not measured for codes of what workers have finished"
    p = errors.renewal(choice, ODDS, sets=1000 if choice.total <= 100 else 300)
    return f"{p:.3g} with q = {ODDS:g} (what an iteration renews of the memory at least)"


def error(options: argparse.Namespace) -> None:
    """Print the error for each number of stragglers, between its bounds."""
    choice = _fixed_before(_choice(options, options.stragglers))
    if options.probability is not None:
        _error_bernoulli(options, choice)
        return
    if choice.model is not None:
        _error_model(options, choice)
        return
    curve = _curve(options, choice, choice.counts(options.stragglers))
    if options.plot:
        plot(options.plot, [(choice, curve)])
    if options.json:
        print_json(curve_objects(curve))
        return
    _print_setting(options, choice, "all where there are fewer")
    print(f"# bound: {curve.theorem or 'no theorem covers this code'}")
    rows = [
        (p.s, *_columns(p.error), p.bound.mean if p.bound else None, p.lower_bound)
        for p in curve.points
    ]
    table(("s", "mean", "+-", "median", "P90", "P99", "max", "bound", "lower bound"), rows)


def _error_bernoulli(options: argparse.Namespace, choice: Choice) -> None:
    q = options.probability
    if options.stragglers is not None or options.plot:
        raise ValueError("--probability goes with neither --stragglers nor --plot")
    if not 0 <= q <= 1:
        raise ValueError(f"--probability must be between 0 and 1, not {q}")
    _check_size(options, 1)
    found = errors.sample_bernoulli(
        choice.draw,
        choice.m,
        q,
        seeds.generator(options.seed, seeds.MONTE_CARLO),
        draws=options.draws,
        sets=options.sets,
        progress=Progress(choice.name),
    )
    lower = bounds.independent_holder_bound(choice.A, choice.m, np.full(choice.n, q))
    if options.json:
        print_json([{"q": q, **statistics(found), "bound": None, "lower_bound": lower}])
        return
    _print_setting(options, choice, "each worker straggling with probability q")
    headings = ("q", "mean", "+-", "median", "P90", "P99", "max", "lower bound")
    table(headings, [(q, *_columns(found), lower)])


def _error_model(options: argparse.Namespace, choice: Choice) -> None:
    if options.plot:
        raise ValueError("--plot draws errors over numbers of stragglers, not for a model of them")
    _check_size(options, 1)
    found, lower, mean = _under_model(options, choice)
    model = str(choice.model)
    if options.json:
        print_json([{"stragglers": model, "s": mean, **statistics(found), "lower_bound": lower}])
        return
    _print_setting(options, choice, f"{model}, the same for each draw")
    headings = ("mean s", "mean", "+-", "median", "P90", "P99", "max", "lower bound")
    table(headings, [(mean, *_columns(found), lower)])


def _under_model(
    options: argparse.Namespace, choice: Choice
) -> tuple[errors.Summary, float | None, float]:
    """Return the errors under a straggler model, a lower bound and the mean number of them.

    The standard error compares batches of iterations, for those of ``markov`` are not independent.
    """
    survivors = choice.survivors(options.sets, options.seed)
    found = errors.sample_given(
        choice.draw,
        choice.m,
        survivors,
        seeds.generator(options.seed, seeds.MONTE_CARLO),
        draws=options.draws,
        progress=Progress(choice.name),
    )
    lower = None
    if choice.odds is not None:
        lower = bounds.independent_holder_bound(choice.A, choice.m, choice.odds)
    return found, lower, float(np.sum(~survivors, axis=1).mean())


def worst(options: argparse.Namespace) -> None:
    """Print the worst straggler sets that a search finds."""
    choice = _fixed_before(_choice(options))
    if options.restarts < 0:
        raise ValueError(f"--restarts must be at least 0, not {options.restarts}")
    B = choice.draw(seeds.generator(options.seed, seeds.CODE))
    counts, progress, found = choice.counts(options.stragglers), Progress(choice.name), []
    for done, s in enumerate(counts, 1):
        rng = seeds.generator(options.seed, seeds.MONTE_CARLO, s)
        stragglers, value = errors.worst_set(choice.A, B, choice.m, s, rng, options.restarts)
        claim = bounds.claim_1(choice.A, choice.m, s)
        found.append({"s": s, "error": value, "claim_1": claim, "stragglers": stragglers.tolist()})
        progress(done, len(counts))
    if options.json:
        print_json(found)
        return
    print(f"# {choice.name}: largest Err_S found, of m k = {choice.total}; seed {options.seed}")
    rows = [
        (x["s"], x["error"], x["claim_1"], f"  {' '.join(map(str, x['stragglers'])) or '-'}")
        for x in found
    ]
    table(("s", "Err_S", "at least (Claim 1)", "  stragglers"), rows)


def compare(options: argparse.Namespace) -> None:
    """Print the mean errors of several codes side by side."""
    if any(not m.isdecimal() for _, _, m in options.code):
        raise ValueError("--code needs ASSIGNMENT ENCODING M, with M a whole number")
    choices = [
        _fixed_before(Choice.parse(first, second, int(m))) for first, second, m in options.code
    ]
    curves = [
        _curve(options, choice, [round(share * choice.n) for share in FRACTIONS])
        for choice in choices
    ]
    pairs = [*zip(choices, curves, strict=True)]
    if options.plot:
        plot(options.plot, pairs)
    if options.json:
        print_json(
            {
                "assignment": str(choice.assignment),
                "encoding": str(choice.encoding),
                "m": choice.m,
                "errors": curve_objects(curve),
            }
            for choice, curve in pairs
        )
        return
    print("# mean Err_S / (m k), the share of the gradient that is lost, for s stragglers of n")
    for number, choice in enumerate(choices, 1):
        load = int(choice.A.sum(axis=0, dtype=np.intp).max())
        print(f"# code {number}: {choice.name}; n={choice.n}, load {load} of {choice.k} subsets")
    rows = [
        (f"{share:.2f}", *(c.points[i].error.mean / choice.total for choice, c in pairs))
        for i, share in enumerate(FRACTIONS)
    ]
    table(("s/n", *(f"code {number}" for number in range(1, len(choices) + 1))), rows)


def find(options: argparse.Namespace) -> None:
    """List the assignments for a number of workers, and the nearest."""
    found = assignments.find(options.workers, delta=options.delta, m=options.m)
    headings = ("assignment", "n", "k", "delta", "gamma", "vertex-transitive")
    for title, entries in (
        (f"with {options.workers} workers", found.exact),
        ("nearest of the other constructions", found.nearest),
    ):
        print(f"# {title}{'' if entries else ': none'}")
        if entries:
            table(
                headings,
                [
                    (e.spec, e.n, e.k, e.delta, e.gamma, "yes" if e.vertex_transitive else "-")
                    for e in entries
                ],
            )
    if not found.exact and options.delta is not None:
        n, delta = options.workers, options.delta
        command = catalogue.recommended(n, n, delta, options.m)
        print(f"# all codes of at most this load, measured and ranked: {command}")


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "list": list_parts,
    "show": show,
    "error": error,
    "worst": worst,
    "compare": compare,
    "stability": stability,
    "find": find,
    "recommend": recommend,
}


def _choice(options: argparse.Namespace, stragglers: str | None = None) -> Choice:
    return Choice.parse(options.assignment, options.encoding, options.m, stragglers)


def _fixed_before(choice: Choice) -> Choice:
    """Refuse a code that is made anew of what workers have finished."""
    if choice.partial:
        raise ValueError(
            f"{choice.encoding} is made of what workers have finished when the server stops, so "
            "that no straggler set alone says what is lost: it is the sum over the subsets of "
            "max(m - workers that finished it, 0); train with it instead"
        )
    return choice


def _curve(options: argparse.Namespace, choice: Choice, counts: list[int]) -> errors.Curve:
    _check_size(options, len(counts))
    return errors.curve(
        choice,
        counts,
        draws=options.draws,
        sets=options.sets,
        seed=options.seed,
        progress=Progress(choice.name),
    )


def _check_size(options: argparse.Namespace, counts: int) -> None:
    """Refuse a sample that would not fit in memory."""
    size = options.draws * options.sets * counts
    if size > LARGEST:
        raise ValueError(
            f"{options.draws} draws x {options.sets} sets x {counts} straggler counts are {size} "
            f"errors; at most {LARGEST} are kept: use fewer --draws, --sets or --stragglers"
        )


def _print_setting(options: argparse.Namespace, choice: Choice, sets: str) -> None:
    print(f"# {choice.name}: Err_S, of m k = {choice.total}")
    print(f"# {options.draws} draws of B x {options.sets} straggler sets ({sets}), ", end="")
    print(f"seed {options.seed}")


def _columns(found: errors.Summary) -> tuple[float, ...]:
    return (found.mean, found.stderr, *(v for _, v in found.quantiles), found.maximum)


def _spectrum(M: Array) -> str:
    values = np.round(np.linalg.eigvalsh(M), 6) + 0.0
    distinct, times = np.unique(values, return_counts=True)
    shown = [f"{v:.6g} (x{t})" for v, t in zip(distinct[::-1], times[::-1], strict=True)]
    return ", ".join(shown[:6]) + (f", .. {len(shown)} in all" if shown[6:] else "")
