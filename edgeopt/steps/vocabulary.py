"""The options of trimming the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, read_max_drop


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Keep the tokens of the user's data, ``size`` tokens at most.

    Also kept are the first ``first`` tokens of the original order, and always the special tokens
    and the pieces without which a text might not tokenise.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "size"
    undoes: ClassVar[frozenset[str]] = frozenset({"changed table"})
    technique: str = field(default="vocabulary", init=False)
    size: int | None = None
    first: int = 0
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Vocabulary:
        """Read a step."""
        return cls(
            size=table.integer("size", None, high=MOST),
            first=table.integer("first", 0, low=0, high=MOST),
            max_drop=read_max_drop(table),
        )
