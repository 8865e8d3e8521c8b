"""The options of factoring linear layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MIN_SAMPLES, MOST, read_max_drop

LINEARS = ("qkv", "attention_output", "ffn_input", "ffn_output")
SIZES = ("rank", "share", "energy")


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank:
    """Make two linear layers of low rank of each linear layer in ``parts``.

    The rank is ``rank``; or such that ``share`` of the multiplications is left; or the least that
    keeps ``energy`` of the outputs' variance (with ``method`` "svd": of the squared weights). It
    is rounded to a multiple of ``multiple``, down (up for ``energy``). A layer that would not
    become cheaper is left whole. ``samples`` texts show the inputs that "activation" weighs errors
    by; "svd" looks at no text.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
    makes: ClassVar[frozenset[str]] = frozenset({"factored layers"})
    technique: str = field(default="low_rank", init=False)
    method: str = "activation"
    parts: tuple[str, ...] = LINEARS
    rank: int | None = None
    share: float | None = None
    energy: float | None = None
    multiple: int = 1
    samples: int = 512
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> LowRank:
        """Read a step. Raises InputError unless exactly one of rank, share and energy is given."""
        if sum(name in table for name in SIZES) != 1:
            raise table.wrong("rank", "expected exactly one of rank, share and energy")
        step = cls(
            method=table.choice("method", ("activation", "svd"), "activation"),
            parts=table.words("parts", LINEARS) if "parts" in table else LINEARS,
            rank=table.integer("rank", None, high=MOST),
            share=table.number("share", None, low=0.01, high=0.99),
            energy=table.number("energy", None, low=0.01, high=0.9999),
            multiple=table.integer("multiple", 1, high=4096),
            samples=table.integer("samples", 512, low=MIN_SAMPLES, high=MOST),
            max_drop=read_max_drop(table),
        )
        if "samples" in table and step.method == "svd":
            raise table.wrong("samples", "is given, but the method svd looks at no text")
        return step
