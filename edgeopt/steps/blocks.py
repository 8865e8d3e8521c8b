# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of setting blocks of weights to zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import LabelShare, Ridge, Samples, Temperature
from edgeopt.steps.step import Aim, Step
from edgeopt.steps.structured import Widths
from edgeopt.steps.training import Training
from edgeopt.steps.unstructured import PARTS, Part
from edgeopt.values import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks(Step):
    """Set blocks of weights to zero, which TVM's kernels skip; other engines gain nothing.

    ``cost`` is what is left of the work of the layers' projections, by the table of those kernels.
    If ``widths`` is "uneven", the projections that matter least lose most; one of which too few
    blocks would go stays whole. What is left is refitted by least squares in each of ``rounds``.
    With a table ``recovery`` it then learns, with the zeros where they are, and the last weights
    stay.
    """

    aims: ClassVar[Aim] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="blocks", init=False)
    cost: Annotated[float, Range(0.03, 1.0), "what is left of the projections' work"] = 0.5
    outputs: Annotated[
        Literal[4, 8, 16], "of a block, of one input: 4 for ARM, 8 with AVX2, 16 with AVX-512"
    ] = 4
    importance: Annotated[
        Literal["fisher", "output", "magnitude"], "what tells which blocks go"
    ] = "fisher"
    widths: Widths = "uneven"
    parts: Annotated[tuple[Part, ...], "whose projections"] = PARTS
    rounds: Annotated[int, Range(1, 20), "in how many blocks go, refitted after each"] = 3
    ridge: Ridge = 0.01
    samples: Samples = 512
    temperature: Temperature = 2.0
    label_share: LabelShare = 0.1
    recovery: Annotated[Training | None, "how what is left learns; without it, it does not"] = None

    @property
    def training(self) -> Training | None:
        """How what is left learns."""
        return self.recovery

    def check(self, table: Table) -> None:
        """Raise InputError for a recovery that would end early."""
        if self.recovery is not None and self.recovery.patience is not None:
            raise table.table("recovery").wrong(
                "patience", "says nothing here: the last weights stay"
            )
