"""The laws of an assignment A (k, n), and the assignments that other parts are tried on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gcmpi.arrays import AnyArray
from gcmpi.codes.assignments import parameters
from gcmpi.codes.assignments.structure import groups
from gcmpi.registry import ASSIGNMENTS, Spec
from gcmpi.testing.parts import Own, Place, part
from gcmpi.testing.symmetry import is_transitive_on_workers

SMALL = (
    "cyclic:n=7,delta=3",
    "projective-plane:order=2",
    "coset:k=5,m=2,generators=0+1+3",
    "fractional-repetition:n=6,delta=3",
    "uncoded:n=4",
    "cyclic:n=4,delta=4",
    "paley:q=5",
    "circulant-edges:vertices=5,generators=1+2",
    "biregular:n=8,k=4,delta=2",
    "regularised-bernoulli:n=8,k=12,delta=2",
)
"""Of every kind: circulant, a design, copies of a circulant, groups, no redundancy, everything
everywhere, a graph, edges of a graph, random with equal degrees, random with others."""


def check_assignment(assignment: object) -> None:
    """Check the laws of an assignment.

    ============== ============================================================================
    matrix         (k, n), zeros and ones
    subsets        every subset is on a worker
    workers        every worker holds a subset
    seed           two calls give the same matrix: every rank makes its own
    regular        equal loads and equal replications; an assignment that promises
                   `irregular`, or a user's own without promises, may differ
    transitive     promised `vertex_transitive`: permutations of workers and subsets that keep
                   A move every worker to every other
    ============== ============================================================================

    Parameters
    ----------
    assignment
        A function or its name with options, or a matrix (k, n).

    Raises
    ------
    AssertionError
        If a law is broken: which, where and by how much.
    ValueError, TypeError
        If there is no such assignment, or it is nothing that can be called.
    """
    own = _part(assignment)
    place = Place(own.what)
    A = np.asarray(own())
    _is_a_matrix(place, A)
    again = np.asarray(own())
    if again.shape != A.shape or (again != A).any():
        raise place.broken(
            "seed",
            f"two calls differ ({_difference(A, again)}); every rank calls the function, so that "
            "all randomness must come from a seed among its options",
        )
    p = parameters(A.astype(np.uint8))
    if own.promised and not own.promises.irregular and None in {p.gamma, p.delta}:
        loads, copies = A.sum(axis=0, dtype=np.intp), A.sum(axis=1, dtype=np.intp)
        raise place.broken(
            "regular",
            f"workers hold {loads.min()} to {loads.max()} subsets and subsets are on "
            f"{copies.min()} to {copies.max()} workers; promise irregular=True if they may differ",
        )
    if own.promises.vertex_transitive and not is_transitive_on_workers(A.astype(np.uint8)):
        raise place.broken(
            "transitive",
            "vertex_transitive is promised, but no permutations that keep A move every worker to "
            "every other",
        )


def _part(assignment: object) -> Own:
    if isinstance(assignment, np.ndarray | list | tuple):
        matrix = np.array(assignment)
        name = f"assignment of shape {matrix.shape}"
        return Own(name, lambda: matrix, {}, part(ASSIGNMENTS, lambda: matrix).promises, False)
    return part(ASSIGNMENTS, assignment)


def _is_a_matrix(place: Place, A: AnyArray) -> None:
    if A.ndim != 2 or not A.size or A.dtype.kind not in "biuf":
        raise place.broken(
            "matrix", f"A must be a matrix (k, n) of zeros and ones, not {A.dtype} of {A.shape}"
        )
    other = np.argwhere(~np.isin(A, (0, 1)))
    if other.size:
        j, i = other[0]
        raise place.broken(
            "matrix",
            f"A[{j}, {i}] = {A[j, i]}, and {len(other)} of {A.size} entries are not 0 or 1",
        )
    alone = np.flatnonzero(~A.any(axis=1))
    if alone.size:
        raise place.broken(
            "subsets",
            f"subset {alone[0]} is on no worker, and {len(alone)} of {len(A)} subsets in all; "
            "row j of A is subset j, column i is worker i",
        )
    idle = np.flatnonzero(~A.any(axis=0))
    if idle.size:
        raise place.broken(
            "workers", f"worker {idle[0]} holds nothing, and {idle.size} of {A.shape[1]} workers"
        )


def _difference(A: AnyArray, again: AnyArray) -> str:
    if A.shape != again.shape:
        return f"shapes {A.shape} and {again.shape}"
    return f"in {np.count_nonzero(A != again)} of {A.size} entries"


def chosen(assignments: Any) -> list[tuple[str, AnyArray]]:
    """Return names and matrices (k, n) of the assignments that a part is to be tried on.

    Parameters
    ----------
    assignments
        None for `SMALL`, a text, a matrix or a function, or several of them.

    Raises
    ------
    ValueError, TypeError
        If one is unknown or is no assignment.
    """
    if assignments is None:
        assignments = SMALL
    elif _is_one(assignments):
        assignments = [assignments]
    if not isinstance(assignments, Iterable):
        raise TypeError(
            f"assignments must be texts, matrices or functions, not {assignments!r:.60}"
        )
    return [_built(assignment) for assignment in assignments]


def _is_one(assignments: Any) -> bool:
    matrix = isinstance(assignments, np.ndarray) and assignments.ndim == 2
    return matrix or callable(assignments) or isinstance(assignments, str | Spec)


def _built(assignment: object) -> tuple[str, AnyArray]:
    own = _part(assignment)
    A = np.asarray(own())
    try:
        _is_a_matrix(Place(own.what), A)
    except AssertionError as error:
        raise ValueError(f"nothing can be tried on this: {error}") from error
    return own.what.removeprefix("assignment "), A.astype(np.uint8)


def is_symmetric(A: AnyArray) -> bool:
    """Say whether an unbiased encoding is held to its promise on A.

    Section 5 of the paper proves it for designs, vertex-transitive graphs and coset graphs. Here A
    must be a design, or have groups of equal size, or stay the same when every worker takes the
    place of the next worker and every subset the place of the next subset.
    """
    p = parameters(A)
    if p.gamma is None or p.delta is None:
        return False
    if p.bibd:
        return True
    if (np.roll(A, (1, 1), axis=(0, 1)) == A).all():
        return True
    try:
        groups("an unbiased code", A)
    except ValueError:
        return False
    return True
