"""An experiment: everything that fixes a run, from defaults, TOML and the command line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

from gcmpi.codes.code import Code
from gcmpi.codes.ensemble import Ensemble, spec_of
from gcmpi.formats import WireType
from gcmpi.importing import data_source
from gcmpi.learning import batches, datasets
from gcmpi.registry import REGISTRIES, Source, Spec
from gcmpi.sentences import did_you_mean
from gcmpi.training import memory


@dataclass(frozen=True)
class Experiment:
    """All that fixes a run, parts as ``name:key=value,key=value``.

    A part may also be handed over as it is: a function, a class, a ready object, a matrix. What
    can be imported is stored by its dotted name (``mycodes.gaussian``). Anything else is stored as
    ``__main__.NAME``: the script has to be run again to run the experiment again.

    Attributes
    ----------
    code
        A `gcmpi.Ensemble`, or one `gcmpi.Code`, in place of assignment, encoding and m; never both.
    assignment, encoding, m
        The code: which worker holds which subset, what it sends, and that in d/m numbers.
    switch
        Whether m is the same in all iterations or chosen anew, from 1 to m.
    decoder
        How the server combines what came: optimally for messages of that type (auto), or by plain
        least-squares, or as a source proposes.
    hosts
        Who holds what, so that holders of a subset do not share a host: the number of hosts, which
        ranks fill one after the other; ``auto``, the hosts of the run; ``odds``, where workers are
        known to straggle with different probabilities; ``off``; or the column of the assignment
        that each worker holds, joined by +, as a run that is replayed has it.
    memory
        Whether the server remembers what it has learnt of the subset gradients: 0, or how much of
        what is new it believes, in (0, 1], or auto: 1, and with mini-batches a quarter of the part
        of the rows that they take, but at least 0.01. With memory nothing is divided by alpha.
    parts
        Whether a worker combines ``all`` m parts of its gradients, or sends one part ``in-turn`` of
        what it would send with m = 1, which needs memory.
    relabel
        Whether workers and subsets swap roles at random in every iteration, which makes any fixed
        code on a circulant assignment unbiased for workers that are late equally often.
    problem, dataset, dtype
        The loss, the data, and the type of parameters and gradients.
    batch
        How many rows of each subset a gradient takes: a fraction, or ``rows:COUNT``.
    optimizer, iterations
        How the server descends, and for how long.
    stragglers, wait
        How late workers are made, and when the server stops waiting.
    late
        What is done with answers to earlier iterations: ``drop`` them, or ``remember`` what they
        say of the gradients, with memory.
    wire
        The type of the coded vectors on their way.
    compression
        What is left out of them, for comparison with codes of the same number of bytes.
    seed
        Data split, initial parameters, codes and stragglers follow from it, independently.
    rescale
        ``alpha`` divides the decoded gradient by its mean shrinkage (for unbiased codes), ``none``
        does not.
    audit_every
        True gradient, loss and accuracy are computed every so many iterations, untimed.
    target_accuracy
        The run ends when an audit finds this test accuracy; 0 never.
    target_loss
        The run ends when an audit finds this mean training loss or a smaller one; 0 never.
    target_excess
        The same for a loss that is above the smallest one by at most this part of it: for problems
        with ``l2`` without hidden layers, whose optimum is found before the run; 0 never.
    warmup
        The first iterations that are left out of timing tables.

    Raises
    ------
    ValueError
        If a value is impossible or a part or one of its options does not exist.
    """

    assignment: str = "projective-plane:order=5"
    encoding: str = "random-diagonal"
    m: int = 2
    switch: str = "never"
    decoder: str = "auto"
    hosts: str = "off"
    memory: str = memory.NONE
    parts: Literal["all", "in-turn"] = "all"
    relabel: bool = False
    problem: str = "mlp"
    dataset: str = "mnist-10k"
    dtype: Literal["float32", "float64"] = "float32"
    batch: str = batches.WHOLE
    optimizer: str = "momentum:rate=0.2"
    iterations: int = 100
    stragglers: str = "bernoulli:q=0.25"
    wait: str = "deadline:auto"
    late: Literal["drop", "remember"] = "drop"
    wire: WireType = "float32"
    compression: str = "none"
    seed: int = 0
    rescale: Literal["alpha", "none"] = "alpha"
    audit_every: int = 10
    target_accuracy: float = 0.0
    target_loss: float = 0.0
    target_excess: float = 0.0
    warmup: int = 3
    code: InitVar[Ensemble | Code | None] = None

    if TYPE_CHECKING:

        def __init__(self, *, code: Ensemble | Code | None = None, **settings: Any) -> None: ...

    def __new__(cls, *_: object, **settings: object) -> Experiment:
        """Refuse settings that do not exist, with a guess what was meant.

        Raises
        ------
        ValueError
            Also where code stands beside what it replaces.
        """
        for name in settings:
            if name not in cls.__dataclass_fields__:
                raise ValueError(_unknown(name, cls.__dataclass_fields__))
        beside = sorted(settings.keys() & {"assignment", "encoding", "m"})
        if settings.get("code") is not None and beside:
            raise ValueError(
                f"give code= or assignment=, encoding= and m=, not both: {', '.join(beside)} "
                f"{'stands' if len(beside) == 1 else 'stand'} beside the code"
            )
        return super().__new__(cls)

    def __post_init__(self, code: Ensemble | Code | None) -> None:
        object.__setattr__(self, "batch", batches.canonical(self.batch))
        object.__setattr__(self, "memory", memory.canonical(self.memory))
        if code is not None:
            self._take(code)
        if isinstance(self.dataset, str):
            object.__setattr__(self, "dataset", datasets.canonical(self.dataset))
        for name, spec in self.specs.items():
            object.__setattr__(self, name, str(spec))
        for name, kind in _KINDS.items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), kind))
        for name, least in (("m", 1), ("iterations", 1), ("audit_every", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{flag(name)} must be at least {least}, not {value}")
        self._check_target()
        self._check_hosts()
        if self.warmup < 0:
            raise ValueError(f"warmup must be at least 0, not {self.warmup}")

    def _check_target(self) -> None:
        """Refuse impossible targets, and more than one."""
        if not 0 <= self.target_accuracy <= 1:
            raise ValueError(
                f"--target-accuracy must be between 0 and 1, not {self.target_accuracy:g}"
            )
        for name in ("target_loss", "target_excess"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{flag(name)} must be above 0 and finite, or 0 for no target, not "
                    f"{getattr(self, name):g}"
                )
        given = [flag(name) for name in TARGETS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(
                f"a run has one target, not {' and '.join(given)}: leave out all but one"
            )

    def _check_hosts(self) -> None:
        if self.hosts == "off":
            return
        if self.hosts not in ("auto", "odds") and not all(
            number.isdecimal() for number in self.hosts.split("+")
        ):
            raise ValueError(
                "--hosts must be off, a number of hosts, auto (the hosts of the run), odds (by how "
                f"often workers straggle) or the column of each worker joined by +, not "
                f"{self.hosts!r}"
            )
        if self.relabel:
            raise ValueError(
                f"--hosts {self.hosts:.20} places workers for the whole run, and --relabel gives "
                "them new names in every iteration: leave one of them out"
            )

    def _take(self, code: Ensemble | Code) -> None:
        """Use an ensemble's assignment, encoding and m, and its new names."""
        ensemble = code if isinstance(code, Ensemble) else Ensemble.of(code)
        taken = {
            "assignment": ensemble.assignment,
            "encoding": ensemble.encoding,
            "m": ensemble.m,
            "relabel": ensemble.relabel or self.relabel,
        }
        if ensemble.placement is not None:
            taken["hosts"] = "+".join(map(str, ensemble.placement))
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    @cached_property
    def specs(self) -> Mapping[str, Spec]:
        """Name and options of every part, by setting; read once, while the experiment is made."""
        return {name: spec_of(parts, getattr(self, name)) for name, parts in REGISTRIES.items()}

    @property
    def remembers(self) -> bool:
        """Whether the server decodes with memory."""
        return self.memory != memory.NONE

    @property
    def own(self) -> dict[str, Source]:
        """Where the user's own parts and data come from, by setting."""
        found = {
            name: registry[self.specs[name].name].source for name, registry in REGISTRIES.items()
        }
        data = self.specs["dataset"]
        if data.name == "file":
            found["dataset"] = data_source(str(data.options["path"]))
        return {name: source for name, source in found.items() if source is not None}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Experiment:
        """Make an experiment of settings by name; a part may be a text or a table with a name.

        Raises
        ------
        ValueError
            For a name that is no setting (with a guess what was meant) or a wrong type.
        """
        types = typing.get_type_hints(cls)
        types.pop("code")
        checked = {}
        for name, value in settings.items():
            if name not in types:
                raise ValueError(_unknown(name, types))
            checked[name] = _typed(name, value, types[name])
        return cls(**checked)

    @classmethod
    def from_toml(cls, text: str) -> Experiment:
        """Read what `toml` writes, or a part of it; the rest has its default."""
        return cls.from_settings(tomllib.loads(text))

    def change(self, settings: Mapping[str, Any]) -> Experiment:
        """Return the experiment with other settings; ``part.option`` changes one option."""
        whole: dict[str, Any] = dataclasses.asdict(self)
        remembers = str(settings.get("memory", self.memory)) != memory.NONE
        if settings.get("rescale") == "alpha" and remembers:
            raise ValueError(
                "--rescale alpha is for decoding without memory: what memory adds needs no "
                "division; leave out --rescale, or give --memory 0"
            )
        for key, value in settings.items():
            name, dot, option = key.partition(".")
            if not dot:
                whole[key] = value
                continue
            if name not in REGISTRIES:
                raise ValueError(f"{key}: {name!r} has no options; {', '.join(REGISTRIES)} have")
            spec = REGISTRIES[name].parse(str(whole[name]))
            whole[name] = str(Spec(spec.name, {**spec.options, option: value}))
        return Experiment.from_settings(whole)

    @property
    def toml(self) -> str:
        """The experiment as TOML, one line a setting."""
        # JSON writes strings and numbers as TOML does
        settings = dataclasses.asdict(self).items()
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that tell experiments apart.

        Of what differs from the defaults: a setting that a later version adds changes no name.
        """
        return hashlib.sha256("".join(self.differences).encode()).hexdigest()[:8]

    @property
    def differences(self) -> list[str]:
        """The lines of `toml` that are not the default."""
        ordinary = _defaults()
        return [line for line in self.toml.splitlines(keepends=True) if line not in ordinary]

    @property
    def label(self) -> str:
        """A short name of the code and of the server's memory, for files and plots."""
        name, _, options = self.encoding.partition(":")
        code = name if not options else f"{name}-{options}"
        if self.parts != "all":
            code = f"{code}-{self.parts}"
        kept = f"-memory{self.memory}" if self.remembers else ""
        return f"{code}-m{self.m}{kept}".replace(":", "-").replace(",", "-").replace("=", "")


