"""What a run prints: header, progress, timing table, verdict, and one line for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.decoders import ridge_of
from gcmpi.experiments.run import Run
from gcmpi.formats import storage
from gcmpi.records.figures import problems, warnings
from gcmpi.sentences import duration
from gcmpi.training import Iteration
from gcmpi.training.memory import AUTO
from gcmpi.version import VERSION

CHECKS = {0: "Fail", 1: "Pass", 255: "-"}


def header(run: Run, environment: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """Return the lines that say what is run, on what and where."""
    e = run.experiment
    code = run.shared.codes.at(0)
    problem = run.shared.problem
    wires = run.shared.wires
    sizes = {m: wire.elements * storage(wire.dtype).itemsize for m, wire in wires.items()}
    wire, up, down = wires[e.m], sizes[e.m], problem.d * problem.dtype.itemsize
    other = [f" ({size / 1e3:.4g} kB with m={m})" for m, size in sizes.items() if m != e.m]
    ranks, cores = int(environment["ranks"]), int(environment["cores"])
    threads = int(environment["blas_threads"])
    kept = "" if e.compression == "none" else f" by {e.compression}"
    load = f"{ranks} ranks on {environment['hosts'].count(',') + 1} host(s), {cores} cores"
    if ranks * threads > cores:
        load += f", OVERSUBSCRIBED {ranks * threads / cores:.3g} times"
    commit = environment["git_commit"][:12] or "unknown"
    relabelled = ", relabelled in every iteration" if e.relabel else ""
    turns = ", one part in turn" if e.parts == "in-turn" else ""
    placed = f", placed by --hosts {e.hosts}" if e.hosts != "off" else ""
    remembered = ", late answers remembered" if e.late == "remember" else ""
    batch = f", batch {e.batch}" if e.batch != "1" else ""
    dirty = " with changes" if environment["git_dirty"] == "yes" else ""
    ridge = f", ridge {eps:.2g}" if (eps := ridge_of(e.decoder, e.wire)) else ""
    lines = [
        f"gcmpi {VERSION}    {environment['command']}",
        f"experiment {e.digest}, seed {e.seed}, git {commit}{dirty}",
        f"code       {e.assignment} + {e.encoding}, m={e.m}: {code.n} workers, {code.k} subsets, "
        f"load {code.delta}, replication {code.gamma}{relabelled}{turns}{placed}",
        f"problem    {e.problem} on {e.dataset}: d={problem.d} {e.dtype}, "
        f"{e.optimizer}, {e.iterations} iterations{batch}",
        f"messages   up {wire.length} x {e.wire}{kept} = {up / 1e3:.4g} kB{''.join(other)}, "
        f"down {problem.d} x {e.dtype} = {down / 1e3:.4g} kB; decoder {e.decoder}{ridge}",
        f"stragglers {e.stragglers}, wait {e.wait}{remembered}; "
        f"decoded gradient {_divided(run, code.n)}",
        f"launch     {environment['mpi_library']}; {load}; {threads} BLAS thread(s) a rank",
    ]
    if e.remembers:
        lines.append(f"memory     {_kept(run)}")
    if run.target:
        lines.append(f"target     {_target(run)}")
    if other:
        lines.append(f"switch     {e.switch}: m from 1 to {e.m}")
    if e.m > code.gamma and e.parts == "all":
        changing = e.relabel or run.shared.codes.changes
        also = " and memory never learns all of it" if e.remembers and not changing else ""
        lines.append(
            f"note       m={e.m} exceeds the replication factor {code.gamma}: no decoding is "
            f"exact, even when nobody is late{also}"
        )
    files: dict[str, list[str]] = {}
    for name, source in e.own.items():
        files.setdefault(source.file or source.module, []).append(name)
    lines += [f"own        {', '.join(names)} from {file}" for file, names in files.items()]
    lines += [f"note       {note}" for note in notes]
    return "".join(f"# {line}\n" for line in lines)


def _divided(run: Run, n: int) -> str:
    """Say what the decoded gradient is divided by."""
    if (run.alpha == 1).all():
        return "not divided by alpha"
    first, last = run.alpha[0], run.alpha[n // 2]
    return f"divided by alpha = {first:.3g} (0 late) to {last:.3g} ({n // 2} late)"


def _kept(run: Run) -> str:
    """Say what the server remembers."""
    problem, numbers = run.shared.problem, run.layout.numbers
    eta = f"{run.eta:g}" if run.experiment.memory == AUTO else ""
    return (
        f"{run.experiment.memory}{eta and f' = {eta}'}: {numbers:,} numbers, as many as "
        f"{numbers / problem.d:.3g} gradients, {numbers * problem.dtype.itemsize / 1e6:.3g} MB"
    )


def _why_lost(run: Run) -> str:
    """Say where most of the gradient was lost, and what may help."""
    code = run.shared.codes.at(0)
    own = code.error(np.ones(code.n, dtype=np.bool_)) / (code.m * code.k)
    if own > 0.25:
        return f"most of the gradient is lost, {own:.2f} of it even with nobody late: another code"
    return "most of the gradient is lost; wait longer, or choose a code with more replication"


class Progress:
    """A line for an audit, at most one in five seconds, or in one on a terminal.

    No line is ever rewritten: under some launchers a log file looks like a terminal.

    Parameters
    ----------
    stream
        Where the lines go.
    iterations
        How many the run has in all.
    metric
        What the model's accuracy is.
    """

    def __init__(self, stream: TextIO, iterations: int, metric: str = "accuracy") -> None:
        self._stream, self._iterations, self._metric = stream, iterations, metric[:8]
        self._every = 1.0 if stream.isatty() else 5.0
        self._last = -np.inf
        self._times: list[float] = []
        self._began = time.monotonic()
        self._first: tuple[int, float] | None = None  # the first audited iteration, and when
        self._width = len(f"{iterations} of {iterations}, 99 min left")

    def begin(self) -> None:
        """Print the heading; the run starts now."""
        self._began = time.monotonic()
        heading = (
            f"#{'progress':>{self._width}}   time [s]      loss  {self._metric:>8}  gradient "
            "error  survivors  P50 [ms]  Check"
        )
        print(heading, file=self._stream, flush=True)

    def show(self, row: Iteration, *, last: bool) -> None:
        """Show an iteration if it was audited and it is time to, or it is the last."""
        self._times.append(row.exchange_seconds + row.decode_seconds + row.update_seconds)
        if np.isnan(row.loss):  # not audited
            return
        now = time.monotonic()
        if self._first is None:
            self._first = row.iteration, now
        if not (last or row.check == 0 or now - self._last >= self._every):
            return
        self._last = now
        median = 1e3 * float(np.median(self._times))
        self._times.clear()
        line = (
            f"{self._left(row.iteration, now, last):>{self._width + 1}} {row.seconds:10.2f} "
            f"{row.loss:9.4f} {row.accuracy:9.4f} {row.gradient_error:15.4f} "
            f"{np.count_nonzero(row.survivors):10d} {median:9.1f} {CHECKS[row.check]:>6}"
        )
        print(line, file=self._stream, flush=True)

    def _left(self, iteration: int, now: float, last: bool) -> str:
        """Return how far the run is and how long it takes from here, audits included.

        The pace is measured from audit to audit, so that it holds as many audits as what is left.
        """
        first, then = self._first if self._first is not None else (iteration, now)
        counted, done = iteration - first, iteration + 1
        if not counted and not last:  # one audit does not tell a pace
            return f"{done} of {self._iterations}"
        seconds = 0.0 if last else (now - then) / counted * (self._iterations - done)
        return f"{done} of {self._iterations}, {duration(seconds)} left"


def timing(columns: Mapping[str, AnyArray], late: str = "dropped") -> str:
    """Return the table of times: percentiles over the iterations after the warm-up.

    Parameters
    ----------
    late
        What was done with late answers.
    """
    timed = columns["warmup"] == 0
    if not timed.any():
        return "# no iteration after the warm-up: no timing table\n"
    parts = {name: 1e3 * columns[f"{name}_seconds"][timed] for name in TIMED}
    parts = {"iteration": np.sum(list(parts.values()), axis=0), **parts}
    workers = {
        f"worker {name}": 1e3 * columns[f"{name}_seconds"][timed]
        for name in ("compute", "encode", "delay")
    }
    count = int(np.count_nonzero(timed))
    # a percentile of so few samples would be their maximum
    percentiles = [50, 90, 99] if count >= 100 else [50, 90]
    heading = "".join(f"{f'P{p} [ms]':>12}" for p in percentiles)
    lines = [f"# {'':<18}{heading}{'max [ms]':>12}    {count} iterations after warm-up"]
    for name, values in {**parts, **workers}.items():
        known = values[np.isfinite(values)]
        if known.size:
            cells = [*np.percentile(known, percentiles), known.max()]
            lines.append(f"  {name:<18}" + "".join(f"{cell:12.2f}" for cell in cells))
    m = columns["m"][columns["m"] > 0]  # unknown where an older version began the run
    used, often = np.unique(m, return_counts=True)
    if used.size > 1:
        shares = ", ".join(f"{u} in {c}" for u, c in zip(used, often, strict=True))
        lines.append(f"# m {shares} iterations")
    survivors = columns["survivors"].sum(axis=1)
    lines.append(
        f"# survivors {survivors.mean():.1f} of {columns['survivors'].shape[1]} on average, "
        f"{int(columns['stale_messages'].sum())} stale messages {late}, "
        f"{columns['bytes_up'].sum() / 1e6:.4g} MB up, "
        f"{columns['bytes_down'].sum() / 1e6:.4g} MB down"
    )
    return "\n".join(lines) + "\n"


TIMED = ("exchange", "decode", "update")


def summary(run: Run, columns: Mapping[str, AnyArray], path: str, status: str) -> dict[str, Any]:
    """Return the figures of a run for programs; None where there is none."""
    e, found = run.experiment, run.figures(columns)

    def known(value: float) -> float | None:
        return value if np.isfinite(value) else None

    median = known(found.iteration_ms)
    return {
        "valid": not problems(columns),
        "status": status,
        "experiment": e.digest,
        "code": e.label,
        "assignment": e.assignment,
        "encoding": e.encoding,
        "m": e.m,
        "memory": e.memory,
        "seed": e.seed,
        "workers": int(columns["survivors"].shape[1]),
        "iterations": found.iterations,
        "seconds": round(found.seconds, 6),
        "iteration_p50_ms": None if median is None else round(median, 4),
        "loss": known(found.loss),
        "accuracy": known(found.accuracy),
        "gradient_error_median": known(found.gradient_error),
        "seconds_to_target": known(found.seconds_to_target),
        "iterations_to_target": known(found.iterations_to_target),
        "bytes_to_target": known(found.bytes_to_target),
        "target_loss": run.target.loss or None,
        "excess": known(found.excess),
        "bytes_up": found.bytes_up,
        "bytes_down": found.bytes_down,
        "stale_messages": found.stale_messages,
        "output": path,
    }


def _target(run: Run) -> str:
    """Say what ends the run early."""
    e, target = run.experiment, run.target
    if target.accuracy:
        return f"accuracy {target.accuracy:g}"
    if not e.target_excess:
        return f"loss {target.loss:g}"
    smallest = f"{e.target_excess:g} times the smallest, {target.optimum:.10g}, above it"
    return f"loss {target.loss:.10g}, {smallest}"


def _when(figures: Mapping[str, Any]) -> str:
    """Say when a run reached its target."""
    if figures["seconds_to_target"] is None:
        excess = figures["excess"]
        last = (
            "" if excess is None else f": the last loss is {excess:.2g} times the smallest above it"
        )
        return f"not reached in {figures['iterations']} iterations{last}"
    return (
        f"reached after {figures['iterations_to_target']:.0f} iterations, "
        f"{figures['bytes_to_target'] / 1e6:.4g} MB up, {figures['seconds_to_target']:.2f} s of "
        "training"
    )


def verdict(run: Run, columns: Mapping[str, AnyArray], path: str, status: str) -> str:
    """Return the closing lines: table, target, VALID or INVALID, path, RESULT."""
    figures = summary(run, columns, path, status)
    wrong = problems(columns)
    late = "remembered" if run.experiment.late == "remember" else "dropped"
    lines = [timing(columns, late).rstrip("\n")]
    if run.target:
        lines.append(f"# target {_target(run)}: {_when(figures)}")
    known = columns["m"] > 0
    errors = columns["approximation_error"][known] / (columns["m"][known] * run.A.shape[0])
    lost = float(np.median(errors)) if errors.size else 0.0
    if lost > 0.5 and not run.experiment.remembers:
        lines.append(f"# warning: Err_S/(m k) is {lost:.2f} in the median: {_why_lost(run)}")
    lines += [f"# warning: {text}" for text in warnings(columns)]
    lines.append(f"INVALID: {'; '.join(wrong)}" if wrong else "VALID")
    lines.append(f"# run file ({status}): {path}")
    lines.append(f"RESULT {json.dumps(figures)}")
    return "\n".join(lines)
