"""The truth about an iteration: exact gradient, loss, accuracy, and whether decoding was right."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from gcmpi.arrays import AnyArray, Array
from gcmpi.cluster.wire import Wire
from gcmpi.codes.code import Code, encode, message_length
from gcmpi.formats import EPSILON
from gcmpi.learning import Dataset, Problem, given, made, partition, pieces, prepared
from gcmpi.learning.batches import EVERYTHING, Sampling
from gcmpi.learning.gradients import gradients
from gcmpi.learning.problem import Ready
from gcmpi.training import Decoding, GradientAudit


class Auditor:
    """Audits every so many iterations, and the last one.

    Parameters
    ----------
    problem, dataset, k
        The loss, the data and the number of subsets.
    wire
        It says how much rounding is to be expected; what was compressed is not checked.
    every
        Iterations 0, every, 2 every, ... are audited.
    last
        The last iteration.
    sampling
        The rows of mini-batches, and the generators of models that draw.
    theta : (d,)
        The initial parameters of the run.
    """

    def __init__(
        self,
        problem: Problem,
        dataset: Dataset,
        k: int,
        wire: Wire,
        every: int,
        last: int,
        sampling: Sampling = EVERYTHING,
        theta: AnyArray | None = None,
    ) -> None:
        self._problem, self._every, self._last = problem, every, last
        self._k = k
        self._theta = problem.initial(np.random.default_rng(0)) if theta is None else theta
        self._exact, self._sampling = wire.exact, sampling
        self._X_test = prepared(dataset.X_test, problem.dtype)
        self._y_test = given(dataset.y_test)
        slices = partition(len(dataset.X), k)
        sizes = [rows.stop - rows.start for rows in slices]
        self._rows = len(dataset.X)
        self._gradients = gradients(
            problem, dataset.X, dataset.y, sizes, range(k), 1 / self._rows, sampling, remember=False
        )
        self._X, self._Y = self._gradients.rows.X, made(given(dataset.y), problem.targets)
        # a network of this package goes through all rows at once, if they are in memory
        at_once = isinstance(problem, Ready) and not dataset.stored
        self._pieces = [slice(None)] if at_once else slices
        self._test_pieces = pieces(dataset.X_test)
        self._rounding = rounding(wire, problem.dtype)

    def due(self, t: int) -> bool:
        """Say whether iteration t is to be audited."""
        return t % self._every == 0 or t == self._last

    def gradient(self, t: int, theta: AnyArray, decoding: Decoding) -> GradientAudit:
        """Return the gradient's relative errors, and 1 if what was decoded is right, 0 if not.

        With lossy compression nothing is promised: 255.

        It is right if, up to rounding, it equals Z B R computed here from the subset gradients, and
        if it is within the code's own bound ||Z B R - Z F|| <= ||Z||_F ||B R - F||_F (paper,
        section 1). With memory it has to equal Z B R + Zh (F - B R). One subset gradient is in
        memory at a time.
        """
        code, R, decoded, alpha = decoding.code, decoding.R, decoding.decoded, decoding.divisor
        truth = Truth(decoding, self._problem.d)
        self._gradients.begin(t, theta)
        for j in range(code.k):
            truth.add(j, self._gradients.exact(j))
        error = relative_error(decoded / alpha, truth.exact)
        full = error
        if not self._sampling.whole:
            full = relative_error(decoded / alpha, self._full(code.k))
        right = truth.right(self._rounding)
        if not right:  # near an optimum that fits all rows, gradients are smaller than their terms
            floor = rounding_floor(code, R, self._initial_norms, self._problem.dtype)
            right = truth.right(self._rounding, floor)
        return GradientAudit(error, full, int(right) if self._exact else 255)

    @cached_property
    def _initial_norms(self) -> Array:
        """The norms of the subset gradients at the initial parameters, (k,)."""
        self._gradients.begin(0, self._theta)
        norms = [np.linalg.norm(self._gradients.exact(j)) for j in range(self._k)]
        return np.array(norms, dtype=np.float64)

    def _full(self, k: int) -> Array:
        """Return the gradient over all rows with the parameters that were given last."""
        full = np.zeros(self._problem.d)
        for j in range(k):
            full += self._gradients.exact(j, whole=True)
        return full

    def quality(self, theta: AnyArray) -> tuple[float, float]:
        """Return (mean training loss, test accuracy); a loss that is not a number is infinite.

        The accuracy of test rows that are more than fit in a piece is the mean over the pieces.
        """
        problem, y = self._problem, self._y_test
        loss = sum(problem.loss(theta, self._X[rows], self._Y[rows]) for rows in self._pieces)
        accuracy = sum(
            problem.accuracy(theta, self._X_test[rows], y[rows])
            * ((rows.stop - rows.start) / len(y))
            for rows in self._test_pieces
        )
        # NaN means: not audited
        return np.inf if np.isnan(loss) else loss / self._rows, accuracy


class Truth:
    """What decoding must come to, of the subset gradients Z, which are added one at a time.

    Parameters
    ----------
    decoding
        Code, decoding matrix, messages, and what was decoded.
    d
        Length of a gradient.

    Attributes
    ----------
    exact : (d,)
        The sum of the subset gradients, Z F.
    """

    def __init__(self, decoding: Decoding, d: int) -> None:
        self._decoding, code, R = decoding, decoding.code, decoding.R
        self._M = (code.B @ R).reshape(code.m, code.k, code.m)  # (part, subset, decoded part)
        self.exact, self._expected = np.zeros(d), np.zeros((code.m, message_length(d, code.m)))
        self._squares = 0.0

    def add(self, j: int, g: AnyArray) -> None:
        """Add the gradient of subset j, shape (d,)."""
        self.exact += g
        self._squares += float(np.sum(g.astype(np.float64) ** 2))
        for v in range(len(self._expected)):
            self._expected[v] += encode(self._M[:, j, v, None], g[None])

    def right(self, rounding: float, floor: float = 0.0) -> bool:
        """Say whether what was decoded is right, up to rounding.

        Without memory it is Z B R, and within the code's bound; with memory Z B R + Zh (F - B R).

        Parameters
        ----------
        rounding
            How far a message may be off, relative to its norm.
        floor
            How far the decoded gradient may be off however small messages are.
        """
        of = self._decoding
        R, survivors, recalled = of.R, of.replies.survivors, of.recalled
        noise = floor + rounding * float(
            np.linalg.norm(R[survivors], axis=1) @ np.linalg.norm(of.replies.Y[survivors], axis=1)
        )
        expected = self._expected.ravel()[: self.exact.size]
        if recalled is not None:
            noise += rounding * recalled.size
            return float(np.linalg.norm(of.decoded - expected - recalled.gradient)) <= noise
        bound = np.sqrt(self._squares * of.code.residual(R))
        off = float(np.linalg.norm(of.decoded - expected))
        return bool(off <= noise and np.linalg.norm(of.decoded - self.exact) <= bound + noise)


def rounding(wire: Wire, dtype: npt.DTypeLike) -> float:
    """Return how far a message may be off, relative to its norm.

    Each number is rounded once on its way (float16 loses its smallest ones: the rest of eps), and
    comes from sums of a few thousand terms that an audit adds in another order.
    """
    return EPSILON[wire.dtype] + 100 * float(np.finfo(dtype).eps)


def rounding_floor(code: Code, R: Array, norms: Array, dtype: npt.DTypeLike) -> float:
    """Return the rounding that a decoded gradient keeps however small messages are.

    A gradient is a sum whose terms may cancel: near an optimum that fits all rows it is smaller
    than its terms.

    Parameters
    ----------
    norms : (k,)
        The norms of the subset gradients at the initial parameters: the size of the terms.
    """
    coefficients = np.linalg.norm(code.B.reshape(code.m, code.k, code.n), axis=0)
    sizes = np.linalg.norm(R, axis=1) * (norms @ coefficients)
    return 100 * float(np.finfo(dtype).eps) * float(sizes.sum())


def relative_error(estimate: AnyArray, exact: Array) -> float:
    """Return ||estimate - exact|| / ||exact||."""
    return float(np.linalg.norm(estimate - exact) / np.linalg.norm(exact))