TARGETS = ("target_accuracy", "target_loss", "target_excess")
"""The settings that end a run early."""


@cache
def _defaults() -> frozenset[str]:
    """Return the lines of the TOML of an experiment without settings."""
    return frozenset(Experiment().toml.splitlines(keepends=True))


def _unknown(name: str, known: Iterable[str]) -> str:
    """Return the sentence about a setting that does not exist."""
    names = list(known)
    return f"unknown setting {name!r}{did_you_mean(name, names)}; settings are {', '.join(names)}"


def flag(name: str) -> str:
    """Return the option of the command line that sets this."""
    return "--" + name.replace("_", "-")


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Return a setting as its type, or say what it must be."""
    if isinstance(value, dict) and name in REGISTRIES and "name" in value:
        options = {key: _joined(option) for key, option in value.items() if key != "name"}
        text = ",".join(f"{key}={option}" for key, option in options.items())
        return f"{value['name']}:{text}" if text else value["name"]
    if name in REGISTRIES and not isinstance(value, str | bool | int | float | list):
        return value  # a part that is handed over as it is
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(
                f"{flag(name)} must be one of {', '.join(typing.get_args(kind))}, not {value!r}"
            )
        return value
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if name in ("batch", "memory", "hosts") and numeric:
        return str(value)  # a number in TOML
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is str and not isinstance(value, str):
            raise ValueError  # noqa: TRY301
        if kind is int and (isinstance(value, bool) or int(value) != float(value)):
            raise ValueError  # noqa: TRY301
        return kind(value)
    except (TypeError, ValueError, KeyError):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise ValueError(f"{flag(name)} must be {words[kind]}, not {value!r}") from None


def _joined(option: Any) -> str:
    if isinstance(option, list):
        return "+".join(str(item) for item in option)
    return str(option).lower() if isinstance(option, bool) else str(option)


_KINDS = {
    name: kind
    for name, kind in typing.get_type_hints(Experiment).items()
    if name not in (*REGISTRIES, "batch", "code")
}
"""The types of the settings that are no parts."""
