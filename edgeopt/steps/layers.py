"""The options of dropping layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MIN_SAMPLES, MOST, read_max_drop


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """Drop whole layers: those of ``drop`` (from 0), or the ``count`` that change least.

    ``samples`` texts show what a layer changes.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
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
            drop=table.ascending("drop", low=0, high=MOST) if "drop" in table else (),
            count=table.integer("count", None, high=MOST),
            samples=table.integer("samples", 256, low=MIN_SAMPLES, high=MOST),
            max_drop=read_max_drop(table),
        )
