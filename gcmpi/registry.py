"""Names for the parts of an experiment: ``coset:k=27,m=2,generators=0+1+3+9+20``.

A part is one function with `Registry.register` above it. Its options are the parameters of the
function that the registry does not supply itself; their types come from the annotations. The
examples given at registration are small working ones: the laws in tests/test_laws.py run over
every example of every part.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

Option = int | float | str | bool | tuple[int, ...] | tuple[float, ...]


class Size(NamedTuple):
    """Options of an assignment, and the k subsets and the computation load delta they give."""

    options: Mapping[str, Option]
    k: int
    delta: int


Sizes = Callable[[int, int | None], Iterable[Size]]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Traits:
    """What a part promises. The laws in the tests hold it to them.

    Attributes
    ----------
    redrawn
        An encoding: B is drawn afresh in every iteration.
    unbiased
        An encoding: E[B_S R] = alpha F over B and exchangeable stragglers, on the assignments of
        paper section 5, so that the decoded gradient may be divided by alpha.
        A decoder: the same over exchangeable stragglers, for the codes it serves in which all
        subsets are on equally many workers.
    exact
        An encoding: Err_S = 0 when nobody straggles, whatever the assignment.
    tolerant
        An encoding: Err_S = 0 for every set of up to gamma - m stragglers, gamma the replication
        factor of the subset that is held least; no code does better.
    decoder
        An encoding: the decoder of its source, where that is not least squares.
    vertex_transitive
        An assignment: its automorphisms act transitively on workers.
    irregular
        An assignment: workers' loads or subsets' replications may differ.
    reported
        An encoding: workers report what they have finished, and their messages are encoded by the
        B that `finished` gives.
    """

    redrawn: bool = False
    unbiased: bool = False
    exact: bool = False
    vertex_transitive: bool = False
    tolerant: bool = False
    decoder: str = "least-squares"
    irregular: bool = False
    reported: bool = False


@dataclass(frozen=True)
class Spec:
    """A part's name and the options given for it; `str` writes the form that `parse` reads."""

    name: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return ``name:key=value,key=value``."""
        text = ",".join(f"{key}={_write(value)}" for key, value in self.options.items())
        return f"{self.name}:{text}" if text else self.name


@dataclass(frozen=True)
class Part:
    """One registered function.

    Attributes
    ----------
    options
        The parameters that a user may set, with the types they are read as.
    examples
        Small working sets of options.
    sizes
        An assignment: ``sizes(n, delta)`` lists what exists for n workers without building it.
        Where the load may be chosen freely, delta chooses it; None leaves it to the assignment.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, inspect.Parameter]
    annotations: Mapping[str, Any]
    examples: tuple[Mapping[str, Option], ...]
    traits: Traits
    sizes: Sizes | None = None

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def usage(self) -> str:
        """Name and options as a user would type them, defaults shown."""
        shown = [
            f"{key}=" if p.default is inspect.Parameter.empty else f"{key}={_write(p.default)}"
            for key, p in self.options.items()
        ]
        return f"{self.name}:{','.join(shown)}" if shown else self.name


