# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of narrowing the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, Reconstruct, Ridge, Samples
from edgeopt.steps.step import Aim, Step
from edgeopt.steps.structured import Importance
from edgeopt.values import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden(Step):
    """Remove channels of the residual stream (the hidden size); heads stay as large as they are."""

    inputs: ClassVar[frozenset[str]] = frozenset({"text"})
    aims: ClassVar[Aim] = "latency"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers", "changed table"})
    technique: str = field(default="hidden", init=False)
    remove: Annotated[float, Range(0.0, 0.95), "the share of the channels that goes"] = 0.25
    size: Annotated[int | None, Range(1, MOST), "in place of remove: how many stay"] = None
    importance: Importance = "fisher"
    multiple: Annotated[int, Range(1, 4096), "the channels that stay are rounded to it"] = 8
    reconstruct: Reconstruct = True
    ridge: Ridge = 0.01
    samples: Samples = 1024

    def check(self, table: Table) -> None:
        """Raise InputError if both remove and size are given."""
        if "remove" in table and "size" in table:
            raise table.wrong("remove", "is given beside size, which says it already")
