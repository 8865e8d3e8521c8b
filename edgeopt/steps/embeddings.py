# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of a smaller table of token embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings(Step):
    """Factor the table of token embeddings, or round it, or both in this order."""

    inputs: ClassVar[frozenset[str]] = frozenset({"text"})
    aims: ClassVar[Aim] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"changed table"})
    technique: str = field(default="embeddings", init=False)
    rank: Annotated[int | None, Range(1, MOST), "the width of the narrow table"] = None
    energy: Annotated[
        float | None,
        Range(0.01, 0.9999),
        "in place of rank: the share of the variance over the texts' tokens that is kept",
    ] = None
    bits: Annotated[Literal[4, 8] | None, "of a rounded number"] = None
    group: Annotated[
        int, Range(2, 4096, "numbers"), "so many of a row share a scale, if bits are given"
    ] = 32

    def check(self, table: Table) -> None:
        """Raise InputError if nothing is asked for, or the same thing twice."""
        if "rank" in table and "energy" in table:
            raise table.wrong("rank", "is given beside energy, which says it already")
        if self.rank is None and self.energy is None and self.bits is None:
            raise table.wrong("rank", "expected rank or energy, bits, or both")
        if "group" in table and self.bits is None:
            raise table.wrong("group", "is given without bits")