class Registry:
    """The parts of one kind (assignments, encodings, ...) by name.

    Parameters
    ----------
    kind
        What a part is called in messages.
    homes
        The modules that register parts; imported when a part is first asked for.
    supplied
        Parameters that whoever builds a part supplies; they are not options. A function that
        has no use for one leaves it out of its signature.
    """

    def __init__(self, kind: str, homes: Iterable[str], supplied: Iterable[str] = ()) -> None:
        self.kind = kind
        self._homes = list(homes)
        self.supplied = frozenset(supplied)
        self._parts: dict[str, Part] = {}

    def register(
        self,
        name: str,
        *examples: Mapping[str, Option],
        redrawn: bool = False,
        unbiased: bool = False,
        exact: bool = False,
        vertex_transitive: bool = False,
        tolerant: bool = False,
        decoder: str = "least-squares",
        irregular: bool = False,
        reported: bool = False,
        sizes: Sizes | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function as `name`, with small working `examples`."""
        traits = Traits(
            redrawn, unbiased, exact, vertex_transitive, tolerant, decoder, irregular, reported
        )

        def add(function: F) -> F:
            if name in self._parts:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            parameters = inspect.signature(function, eval_str=True).parameters
            options = {key: p for key, p in parameters.items() if key not in self.supplied}
            annotations = {key: p.annotation for key, p in options.items()}
            self._parts[name] = Part(
                name, function, options, annotations, examples or ({},), traits, sizes
            )
            return function

        return add

    def __iter__(self) -> Iterator[Part]:
        """Iterate over the parts in the order of their registration."""
        self._load()
        return iter(self._parts.values())

    def __getitem__(self, name: str) -> Part:
        """Return the part called `name`.

        Raises
        ------
        ValueError
            If there is none; the message lists the names.
        """
        self._load()
        if name not in self._parts:
            close = difflib.get_close_matches(name, self._parts, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(
                f"unknown {self.kind} {name!r}{hint}; choose one of {', '.join(self._parts)}"
            )
        return self._parts[name]

    def _load(self) -> None:
        while self._homes:
            importlib.import_module(self._homes.pop())

    def parse(self, text: str) -> Spec:
        """Read ``name:key=value,key=value``; a lone value stands for the first option.

        Raises
        ------
        ValueError
            For an unknown name or option, a value of the wrong type or a missing option.
        """
        name, _, rest = text.strip().partition(":")
        part = self[name]
        given: dict[str, str] = {}
        for position, item in enumerate(rest.split(",") if rest else ()):
            key, equals, value = item.partition("=")
            if not equals:
                if position or not part.options:
                    raise ValueError(f"{self.kind} {name}: {item!r} is not of the form key=value")
                key, value = next(iter(part.options)), item
            if key in given:
                raise ValueError(f"{self.kind} {name}: {key} is given twice")
            given[key] = value
        unknown = [key for key in given if key not in part.options]
        if unknown:
            takes = ", ".join(part.options) or "no options"
            close = difflib.get_close_matches(unknown[0], part.options, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(
                f"{self.kind} {name} has no option {unknown[0]!r}{hint}; it takes {takes}"
            )
        missing = [
            key
            for key, p in part.options.items()
            if p.default is inspect.Parameter.empty and key not in given
        ]
        if missing:
            raise ValueError(f"{self.kind} {name} needs {missing[0]}: {part.usage}")
        where = f"{self.kind} {name}"
        options = {
            key: _read(given[key], part.annotations[key], f"{where}: {key}")
            for key in part.options
            if key in given
        }
        return Spec(name, options)

    def build(self, spec: Spec | str, **supplied: object) -> Any:
        """Call the part of `spec` with its options and with what it takes of `supplied`."""
        spec = self.parse(spec) if isinstance(spec, str) else spec
        part = self[spec.name]
        taken = inspect.signature(part.function).parameters
        return part.function(
            **{key: value for key, value in supplied.items() if key in taken}, **spec.options
        )


def _write(value: object) -> str:
    """Write an option the way `_read` reads it."""
    if isinstance(value, tuple):
        return "+".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(text: str, annotation: Any, what: str) -> Option:
    """Read `text` as the first alternative of `annotation` that accepts it."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    alternatives = typing.get_args(annotation) if union else (annotation,)
    for kind in alternatives:
        try:
            return _convert(text, kind)
        except ValueError:
            continue
    wanted = " or ".join(_describe(kind) for kind in alternatives if kind is not type(None))
    raise ValueError(f"{what} must be {wanted}, not {text!r}")


def _convert(text: str, kind: Any) -> Option:
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        return tuple(element(item) for item in text.split("+"))
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError(text)
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in (int, float, str):
        value: Option = kind(text)
        return value
    raise ValueError(f"cannot read a value of type {kind}")


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return "numbers joined by +"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(typing.get_args(kind))
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(kind, str(kind))


ASSIGNMENTS = Registry("assignment", ["gcmpi.assignments"])
ENCODINGS = Registry(
    "encoding", ["gcmpi.encodings"], supplied=("A", "m", "rng", "odds", "finished")
)
DECODERS = Registry("decoder", ["gcmpi.decoders"], supplied=("code", "survivors", "wire"))
DATASETS = Registry("dataset", ["gcmpi.problems"], supplied=("rng",))
PROBLEMS = Registry("problem", ["gcmpi.problems"], supplied=("features", "classes", "dtype"))
OPTIMIZERS = Registry("optimizer", ["gcmpi.optimizers"])
STRAGGLERS = Registry(
    "straggler model", ["gcmpi.recording", "gcmpi.stragglers"], supplied=("n", "seed")
)
WAITING = Registry("wait rule", ["gcmpi.waiting"])
SWITCHES = Registry("switch", ["gcmpi.switching"], supplied=("m", "losses"))
COMPRESSORS = Registry("compression", ["gcmpi.wire"], supplied=("length", "dtype", "seed"))
