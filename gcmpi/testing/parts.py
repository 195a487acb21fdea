"""What a check is given: a text, a function, a class or an object, made ready to be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gcmpi.registry import PROMISES, Option, Registry, Spec, Traits


@dataclass(frozen=True)
class Place:
    """Where a law is tested: of which part, and with which assignment, m, seed and so on."""

    part: str
    where: str = ""

    def at(self, where: str) -> Place:
        """Return the same place, told more precisely."""
        return Place(self.part, f"{self.where}, {where}" if self.where else where)

    def broken(self, law: str, how: str) -> AssertionError:
        """Return the error that says which law is broken, where and by how much."""
        where = f" with {self.where}" if self.where else ""
        return AssertionError(f'{self.part} breaks the law "{law}"{where}: {how}')


@dataclass(frozen=True)
class Own:
    """A part as a check sees it.

    Attributes
    ----------
    what
        What messages call the part: its kind and name.
    function
        Makes the part, or is it. An object that is ready has a function without parameters.
    options
        Values for some of the function's parameters.
    traits
        What the part promises.
    promised
        Whether the part says anything about its promises.
    spec
        Name and options of a part of this package, None for a user's own.
    """

    what: str
    function: Callable[..., Any]
    options: Mapping[str, Option]
    traits: Traits
    promised: bool
    spec: Spec | None = None

    @functools.cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the function."""
        return inspect.signature(self.function).parameters

    @functools.cached_property
    def takes(self) -> frozenset[str]:
        """The names of the parameters that still need a value, or may have one."""
        return frozenset(self.parameters) - frozenset(self.options)

    def __call__(self, **supplied: object) -> Any:
        """Call the function with its options and with what it takes of `supplied`.

        Raises
        ------
        ValueError
            If the function has a parameter without a value.
        """
        everything = any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())
        given = {key: value for key, value in supplied.items() if everything or key in self.takes}
        for key, p in self.parameters.items():
            needed = p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            if needed and key not in given and key not in self.options:
                raise ValueError(
                    f"{self.what} needs a value for {key!r}, and is given "
                    f"{', '.join(supplied) or 'nothing'}: give {key!r} a default, or pass "
                    f"functools.partial(..., {key}=...)"
                )
        try:
            return self.function(**given, **self.options)
        except (ValueError, AssertionError):  # a refusal, which the checks understand
            raise
        except Exception as error:
            raise Place(self.what).broken(
                "runs", f"the call raised {type(error).__name__}: {error}"
            ) from error


def part(registry: Registry, value: object, ready: Iterable[str] = ()) -> Own:
    """Return a part from a text, a `Spec`, a function, a class or an object.

    Parameters
    ----------
    registry
        Of the kind of part.
    value
        What the check was given. A function of this package keeps its name and its promises.
    ready
        Members by which an object is the part itself rather than something that makes one.

    Raises
    ------
    ValueError
        If a name or an option is unknown.
    TypeError
        If the value is nothing that can be called or used.
    """
    if isinstance(value, str | Spec):
        spec = registry.parse(value) if isinstance(value, str) else value
        found = registry[spec.name]
        ours = not found.own
        promised = ours or hasattr(found.function, PROMISES)
        what = f"{registry.kind} {spec}"
        return Own(
            what, found.function, spec.options, found.traits, promised, spec if ours else None
        )
    name = _name(value)
    members = tuple(ready)
    if members and not inspect.isclass(value) and all(hasattr(value, x) for x in members):
        return Own(f"{registry.kind} {name}", lambda: value, {}, _traits(value), False)
    if not callable(value):
        raise TypeError(
            f"a check of a part of the kind {registry.kind!r} needs a function, a class, an object "
            f"with the members of the part, or a text such as {next(iter(registry)).name!r}, "
            f"not {value!r:.60}"
        )
    for registered in registry:
        if registered.function is value:
            return part(registry, Spec(registered.name))
    return Own(f"{registry.kind} {name}", value, {}, _traits(value), hasattr(value, PROMISES))


def _traits(value: object) -> Traits:
    traits: Traits = getattr(value, PROMISES, Traits())
    return traits


def _name(value: object) -> str:
    """Return what a user would call a function, a class or an object."""
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return str(name).rpartition("<locals>.")[2]
