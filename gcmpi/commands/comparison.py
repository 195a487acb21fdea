"""The table of a sweep: competitors on the same seeds, medians and paired ratios."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gcmpi.arrays import Array
from gcmpi.records.figures import Figures

COLUMNS = (
    "load", "kilobytes_up", "iteration_ms", "gradient_error", "accuracy", "iterations_to_target",
    "bytes_to_target", "seconds_to_target",
)  # fmt: skip


def paired_ratio(values: Array, reference: Array) -> str:
    """Return the ratio of two competitors' values on the same seeds, with its 95% interval.

    Student's t on the logarithms of the paired ratios: with few seeds a bootstrap covers too
    little. A seed in which either did not get there has no ratio, so the answer is in words.

    Parameters
    ----------
    values, reference : (seeds,)
        Positive numbers, or infinity.
    """
    if np.isnan(values).any():
        return "-"
    if not np.isfinite(values).all() or not np.isfinite(reference).all():
        missed = int(np.sum(~np.isfinite(values)))
        return f"{missed} of {values.size} never" if missed else "reference never"
    logs = np.log(values / reference)
    ratio = math.exp(float(logs.mean()))
    if logs.size < 3:
        return f"{ratio:.2f}"
    from scipy.stats import t

    half = float(t.ppf(0.975, logs.size - 1)) * float(logs.std(ddof=1)) / math.sqrt(logs.size)
    low, high = ratio * math.exp(-half), ratio * math.exp(half)
    same = "  not distinguishable" if low <= 1 <= high and half > 0 else ""
    return f"{ratio:.2f} ({low:.2f}-{high:.2f}){same}"


def table(runs: Sequence[tuple[str, int, Figures]], names: Sequence[str]) -> str:
    """Return the table of a sweep.

    Parameters
    ----------
    runs
        (competitor, seed, figures) of every complete run.
    names
        The competitors in the order to show them; ratios are to the first.
    """
    by_name: dict[str, dict[int, Figures]] = defaultdict(dict)
    for name, seed, run in runs:
        by_name[name][seed] = run
    first = by_name[names[0]]
    width = max(map(len, names))
    lines = [
        f"# {'':<{width}}  seeds    load   up [kB]  iteration [ms]  gradient error  accuracy  "
        "to target: iterations  up [MB]      [s]  ratio to the first (95%)"
    ]
    for name in names:
        results = by_name[name]
        if not results:
            lines.append(f"  {name:<{width}}      0  no complete run")
            continue
        common = sorted(results.keys() & first.keys())
        seconds = np.array([results[seed].seconds_to_target for seed in common])
        reference = np.array([first[seed].seconds_to_target for seed in common])
        middle = {
            key: float(np.median([getattr(run, key) for run in results.values()]))
            for key in COLUMNS
        }
        to_target = (
            _known(middle["iterations_to_target"], 21, 0)
            + _known(middle["bytes_to_target"] / 1e6, 9, 1)
            + _known(middle["seconds_to_target"], 9, 2)
        )
        lines.append(
            f"  {name:<{width}} {len(results):6d} {middle['load']:7.3f} "
            f"{middle['kilobytes_up']:9.1f} {middle['iteration_ms']:15.1f} "
            f"{middle['gradient_error']:15.4f} {middle['accuracy']:9.4f} "
            f"{to_target}  " + (paired_ratio(seconds, reference) if common else "no common seed")
        )
    return "\n".join(lines)


def _known(value: float, width: int, digits: int) -> str:
    """Return a column of what it took to the target; - where there is none."""
    text = "-" if math.isnan(value) else "never" if math.isinf(value) else f"{value:.{digits}f}"
    return f"{text:>{width}}"
