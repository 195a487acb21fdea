"""Names for the parts of an experiment: ``coset:k=27,m=2,generators=0+1+3+9+20``.

A part is one function with `Registry.register` above it. Its options are the parameters of the
function that the registry does not supply itself; their types come from the annotations, else
from the defaults. The examples given at registration are small working ones: the laws in
`gcmpi.testing` run over every example of every part.

A name with a dot is a part of a user's own, and is imported: ``mycodes.gaussian:epsilon=0.3``. A
function, a class or a ready object that a program hands over becomes a part by `Registry.adopt`.
What a part promises is one of the classes of `gcmpi.promises`.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from gcmpi import importing
from gcmpi.importing import NotFoundError, OwnPartError, Source
from gcmpi.promises import (
    PROMISES,
    AssignmentPromises,
    DecoderPromises,
    EncodingPromises,
    Promises,
    SwitchPromises,
)

__all__ = [
    "NotFoundError", "OwnPartError", "Part", "Registry", "Size", "Source", "Spec", "Wanted",
    "called_by_name",
]  # fmt: skip

Option = int | float | str | bool | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Wanted:
    """What an assignment is wanted for.

    Attributes
    ----------
    n
        Workers.
    delta
        Subsets a worker; None for any.
    load
        At most this part of the data on a worker; None for any. Where the load may be chosen, it
        is the largest that fits.
    m
        Communication reduction factor.
    s
        Stragglers, where their number is known.
    """

    n: int
    delta: int | None = None
    load: Fraction | None = None
    m: int = 1
    s: int | None = None

    def delta_of(self, k: int) -> int | None:
        """Return how many of k subsets a worker is to hold; None if the construction chooses."""
        if self.delta is not None or self.load is None:
            return self.delta
        return math.floor(self.load * k)


class Size(NamedTuple):
    """Options of an assignment, and the k subsets and the computation load delta they give."""

    options: Mapping[str, Option]
    k: int
    delta: int


Sizes = Callable[[Wanted], Iterable[Size]]
F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound=Promises)


@dataclass(frozen=True)
class Spec:
    """A part's name and the options given for it; `str` writes the form that `parse` reads."""

    name: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return ``name:key=value,key=value``."""
        text = ",".join(f"{key}={_write(value)}" for key, value in self.options.items())
        return f"{self.name}:{text}" if text else self.name


@dataclass(frozen=True, kw_only=True)
class Part(Generic[P]):
    """One registered function, or a user's own.

    Attributes
    ----------
    options
        The parameters that a user may set, with the types they are read as.
    examples
        Small working sets of options.
    promises
        What the part promises.
    sizes
        An assignment: ``sizes(wanted)`` lists what exists for so many workers without building
        it. Only where a load may be chosen does it look at what load is wanted.
    source
        Where a user's own part comes from; None for a part of this package.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, inspect.Parameter]
    annotations: Mapping[str, Any]
    promises: P
    examples: tuple[Mapping[str, Option], ...] = ({},)
    sizes: Sizes | None = None
    source: Source | None = None

    @functools.cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """All that the function takes; a code that is redrawn asks in every iteration."""
        return inspect.signature(self.function).parameters

    @property
    def own(self) -> bool:
        """Whether the part is a user's own."""
        return self.source is not None

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


