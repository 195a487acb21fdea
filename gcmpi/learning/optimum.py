"""The smallest training loss of a strongly convex problem, with a bound on how far off it is.

It is what ``--target-excess`` measures excesses from: found once for a problem and data, outside
all clocks, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gcmpi.arrays import AnyArray, Array
from gcmpi.learning.batches import EVERYTHING
from gcmpi.learning.gradients import gradients
from gcmpi.learning.problem import Problem, complete
from gcmpi.learning.rows import Dataset, prepare
from gcmpi.learning.stored import in_memory
from gcmpi.sentences import words

VERSION = 1
GAP = 1e-10
"""The optimum is found up to this part of itself."""


@dataclass(frozen=True)
class Optimum:
    """The smallest mean training loss.

    Attributes
    ----------
    loss
        The loss that was found: at least the smallest one, and at most `gap` above it.
    gap
        ||gradient||^2 / (2 mu), mu the strong convexity: a bound for every mu-strongly convex loss.
    """

    loss: float
    gap: float


def optimum(problem: Problem, dataset: Dataset, name: str, cache: Path | None = None) -> Optimum:
    """Return the smallest mean training loss, by L-BFGS in float64.

    Parameters
    ----------
    problem
        A model with ``strong_convexity`` above 0: the mean loss minus that half of ||theta||^2 is
        convex. It must come in float64 too.
    dataset
        The training rows.
    name
        Of the problem with its options, for messages and the cache.
    cache
        A folder where what was found is kept, by a hash of name and rows.

    Raises
    ------
    ValueError
        If the problem does not say that it is strongly convex, or L-BFGS does not come close
        enough.
    """
    mu = float(getattr(getattr(problem, "own", problem), "strong_convexity", 0.0))
    if not mu > 0:
        raise ValueError(
            f"--target-excess is measured from the smallest loss, which problem {name} does not "
            "have for sure: give l2= to softmax, logistic or least-squares, or choose --target-loss"
        )
    X, y = prepare(dataset.X, np.float64), in_memory(dataset.y)
    kept = None if cache is None else cache / f"optimum-{_key(name, X, y)}.json"
    if kept is not None and (known := _read(kept)) is not None:
        return known
    exact = complete(getattr(problem, "own", problem), np.float64)
    found = _minimise(exact, X, y, mu, name)
    if kept is not None:
        _write(kept, found)
    return found


def _minimise(problem: Problem, X: AnyArray, y: AnyArray, mu: float, name: str) -> Optimum:
    from scipy.optimize import minimize

    Y, over = problem.targets(y), gradients(problem, X, y, [len(X)], [0], 1 / len(X), EVERYTHING)

    def mean(theta: Array) -> tuple[float, Array]:
        over.begin(0, theta)
        return problem.loss(theta, X, Y) / len(X), over.exact(0)

    theta = problem.initial(np.random.default_rng(0)).astype(np.float64)
    options = {"maxiter": 20000, "maxfun": 40000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-9}
    found = minimize(mean, theta, jac=True, method="L-BFGS-B", options=options)
    loss, gradient = mean(found.x)
    gap = float(gradient @ gradient) / (2 * mu)
    if not gap <= GAP * abs(loss):
        raise ValueError(
            f"the smallest loss of problem {name} was not found: L-BFGS ends at {loss:.9g}, which "
            f"may be {gap:.2g} above it; give a larger l2=, or choose --target-loss"
        )
    return Optimum(loss, gap)


def _key(name: str, X: AnyArray, y: AnyArray) -> str:
    head = json.dumps([VERSION, name, X.shape, y.shape, str(y.dtype)]).encode()
    content = hashlib.sha256(head)
    for rows in (X, y):
        content.update(np.ascontiguousarray(rows).data)
    return content.hexdigest()[:32]


def _read(path: Path) -> Optimum | None:
    try:
        return Optimum(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        print(f"gcmpi: {path} cannot be read ({words(error, path)}); made anew", file=sys.stderr)
        return None


def _write(path: Path, found: Optimum) -> None:
    """Write a file in one step; one that cannot be written costs only time at the next start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
        ) as file:
            json.dump(asdict(found), file)
        Path(file.name).replace(path)
    except OSError as error:
        print(f"gcmpi: the optimum is not kept for the next start: {words(error)}", file=sys.stderr)
