# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of looking for a lottery ticket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from edgeopt.steps.limits import MOST, LabelShare, Sparsity, Temperature
from edgeopt.steps.step import Aim, Step
from edgeopt.steps.training import Training
from edgeopt.values import Range

_TRAINING = Training(epochs=3, learning_rate=5e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lottery(Step):
    """Train, set the smallest weights to zero, rewind the others to where they began, and again."""

    aims: ClassVar[Aim] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    technique: str = field(default="lottery", init=False)
    sparsity: Sparsity = 0.5
    rounds: Annotated[int, Range(1, 100), "in how many it is done"] = 3
    rewind: Annotated[
        int, Range(0, MOST), "the step of training whose weights are gone back to; 0: the start"
    ] = 0
    temperature: Temperature = 2.0
    label_share: LabelShare = 1.0
    training: Annotated[Training, "how weights are learnt, rounds + 1 times"] = _TRAINING
