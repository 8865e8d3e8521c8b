# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of setting single weights to zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from edgeopt.fields import Table
from edgeopt.steps.limits import Samples, Sparsity
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Like, Range

Part = Literal["attention", "ffn"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unstructured(Step):
    """Set weights of the layers' projections to zero; the shapes stay.

    ``scope`` "global" compares the weights of all layers with each other (``method`` "magnitude"
    only), "layer" those of each projection. "sparsegpt" and "wanda" look at texts.
    """

    aims: ClassVar[Aim] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    technique: str = field(default="unstructured", init=False)
    method: Annotated[Literal["sparsegpt", "wanda", "magnitude"], "what tells which weights go"] = (
        "sparsegpt"
    )
    sparsity: Sparsity = 0.5
    pattern: Annotated[
        str | None,
        Like(r"[1-9]\d?:[1-9]\d?"),
        "N:M, in place of sparsity: N of each M weights along a projection's inputs stay",
    ] = None
    scope: Annotated[Literal["layer", "global"], "which weights are compared"] = "layer"
    parts: Annotated[tuple[Part, ...], "whose projections"] = PARTS
    damp: Annotated[
        float, Range(1e-6, 10.0), "what is added to the inputs' mean square, as a share of it"
    ] = 0.01
    samples: Samples = 256

    @property
    def group(self) -> tuple[int, int] | None:
        """N and M of ``pattern``."""
        if self.pattern is None:
            return None
        kept, of = self.pattern.split(":")
        return int(kept), int(of)

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other."""
        if self.group is not None:
            kept, of = self.group
            if kept >= of:
                raise table.wrong("pattern", f"keeps {kept} of {of}, so that nothing goes")
            if "sparsity" in table:
                raise table.wrong("sparsity", "is given beside pattern, which says it")
        if self.scope == "global" and (self.method != "magnitude" or self.group is not None):
            raise table.wrong("scope", 'global needs method = "magnitude" and no pattern')
