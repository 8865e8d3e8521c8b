"""The steps of compression that a recipe may hold, as data: each technique's name and options.

A technique is the module ``edgeopt.compress.NAME``; ``TECHNIQUES`` is the one place where names
are looked up. Each dataclass reads itself from its ``[[compress]]`` table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeopt.errors import InputError
from edgeopt.fields import Table

IMPORTANCES = ("fisher", "taylor", "magnitude")
PARTS = ("heads", "neurons")
MIN_SAMPLES = 16
"""Fewer texts say nothing about what a part of a network is for."""

_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Keep the tokens of the user's data, ``size`` tokens at most.

    Also kept are the first ``first`` tokens of the original order, and always the special tokens
    and the pieces without which a text might not tokenise.
    """

    technique: str = field(default="vocabulary", init=False)
    size: int | None = None
    first: int = 0
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Vocabulary:
        """Read a step."""
        return cls(
            size=table.integer("size", None, high=_MOST),
            first=table.integer("first", 0, low=0, high=_MOST),
            max_drop=_max_drop(table),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Structured:
    """Remove attention heads and FFN neurons.

    ``remove`` is the share that goes, of each of ``parts``; ``heads`` and ``neurons`` say instead
    how many each layer keeps (on average where ``widths`` is "uneven"). The neurons that a layer
    keeps are rounded to a multiple of ``multiple``. ``samples`` texts give importance and
    reconstruction; ``ridge`` is the penalty's share of the mean square input.
    """

    technique: str = field(default="structured", init=False)
    remove: float = 0.3
    parts: tuple[str, ...] = PARTS
    heads: int | None = None
    neurons: int | None = None
    importance: str = "fisher"
    widths: str = "uniform"
    multiple: int = 1
    rearrange: bool = True
    reconstruct: bool = True
    ridge: float = 0.01
    samples: int = 1024
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Structured:
        """Read a step. Raises InputError where options contradict each other."""
        parts = table.words("parts", PARTS) if "parts" in table else PARTS
        step = cls(
            remove=table.number("remove", 0.3, low=0.0, high=0.95),
            parts=parts,
            heads=table.integer("heads", None, high=_MOST),
            neurons=table.integer("neurons", None, high=_MOST),
            importance=table.choice("importance", IMPORTANCES, "fisher"),
            widths=table.choice("widths", ("uniform", "uneven"), "uniform"),
            multiple=table.integer("multiple", 1, high=4096),
            rearrange=table.get("rearrange", bool, True),
            reconstruct=table.get("reconstruct", bool, True),
            ridge=table.number("ridge", 0.01, low=1e-8, high=1e3),
            samples=table.integer("samples", 1024, low=MIN_SAMPLES, high=_MOST),
            max_drop=_max_drop(table),
        )
        for part in PARTS:
            if part in table and part not in parts:
                raise table.wrong(part, f"is given, but parts leaves {part} alone")
        if "remove" in table and all(part in table for part in parts):
            raise table.wrong("remove", f"is given beside {' and '.join(parts)}, which say it all")
        if "rearrange" in table and step.rearrange and step.importance != "fisher":
            raise table.wrong("rearrange", f"needs Fisher information, not {step.importance}")
        return step


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """Drop whole layers: those of ``drop`` (from 0), or the ``count`` that change least.

    ``samples`` texts show what a layer changes.
    """

    technique: str = field(default="layers", init=False)
    drop: tuple[int, ...] = ()
    count: int | None = None
    samples: int = 256
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Layers:
        """Read a step. Raises InputError unless exactly one of drop and count is given."""
        if ("drop" in table) == ("count" in table):
            raise table.wrong("drop", "expected either drop (layers by index) or count")
        return cls(
            drop=table.ascending("drop", low=0, high=_MOST) if "drop" in table else (),
            count=table.integer("count", None, high=_MOST),
            samples=table.integer("samples", 256, low=MIN_SAMPLES, high=_MOST),
            max_drop=_max_drop(table),
        )


Step = Vocabulary | Structured | Layers
TECHNIQUES: dict[str, type[Vocabulary] | type[Structured] | type[Layers]] = {
    "vocabulary": Vocabulary,
    "structured": Structured,
    "layers": Layers,
}


def read_steps(tables: Sequence[Table]) -> tuple[Step, ...]:
    """Return the steps of a recipe's ``[[compress]]`` tables, in order.

    Raises InputError, with the dotted key, for what is wrong and for a technique that stands there
    twice: one step of a kind measures on the whole network and does it all.
    """
    steps: list[Step] = []
    for table in tables:
        name = table.choice("technique", tuple(TECHNIQUES))
        if any(step.technique == name for step in steps):
            raise table.wrong("technique", f"{name!r} stands there twice, and once does it all")
        steps.append(TECHNIQUES[name].read(table))
        table.close()
    return tuple(steps)


def wrong(step: Step, option: str, message: str) -> InputError:
    """Return the InputError for an option that does not fit the model; the caller raises it."""
    return InputError(message, where=f"compress step {step.technique}: {option}")


def _max_drop(table: Table) -> float:
    return table.number("max_drop", 0.01, low=0.0, high=1.0)
