# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of movement pruning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, LabelShare, Temperature
from edgeopt.steps.step import Aim, Step
from edgeopt.steps.structured import PARTS, Parts, Widths
from edgeopt.steps.training import Training
from edgeopt.values import Range

_TRAINING = Training(epochs=6, learning_rate=5e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Movement(Step):
    """Learn which heads and FFN neurons go, together with the weights.

    ``method`` "topk" removes the share ``remove`` of those with the lowest scores (in each layer if
    ``widths`` is "uniform", in the network as a whole if it is "uneven"); "sigmoid" removes all
    whose sigmoid(score) is not over ``threshold``: how many go is then found out. With ``block``
    heads without a square left are removed, and of the others zeros stay. With ``outputs`` nothing
    is removed: blocks become zero, which TVM's kernels skip, and other engines gain nothing.
    Nothing goes before ``begin``, and the last goes at ``end``; then the neurons that a layer keeps
    are a multiple of 16 if it had 256 or more.
    """

    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="movement", init=False)
    method: Annotated[Literal["topk", "sigmoid"], "how scores decide what goes"] = "topk"
    remove: Annotated[float, Range(0.0, 0.95), "topk: the share that goes"] = 0.5
    parts: Parts = PARTS
    widths: Widths = "uneven"
    block: Annotated[
        int | None, Range(2, MOST), "mask attention in squares of this side, not by heads"
    ] = None
    outputs: Annotated[
        Literal[4, 8, 16] | None,
        "mask blocks of so many outputs of one input, in place of heads and neurons",
    ] = None
    threshold: Annotated[float, Range(0.001, 0.499), "sigmoid: what is not over it goes"] = 0.1
    penalty: Annotated[float, Range(0.0, 1e6), "sigmoid: the weight of the scores' mean"] = 1.0
    begin: Annotated[float, Range(0.0, 0.9), "nothing goes before this share of the steps"] = 0.1
    end: Annotated[float, Range(0.01, 0.99), "the last goes at this share of the steps"] = 0.7
    score_learning_rate: Annotated[float, Range(1e-6, 10.0), "the learning rate of the scores"] = (
        0.01
    )
    temperature: Temperature = 2.0
    label_share: LabelShare = 0.1
    training: Annotated[Training, "how weights and scores are learnt"] = _TRAINING

    @property
    def aims(self) -> Aim:
        """Latency; with outputs size, as what is counted on a target knows no zeros."""
        return "size" if self.outputs else "latency"

    @property
    def makes(self) -> frozenset[str]:
        """Zeros with block, as squares that are no whole head stay, and with outputs."""
        return frozenset({"zeros"} if self.block or self.outputs else ())

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other."""
        others = {"topk": ("threshold", "penalty"), "sigmoid": ("remove", "widths")}
        for name in others[self.method]:
            if name in table:
                raise table.wrong(name, f"says nothing where method is {self.method!r}")
        if self.block and "heads" not in self.parts:
            raise table.wrong("block", "is for attention, but parts leaves heads alone")
        if self.block and self.widths == "uniform":
            raise table.wrong("widths", "with block heads are emptied unevenly")
        if self.block and self.outputs:
            raise table.wrong("outputs", "is another kind of block than block is")
        if self.begin >= self.end:
            raise table.wrong("end", f"expected more than begin ({self.begin:g})")
