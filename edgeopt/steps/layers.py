# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of dropping layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, Samples
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers(Step):
    """Drop whole layers: those of ``drop``, or the ``count`` that change least."""

    aims: ClassVar[Aim] = "latency"
    technique: str = field(default="layers", init=False)
    drop: Annotated[tuple[int, ...], Range(0, MOST), "the layers that go (from 0)"] = ()
    count: Annotated[int | None, Range(1, MOST), "how many go"] = None
    samples: Samples = 256

    def check(self, table: Table) -> None:
        """Raise InputError unless exactly one of drop and count is given."""
        if ("drop" in table) == ("count" in table):
            raise table.wrong("drop", "expected either drop (layers by index) or count")
