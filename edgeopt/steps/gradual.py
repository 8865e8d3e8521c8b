# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of removing heads and neurons little by little, with training in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from edgeopt.fields import Table
from edgeopt.steps.limits import LabelShare, Ridge, Samples, Temperature
from edgeopt.steps.step import Aim, Step
from edgeopt.steps.structured import (
    PARTS,
    Heads,
    Multiple,
    Neurons,
    Parts,
    Remove,
    Widths,
    check_widths,
)
from edgeopt.steps.training import Epochs, Training, check_to_the_end
from edgeopt.values import Range

_TRAINING = Training(epochs=1, learning_rate=5e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradual(Step):
    """Remove attention heads and FFN neurons in ``rounds``, and let the network recover in each.

    The last weights stay, not those that do best on the validation texts.
    """

    aims: ClassVar[Aim] = "latency"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="gradual", init=False)
    remove: Remove = 0.5
    parts: Parts = PARTS
    heads: Heads = None
    neurons: Neurons = None
    widths: Widths = "uniform"
    multiple: Multiple = None
    rounds: Annotated[int, Range(1, 100), "in how many it is done"] = 4
    ridge: Ridge = 0.01
    samples: Samples = 512
    temperature: Temperature = 2.0
    label_share: LabelShare = 0.1
    final_epochs: Annotated[Epochs, "the epochs of training after the last round"] = 3
    training: Annotated[Training, "how weights are learnt in each round"] = _TRAINING

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other."""
        check_widths(table, self.parts)
        check_to_the_end(table, self.training)
