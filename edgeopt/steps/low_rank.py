# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of factoring linear layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, Samples
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Range

Linear = Literal["qkv", "attention_output", "ffn_input", "ffn_output"]
LINEARS: tuple[Linear, ...] = get_args(Linear)
SIZES = ("rank", "share", "energy")


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank(Step):
    """Make two linear layers of low rank of each linear layer in ``parts``.

    Exactly one of ``rank``, ``share`` and ``energy`` says how low. A layer that would not become
    cheaper is left whole. "activation" weighs errors by the inputs that texts show; "svd" looks at
    no text.
    """

    aims: ClassVar[Aim] = "latency"
    makes: ClassVar[frozenset[str]] = frozenset({"factored layers"})
    technique: str = field(default="low_rank", init=False)
    method: Annotated[Literal["activation", "svd"], "what errors are weighed by"] = "activation"
    parts: Annotated[tuple[Linear, ...], "which linear layers"] = LINEARS
    rank: Annotated[int | None, Range(1, MOST), "the rank"] = None
    share: Annotated[
        float | None, Range(0.01, 0.99), "the share of the multiplications that is left"
    ] = None
    energy: Annotated[
        float | None,
        Range(0.01, 0.9999),
        "the share of the outputs' variance (svd: of the squared weights) that is kept",
    ] = None
    multiple: Annotated[int, Range(1, 4096), "the rank is rounded to it, down (up with energy)"] = 1
    samples: Samples = 512

    def check(self, table: Table) -> None:
        """Raise InputError unless exactly one size is given."""
        if sum(name in table for name in SIZES) != 1:
            raise table.wrong("rank", "expected exactly one of rank, share and energy")
        if "samples" in table and self.method == "svd":
            raise table.wrong("samples", "is given, but the method svd looks at no text")