class Registry(Generic[P]):
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
    complete
        Where to find ``complete(value, **supplied)``, as ``module:function``: it checks what a
        user's own part returned and fills in the members that may be left out. It raises
        ValueError with what follows the part's name in a sentence.
    ready
        Members by which an object is a ready part rather than something that makes one.
    plain
        Parameters by which a user's function is the part itself rather than something that makes
        one: what remains of it when its options are filled in is called with them later.
    promises
        The class of what a part of this kind promises.
    """

    def __init__(
        self,
        kind: str,
        homes: Iterable[str],
        supplied: Iterable[str] = (),
        complete: str | None = None,
        ready: Iterable[str] = (),
        plain: Iterable[str] = (),
        promises: type[P] = Promises,  # type: ignore[assignment]
    ) -> None:
        self.kind = kind
        self._homes = list(homes)
        self._plain = tuple(plain)
        self.supplied = (*self._plain, *supplied)
        self._complete = complete
        self._ready = tuple(ready)
        self._promises = promises
        self._parts: dict[str, Part[P]] = {}
        self._own: dict[str, Part[P]] = {}

    def register(
        self,
        name: str,
        *examples: Mapping[str, Option],
        sizes: Sizes | None = None,
        **promises: Any,
    ) -> Callable[[F], F]:
        """Register the decorated function as `name`, with small working `examples`.

        Parameters
        ----------
        sizes
            As in `Part`.
        promises
            What the part promises: the fields of the class of its kind.
        """
        promised = self._promises(**promises)

        def add(function: F) -> F:
            if name in self._parts:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            parameters = inspect.signature(function, eval_str=True).parameters
            options = {key: p for key, p in parameters.items() if key not in self.supplied}
            annotations = {key: p.annotation for key, p in options.items()}
            self._parts[name] = Part(
                name=name,
                function=function,
                options=options,
                annotations=annotations,
                promises=promised,
                examples=examples or ({},),
                sizes=sizes,
            )
            return function

        return add

    def __iter__(self) -> Iterator[Part[P]]:
        """Iterate over the parts in the order of their registration."""
        self._load()
        return iter(self._parts.values())

    def __getitem__(self, name: str) -> Part[P]:
        """Return the part called `name`.

        Raises
        ------
        ValueError
            If there is none; the message lists the names.
        """
        self._load()
        if name in self._own:
            return self._own[name]
        if name not in self._parts:
            if importing.is_dotted(name) or importing.is_scripts(name):
                value, module = importing.find(name, f"{self.kind} {name}")
                ours = self._registered(value)
                return self._parts[ours] if ours else self._keep(name, value, module)
            close = difflib.get_close_matches(name, self._parts, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(
                f"unknown {self.kind} {name!r}{hint}; choose one of {', '.join(self._parts)}, or "
                f"import your own by a name with a dot ({_own_hint(name)})"
            )
        return self._parts[name]

    def adopt(self, value: object) -> Spec:
        """Return the name of a part that a program hands over: a function, a class or an object.

        What can be imported has its dotted name, which works in every process. Anything else (a
        matrix, a lambda, a function of the script) is called ``__main__.NAME`` and is known to
        this process only.
        """
        ours = self._registered(value)
        if ours is not None:
            return Spec(ours)
        importable = _dotted_name(value)
        if importable is not None:
            module = importing.find(importable, f"{self.kind} {importable}")[1]
            self._keep(importable, value, module)
            return Spec(importable)
        base = f"{importing.SCRIPT}.{_own_name(value)}"
        name, number = base, 1
        while name in self._own and not _is(self._own[name].function, value):
            number += 1
            name = f"{base}-{number}"
        self._keep(name, value, importing.SCRIPT)
        return Spec(name)

    def _registered(self, value: object) -> str | None:
        """Return the name of a part of this package that is this very function."""
        self._load()
        return next((p.name for p in self._parts.values() if p.function is value), None)

    def _keep(self, name: str, value: object, module: str) -> Part[P]:
        """Remember a user's own part under its name."""
        what = f"{self.kind} {name}"
        source = Source.of(module)
        ready = not callable(value) or (
            bool(self._ready)
            and not inspect.isclass(value)
            and all(hasattr(value, member) for member in self._ready)
        )
        options = {} if ready else self._options(value, what)
        made = Part(
            name=name,
            function=_Ready(value) if ready else typing.cast(Callable[..., Any], value),
            options=options,
            annotations={key: _kind_of(p) for key, p in options.items()},
            promises=self.promised(value, what),
            source=source,
        )
        self._own[name] = made
        return made

    def promised(self, value: object, what: str) -> P:
        """Return what a user's own part declares to promise.

        Raises
        ------
        OwnPartError
            If the promises are those of another kind of part.
        """
        promises = getattr(value, PROMISES, None) or self._promises()
        if not isinstance(promises, self._promises):
            raise OwnPartError(
                f"{what} declares {type(promises).__name__}: the promises of this kind of part are "
                f"{self._promises.__name__}"
            )
        return promises

    def _options(self, function: object, what: str) -> dict[str, inspect.Parameter]:
        """Return the parameters of a user's function that are its options."""
        try:
            parameters = _signature(function)
        except (TypeError, ValueError) as error:
            raise OwnPartError(f"{what} cannot be called by name: {error}") from error
        for key, p in parameters.items():
            if p.kind is p.POSITIONAL_ONLY:
                raise OwnPartError(
                    f"{what} must take {key!r} by name: leave the / out of its signature"
                )
        return {
            key: p
            for key, p in parameters.items()
            if key not in self.supplied and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }

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
        own = f" ({self._says_what_is_supplied()})" if part.own else ""
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
                f"{self.kind} {name} has no option {unknown[0]!r}{hint}; it takes {takes}{own}"
            )
        missing = [
            key
            for key, p in part.options.items()
            if p.default is inspect.Parameter.empty and key not in given
        ]
        if missing:
            raise ValueError(f"{self.kind} {name} needs {missing[0]}: {part.usage}{own}")
        where = f"{self.kind} {name}"
        options = {
            key: _read(given[key], part.annotations[key], f"{where}: {key}")
            for key in part.options
            if key in given
        }
        return Spec(name, options)

    def build(self, spec: Spec | str, **supplied: object) -> Any:
        """Call the part of `spec` with its options and with what it takes of `supplied`.

        Raises
        ------
        OwnPartError
            If a user's own part raises or returns what cannot be used.
        """
        spec = self.parse(spec) if isinstance(spec, str) else spec
        part = self[spec.name]
        taken = part.parameters
        arguments = {key: value for key, value in supplied.items() if key in taken}
        if not part.own:
            return part.function(**arguments, **spec.options)
        made: Any
        if any(key in taken for key in self._plain):
            made = functools.partial(part.function, **arguments, **spec.options)
        else:
            with importing.blame(f"{self.kind} {spec.name}"):
                made = part.function(**arguments, **spec.options)
        return self._completed(spec.name, made, **supplied)

    def _completed(self, name: str, made: Any, **supplied: object) -> Any:
        """Check what a user's own part made, and fill in what it may leave out."""
        if self._complete is None:
            return made
        module, _, function = self._complete.partition(":")
        complete = getattr(importlib.import_module(module), function)
        taken = inspect.signature(complete).parameters
        arguments = {key: value for key, value in supplied.items() if key in taken}
        what = f"{self.kind} {name}"
        with importing.blame(what):
            return complete(made, **arguments)

    def source(self, text: str) -> Source | None:
        """Return where the part of a text comes from, if it is a user's own."""
        return self[text.partition(":")[0]].source

    def _says_what_is_supplied(self) -> str:
        article = "an" if self.kind[0] in "aeiou" else "a"
        given = ", ".join(key for key in self.supplied if key != "finished") or "nothing"
        return f"gcmpi gives {article} {self.kind} {given} by name, the rest are options"


