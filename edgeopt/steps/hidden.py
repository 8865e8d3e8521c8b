"""The options of narrowing the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MIN_SAMPLES, MOST, read_max_drop
from edgeopt.steps.structured import IMPORTANCES


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """Remove channels of the residual stream (the hidden size); heads stay as large as they are.

    ``remove`` is the share that goes, or ``size`` how many channels stay, in either case rounded
    to a multiple of ``multiple``. With ``reconstruct`` the norms and what reads them are refitted
    on ``samples`` texts; ``ridge`` is the penalty's share of the mean square input.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers", "changed table"})
    technique: str = field(default="hidden", init=False)
    remove: float = 0.25
    size: int | None = None
    importance: str = "fisher"
    multiple: int = 8
    reconstruct: bool = True
    ridge: float = 0.01
    samples: int = 1024
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Hidden:
        """Read a step. Raises InputError where both remove and size are given."""
        if "remove" in table and "size" in table:
            raise table.wrong("remove", "is given beside size, which says it already")
        return cls(
            remove=table.number("remove", 0.25, low=0.0, high=0.95),
            size=table.integer("size", None, high=MOST),
            importance=table.choice("importance", IMPORTANCES, "fisher"),
            multiple=table.integer("multiple", 8, high=4096),
            reconstruct=table.get("reconstruct", bool, True),
            ridge=table.number("ridge", 0.01, low=1e-8, high=1e3),
            samples=table.integer("samples", 1024, low=MIN_SAMPLES, high=MOST),
            max_drop=read_max_drop(table),
        )
