# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of structured pruning without training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, Reconstruct, Ridge, Samples
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Range

Part = Literal["heads", "neurons"]
PARTS: tuple[Part, ...] = get_args(Part)

Heads = Annotated[
    int | None, Range(1, MOST), "how many each layer keeps; their mean if widths are uneven"
]
Importance = Annotated[
    Literal["fisher", "taylor", "magnitude"], "what tells how much a part of the network matters"
]
Multiple = Annotated[
    int | None,
    Range(1, 4096),
    "the neurons that a layer keeps are rounded to it; else to 16 if a layer has 256 or more",
]
Neurons = Heads
Parts = Annotated[tuple[Part, ...], "what is removed"]
Remove = Annotated[float, Range(0.0, 0.95), "the share of each of parts that goes"]
Widths = Annotated[
    Literal["uniform", "uneven"], "whether all layers keep as many, or each what matters"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Structured(Step):
    """Remove attention heads and FFN neurons.

    ``remove`` is the share that goes, or ``heads`` and ``neurons`` say how many stay, or
    ``latency`` which share of the layers' cost is left: widths are then chosen against the target's
    table of costs, heads and neurons against each other.
    """

    aims: ClassVar[Aim] = "latency"
    # The refitted weights have no zeros.
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="structured", init=False)
    remove: Remove = 0.3
    parts: Parts = PARTS
    heads: Heads = None
    neurons: Neurons = None
    latency: Annotated[
        float | None, Range(0.05, 0.99), "the share of the layers' cost on the target that is left"
    ] = None
    importance: Importance = "fisher"
    widths: Widths = "uniform"
    multiple: Multiple = None
    rearrange: Annotated[bool, "fisher: remove what matters little together"] = True
    reconstruct: Reconstruct = True
    ridge: Ridge = 0.01
    samples: Samples = 1024

    @property
    def needs_costs(self) -> bool:
        """See ``Step``."""
        return self.latency is not None

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other."""
        check_widths(table, self.parts)
        if self.latency is not None:
            self._check_latency(table)
        if "rearrange" in table and self.rearrange and self.importance != "fisher":
            raise table.wrong("rearrange", f"needs Fisher information, not {self.importance}")

    def _check_latency(self, table: Table) -> None:
        for name in ("remove", *PARTS):
            if name in table:
                raise table.wrong(name, "is given beside latency, which says how much goes")
        if self.widths != "uneven":
            raise table.wrong(
                "widths", 'expected "uneven": within a budget of latency each layer gets its own'
            )
        if self.importance == "magnitude":
            raise table.wrong(
                "importance",
                "expected fisher or taylor: magnitudes of heads and neurons do not compare",
            )


def check_widths(table: Table, parts: tuple[Part, ...]) -> None:
    """Raise InputError if ``table`` says something twice on how many of ``parts`` stay."""
    for part in PARTS:
        if part in table and part not in parts:
            raise table.wrong(part, f"is given, but parts leaves {part} alone")
    if "remove" in table and all(part in table for part in parts):
        raise table.wrong("remove", f"is given beside {' and '.join(parts)}, which say it all")