class _Ready:
    """Makes a ready object: hands it over as it is."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.__doc__ = type(value).__doc__

    def __call__(self) -> object:
        return self.value


def _own_hint(name: str) -> str:
    """Return how a user's part would be named, from what was typed."""
    stem = Path(name).name.removesuffix(".py")
    module = stem if name.endswith(".py") or Path(f"{stem}.py").is_file() else "mymodule"
    return f"{module}.NAME" if module.isidentifier() else "mymodule.NAME"


def _is(function: object, value: object) -> bool:
    """Say whether a part's function is, or hands over, this very object."""
    held = function.value if isinstance(function, _Ready) else function
    if hasattr(held, "tobytes") and hasattr(value, "tobytes"):  # matrices: by their content
        return bool(held.tobytes() == value.tobytes())
    return held is value


def called_by_name(function: Callable[..., object], **arguments: object) -> object:
    """Call a user's function with those of the arguments that it takes."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return function(**arguments)
    return function(**{key: value for key, value in arguments.items() if key in parameters})


def _signature(function: object) -> Mapping[str, inspect.Parameter]:
    """Return a callable's parameters, annotations as types where that can be done."""
    assert callable(function)
    try:
        return inspect.signature(function, eval_str=True).parameters
    except NameError:  # annotations that only a type checker can resolve
        return inspect.signature(function).parameters


