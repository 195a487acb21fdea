"""What a part promises: one small frozen class for each kind that promises anything.

The constructions of this package give their promises at their registration. `encoding`,
`assignment` and `decoder` declare the same classes in front of a user's own function; without
them the function promises nothing. The laws in `gcmpi.testing` hold a part to its promises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

PROMISES = "__gcmpi_promises__"
"""The attribute in which a user's function carries its promises."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Theorem:
    """A bound on the mean of Err_S over B, for every set S of s stragglers.

    Attributes
    ----------
    name
        What tables and figures call it.
    bound
        ``bound(A, m, s, ...)``, called with those of the encoding's options that it names too. It
        raises ValueError where the theorem does not apply.
    """

    name: str
    bound: Callable[..., float]


@dataclass(frozen=True)
class SetTheorem:
    """A bound on Err_S that depends on B and on the set S.

    Attributes
    ----------
    name
        What tables and figures call it.
    bound
        ``bound(B, m, survivors)`` for survivors (..., n) bool, shape (...). It raises ValueError
        where the theorem does not apply.
    """

    name: str
    bound: Callable[[Any, int, Any], Any]


@dataclass(frozen=True)
class LeastSquaresTheorem:
    """A bound on the mean of Err_S over B that is m min_x ||C_S x - f||^2 for each set S.

    Attributes
    ----------
    name
        What tables and figures call it.
    problem
        ``problem(A, m, ...)`` returns C (rows, n) and f (rows, 1). It is called with those of the
        encoding's options that it names too.
    """

    name: str
    problem: Callable[..., tuple[Any, Any]]


Stated = Theorem | SetTheorem | LeastSquaresTheorem | str
"""A theorem; a text is the name of one that nothing here evaluates."""
Declared = Stated | Callable[..., float]
"""What may be declared: a theorem, or the bound of a `Theorem` that has the function's name."""


@dataclass(frozen=True, kw_only=True)
class Promises:
    """The promises of a kind of part that promises nothing."""


@dataclass(frozen=True, kw_only=True)
class EncodingPromises(Promises):
    """What an encoding promises.

    Attributes
    ----------
    redrawn
        B is drawn afresh in every iteration.
    unbiased
        E[B_S R] = alpha F over B and exchangeable stragglers, on the assignments of paper
        section 5, so that the decoded gradient may be divided by alpha.
    exact
        Err_S = 0 when nobody straggles, whatever the assignment.
    tolerant
        Err_S = 0 for every set of up to gamma - m stragglers, gamma the replication factor of the
        subset that is held least; no code does better.
    partial
        Workers say what they have finished, and their messages are encoded by the B that
        `finished` gives.
    decoder
        The decoder of its source, where that is not least squares.
    theorem
        One theorem or several. The first that covers a code is shown, and held by the laws.
    """

    redrawn: bool = False
    unbiased: bool = False
    exact: bool = False
    tolerant: bool = False
    partial: bool = False
    decoder: str = "least-squares"
    theorem: Declared | Sequence[Declared] | None = None

    def __post_init__(self) -> None:
        _ = self.theorems  # refuses what is none

    @property
    def theorems(self) -> tuple[Stated, ...]:
        """The theorems one by one."""
        declared = self.theorem
        if declared is None:
            return ()
        if isinstance(declared, str) or not isinstance(declared, Sequence):
            declared = (declared,)
        return tuple(map(_stated, declared))


@dataclass(frozen=True, kw_only=True)
class AssignmentPromises(Promises):
    """What an assignment promises.

    Attributes
    ----------
    vertex_transitive
        Its automorphisms act transitively on workers.
    irregular
        Workers' loads or subsets' replications may differ.
    """

    vertex_transitive: bool = False
    irregular: bool = False


@dataclass(frozen=True, kw_only=True)
class DecoderPromises(Promises):
    """What a decoder promises.

    Attributes
    ----------
    unbiased
        E[B_S R] = alpha F over exchangeable stragglers, for the codes it serves in which all
        subsets are on equally many workers.
    ridge
        A decoder that is optimal: ``ridge(wire, options...)`` is the eps with which it is, 0 for
        plain least squares. None for other decoders.
    """

    unbiased: bool = False
    ridge: Callable[..., float] | None = None


@dataclass(frozen=True, kw_only=True)
class SwitchPromises(Promises):
    """What a switch promises.

    Attributes
    ----------
    changes
        Whether m may change from iteration to iteration.
    """

    changes: bool = True


def encoding(
    *,
    redrawn: bool = False,
    unbiased: bool = False,
    exact: bool = False,
    tolerant: bool = False,
    decoder: str = "least-squares",
    theorem: Declared | Sequence[Declared] | None = None,
) -> Callable[[F], F]:
    """Declare what an encoding of your own promises; `gcmpi.testing.check_encoding` tests it.

    Parameters
    ----------
    redrawn
        B is drawn afresh in every iteration.
    unbiased
        E[B_S R] = alpha F over B and exchangeable stragglers, so that the decoded gradient may be
        divided by alpha.
    exact
        Err_S = 0 when nobody straggles, whatever the assignment.
    tolerant
        Err_S = 0 for every set of up to gamma - m stragglers.
    decoder
        The decoder of its source, where that is not least squares.
    theorem
        ``theorem(A, m, s)`` bounds the mean of Err_S over the sets of s stragglers from above and
        raises ValueError where it does not apply; or its name, which is only shown. Of several the
        first that covers a code is taken. A theorem with a name, or one whose bound depends on
        the set of stragglers, is one of the classes of `gcmpi.promises`.

    Examples
    --------
    >>> @gcmpi.encoding(redrawn=True)
    ... def gaussian(A, m, rng, epsilon=0.1):
    ...     return gcmpi.encodings.stacked(A, m) * rng.normal(1, epsilon, A.shape[1])
    """
    return _declare(
        EncodingPromises(
            redrawn=redrawn,
            unbiased=unbiased,
            exact=exact,
            tolerant=tolerant,
            decoder=decoder,
            theorem=theorem,
        )
    )


def assignment(*, vertex_transitive: bool = False, irregular: bool = False) -> Callable[[F], F]:
    """Declare what an assignment of your own promises.

    Parameters
    ----------
    vertex_transitive
        Its automorphisms act transitively on workers.
    irregular
        Workers' loads or subsets' replications may differ.
    """
    return _declare(AssignmentPromises(vertex_transitive=vertex_transitive, irregular=irregular))


def decoder(*, unbiased: bool = False) -> Callable[[F], F]:
    """Declare what a decoder of your own promises.

    Parameters
    ----------
    unbiased
        E[B_S R] = alpha F over exchangeable stragglers, for codes in which all subsets are on
        equally many workers.
    """
    return _declare(DecoderPromises(unbiased=unbiased))


def _stated(declared: Declared) -> Stated:
    """Return a declared theorem with its name."""
    if isinstance(declared, Stated):
        return declared
    if not callable(declared):
        raise ValueError(
            "theorem must be a function (A, m, s) that returns a bound, the name of a theorem, or "
            f"several of them, not {declared!r:.60}"
        )
    name = getattr(declared, "__name__", "<none>").replace("_", " ")
    return Theorem("declared bound" if name.startswith("<") else name, declared)


def _declare(promises: Promises) -> Callable[[F], F]:
    def mark(function: F) -> F:
        setattr(function, PROMISES, promises)
        return function

    return mark
