"""What a part promises: one small frozen class for each kind that promises anything.

The constructions of this package give their promises at their registration. `encoding`,
`assignment` and `decoder` declare the same classes in front of a user's own function; without
them the function promises nothing. The laws in `gcmpi.testing` hold a part to its promises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

PROMISES = "__gcmpi_promises__"
"""The attribute in which a user's function carries its promises."""
F = TypeVar("F", bound=Callable[..., Any])


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
    reported
        Workers report what they have finished, and their messages are encoded by the B that
        `finished` gives.
    decoder
        The decoder of its source, where that is not least squares.
    theorem
        ``theorem(A, m, s)`` bounds the mean of Err_S over the sets S of s stragglers from above, or
        the name of a theorem that nothing here evaluates.
    """

    redrawn: bool = False
    unbiased: bool = False
    exact: bool = False
    tolerant: bool = False
    reported: bool = False
    decoder: str = "least-squares"
    theorem: Callable[[Any, int, int], float] | str | None = None


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
    """

    unbiased: bool = False


def encoding(
    *,
    redrawn: bool = False,
    unbiased: bool = False,
    exact: bool = False,
    tolerant: bool = False,
    decoder: str = "least-squares",
    theorem: Callable[[Any, int, int], float] | str | None = None,
) -> Callable[[F], F]:
    """Declare what an encoding of one's own promises; `gcmpi.testing.check_encoding` tests it.

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
        raises ValueError where it does not apply; or its name, which is only shown.

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
    """Declare what an assignment of one's own promises.

    Parameters
    ----------
    vertex_transitive
        Its automorphisms act transitively on workers.
    irregular
        Workers' loads or subsets' replications may differ.
    """
    return _declare(AssignmentPromises(vertex_transitive=vertex_transitive, irregular=irregular))


def decoder(*, unbiased: bool = False) -> Callable[[F], F]:
    """Declare what a decoder of one's own promises.

    Parameters
    ----------
    unbiased
        E[B_S R] = alpha F over exchangeable stragglers, for codes in which all subsets are on
        equally many workers.
    """
    return _declare(DecoderPromises(unbiased=unbiased))


def _declare(promises: Promises) -> Callable[[F], F]:
    def mark(function: F) -> F:
        setattr(function, PROMISES, promises)
        return function

    return mark
