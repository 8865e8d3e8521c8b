"""The options of a smaller table of token embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, read_max_drop


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """Factor the table of token embeddings, or round it, or both in this order.

    ``rank`` is the width of the narrow table, or ``energy`` the share of the variance, over the
    tokens of the user's texts, that it keeps. ``bits`` (4, 8) rounds each ``group`` of numbers in
    a row by a scale of its own.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"changed table"})
    technique: str = field(default="embeddings", init=False)
    rank: int | None = None
    energy: float | None = None
    bits: int | None = None
    group: int = 32
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Embeddings:
        """Read a step. Raises InputError where nothing is asked for, or the same thing twice."""
        step = cls(
            rank=table.integer("rank", None, high=MOST),
            energy=table.number("energy", None, low=0.01, high=0.9999),
            bits=table.integer("bits", None),
            group=table.integer("group", 32, low=2, high=4096),
            max_drop=read_max_drop(table),
        )
        if "rank" in table and "energy" in table:
            raise table.wrong("rank", "is given beside energy, which says it already")
        if step.rank is None and step.energy is None and step.bits is None:
            raise table.wrong("rank", "expected rank or energy, bits, or both")
        if step.bits not in (None, 4, 8):
            raise table.wrong("bits", f"expected 4 or 8, found {step.bits}")
        if "group" in table and step.bits is None:
            raise table.wrong("group", "is given without bits")
        return step