def _kind_of(parameter: inspect.Parameter) -> Any:
    """Return how an option of a user's own part is read: by annotation, else by its default."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is not inspect.Parameter.empty and not isinstance(annotation, str):
        return annotation
    if default is inspect.Parameter.empty or default is None:
        return bool | int | float | str
    if isinstance(default, tuple | list):
        element = type(default[0]) if default else float
        return tuple[element, ...]  # type: ignore[valid-type]
    return type(default)


def _dotted_name(value: object) -> str | None:
    """Return the name by which any process can import an object; None if there is none."""
    module = getattr(value, "__module__", None)
    qualified = getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualified, str):
        candidates = [(module, qualified)]
    else:  # an object without a name: the name of a variable of a module
        candidates = [
            (module_name, name)
            for module_name, module in list(sys.modules.items())
            if module is not sys.modules.get(importing.SCRIPT)
            for name, held in list(getattr(module, "__dict__", {}).items())
            if held is value
        ]
    for module_name, name in candidates:
        found: object = None if module_name == importing.SCRIPT else sys.modules.get(module_name)
        for piece in name.split("."):
            found = getattr(found, piece, None)
        if found is value:
            return f"{module_name}.{name}"
    return None


def _own_name(value: object) -> str:
    """Return a name for what cannot be imported, the same on all ranks that run the script."""
    qualified = getattr(value, "__qualname__", None)
    if isinstance(qualified, str):
        return qualified.replace("<locals>.", "").replace("<lambda>", "lambda")
    if hasattr(value, "tobytes"):
        digest = hashlib.sha256(repr(getattr(value, "shape", ())).encode() + value.tobytes())
        return f"matrix_{digest.hexdigest()[:8]}"
    script = getattr(sys.modules.get(importing.SCRIPT), "__dict__", {})
    named = [name for name, held in list(script.items()) if held is value]
    return named[0] if named else type(value).__name__


def _write(value: object) -> str:
    """Write an option the way `_read` reads it."""
    if isinstance(value, tuple | list):
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
    if typing.get_origin(kind) is list:
        return _convert(text, tuple[typing.get_args(kind)[0], ...])  # type: ignore[misc]
    if kind is Path or kind is Any:
        kind = str
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


ASSIGNMENTS = Registry(
    "assignment",
    ["gcmpi.codes.assignments"],
    complete="gcmpi.codes.code:complete_assignment",
    promises=AssignmentPromises,
)
ENCODINGS = Registry(
    "encoding",
    ["gcmpi.codes.encodings"],
    supplied=("A", "m", "rng", "odds", "finished"),
    complete="gcmpi.codes.code:complete_encoding",
    promises=EncodingPromises,
)
DECODERS = Registry(
    "decoder",
    ["gcmpi.codes.decoders"],
    supplied=("wire",),
    complete="gcmpi.codes.decoders.least_squares:complete",
    plain=("code", "survivors"),
    promises=DecoderPromises,
)
DATASETS: Registry[Promises] = Registry(
    "dataset", ["gcmpi.learning"], supplied=("rng",), complete="gcmpi.learning.datasets:complete"
)
PROBLEMS: Registry[Promises] = Registry(
    "problem",
    ["gcmpi.learning"],
    supplied=("features", "shape", "classes", "dtype"),
    complete="gcmpi.learning.problem:complete",
    ready=("initial", "loss", "gradient"),
)
OPTIMIZERS: Registry[Promises] = Registry(
    "optimizer",
    ["gcmpi.learning.optimizers"],
    complete="gcmpi.learning.optimizers:complete",
    ready=("step",),
    plain=("theta", "gradient", "t"),
)
STRAGGLERS: Registry[Promises] = Registry(
    "straggler model",
    ["gcmpi.records", "gcmpi.cluster.stragglers"],
    supplied=("n", "seed"),
    complete="gcmpi.cluster.stragglers:complete",
    ready=("delays",),
    plain=("t",),
)
WAITING: Registry[Promises] = Registry(
    "wait rule",
    ["gcmpi.cluster.waiting"],
    complete="gcmpi.cluster.waiting:complete",
    ready=("remaining",),
    plain=("answered", "elapsed"),
)
SWITCHES = Registry(
    "switch",
    ["gcmpi.training.switching"],
    supplied=("m", "losses"),
    promises=SwitchPromises,
)
COMPRESSORS: Registry[Promises] = Registry(
    "compression",
    ["gcmpi.cluster.wire"],
    supplied=("length", "dtype", "seed"),
    complete="gcmpi.cluster.wire:complete",
    ready=("pack", "unpack"),
)

REGISTRIES: Mapping[str, Registry[Any]] = {
    "assignment": ASSIGNMENTS,
    "encoding": ENCODINGS,
    "switch": SWITCHES,
    "decoder": DECODERS,
    "problem": PROBLEMS,
    "dataset": DATASETS,
    "optimizer": OPTIMIZERS,
    "stragglers": STRAGGLERS,
    "wait": WAITING,
    "compression": COMPRESSORS,
}
"""The parts of an experiment by the name of their setting."""
