"""The options of structured pruning without training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MIN_SAMPLES, MOST, read_max_drop

IMPORTANCES = ("fisher", "taylor", "magnitude")
PARTS = ("heads", "neurons")


@dataclass(frozen=True, kw_only=True, slots=True)
class Structured:
    """Remove attention heads and FFN neurons.

    ``remove`` is the share that goes, of each of ``parts``; ``heads`` and ``neurons`` say instead
    how many each layer keeps (on average where ``widths`` is "uneven"). The neurons that a layer
    keeps are rounded to a multiple of ``multiple`` (None: of 16, as many as kernels compute
    together, where a layer has 256 or more). ``latency`` says in place of all three which share of
    the layers' cost is left: widths are then chosen against the target's table of costs, heads and
    neurons against each other. ``samples`` texts give importance and reconstruction;
    ``ridge`` is the penalty's share of the mean square input.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
    # The refitted weights have no zeros.
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="structured", init=False)
    remove: float = 0.3
    parts: tuple[str, ...] = PARTS
    heads: int | None = None
    neurons: int | None = None
    latency: float | None = None
    importance: str = "fisher"
    widths: str = "uniform"
    multiple: int | None = None
    rearrange: bool = True
    reconstruct: bool = True
    ridge: float = 0.01
    samples: int = 1024
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Structured:
        """Read a step. Raises InputError where options contradict each other."""
        step = cls(
            **read_widths(table, remove=0.3),
            latency=table.number("latency", None, low=0.05, high=0.99),
            importance=table.choice("importance", IMPORTANCES, "fisher"),
            rearrange=table.get("rearrange", bool, True),
            reconstruct=table.get("reconstruct", bool, True),
            ridge=table.number("ridge", 0.01, low=1e-8, high=1e3),
            samples=table.integer("samples", 1024, low=MIN_SAMPLES, high=MOST),
            max_drop=read_max_drop(table),
        )
        if step.latency is not None:
            _check_latency(table, step)
        if "rearrange" in table and step.rearrange and step.importance != "fisher":
            raise table.wrong("rearrange", f"needs Fisher information, not {step.importance}")
        return step


def read_widths(table: Table, *, remove: float) -> dict[str, Any]:
    """Return what ``table`` says on how many heads and neurons stay, by the options' names.

    ``remove`` is the share that goes where it says nothing. Raises InputError where the options
    contradict each other.
    """
    parts = table.words("parts", PARTS) if "parts" in table else PARTS
    found = {
        "remove": table.number("remove", remove, low=0.0, high=0.95),
        "parts": parts,
        "heads": table.integer("heads", None, high=MOST),
        "neurons": table.integer("neurons", None, high=MOST),
        "widths": table.choice("widths", ("uniform", "uneven"), "uniform"),
        "multiple": table.integer("multiple", None, high=4096),
    }
    for part in PARTS:
        if part in table and part not in parts:
            raise table.wrong(part, f"is given, but parts leaves {part} alone")
    if "remove" in table and all(part in table for part in parts):
        raise table.wrong("remove", f"is given beside {' and '.join(parts)}, which say it all")
    return found


def _check_latency(table: Table, step: Structured) -> None:
    """Raise InputError where other options do not go with a budget of latency."""
    for name in ("remove", *PARTS):
        if name in table:
            raise table.wrong(name, "is given beside latency, which says how much goes")
    if step.widths != "uneven":
        raise table.wrong(
            "widths", 'expected "uneven": within a budget of latency each layer gets its own'
        )
    if step.importance == "magnitude":
        raise table.wrong(
            "importance",
            "expected fisher or taylor: magnitudes of heads and neurons do not compare",
        )
