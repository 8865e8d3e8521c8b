# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of training, which several techniques share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST
from edgeopt.values import Range

Epochs = Annotated[int, Range(1, 10_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How weights are learnt: AdamW, on batches of texts of like lengths.

    The learning rate rises linearly over the share ``warmup`` of the steps and then falls by
    ``schedule``. After each epoch the share ``validation`` of the texts, which is kept apart, shows
    how good the weights are: the best stay. With a share of 0 the last weights stay.
    """

    epochs: Annotated[Epochs, "how often each text is seen"] = 3
    steps: Annotated[
        int | None, Range(1, MOST, "batches"), "at most so many are learnt from; else all"
    ] = None
    batch_size: Annotated[int, Range(1, 4096, "texts"), "how many one step learns from"] = 32
    learning_rate: Annotated[float, Range(1e-8, 10.0), "the highest of AdamW's steps"] = 1e-4
    schedule: Annotated[
        Literal["linear", "cosine", "constant"], "how the learning rate falls after the warmup"
    ] = "linear"
    warmup: Annotated[
        float, Range(0.0, 0.9), "over this share of the steps the learning rate rises"
    ] = 0.1
    weight_decay: Annotated[float, Range(0.0, 1.0), "AdamW's pull of the weights to zero"] = 0.01
    max_grad_norm: Annotated[float, Range(1e-6, 1e6), "longer gradients are cut to this"] = 1.0
    validation: Annotated[
        float, Range(0.0, 0.5), "the share of the texts that is not learnt from, to choose weights"
    ] = 0.1
    patience: Annotated[Epochs | None, "training ends after so many without better weights"] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], "auto: bfloat16 autocast if the processor has it"
    ] = "auto"
    dropout: Annotated[
        bool, "while it learns, the network drops what its own configuration says; else nothing"
    ] = True
    freeze_embeddings: Annotated[bool, "leave the embedding tables as they are"] = False
    seq_len: Annotated[int, Range(4, 65_536, "tokens"), "longer texts are cut"] = 128
    seed: Annotated[int, Range(0, 2**31), "of the order of texts, dropout and new weights"] = 0
    checkpoint_s: Annotated[
        float, Range(0.0, 1e6, "s"), "how often all is written down, to go on from after a kill"
    ] = 60.0

    def check(self, table: Table) -> None:
        """Raise InputError for ``patience`` without texts to see by."""
        if self.patience is not None and self.validation == 0:
            raise table.wrong("patience", "needs texts to validate on, but validation is 0")


def check_to_the_end(step: Table, training: Training) -> None:
    """Raise InputError for ``patience`` in a step that keeps the last weights."""
    if training.patience is not None:
        raise step.table("training").wrong("patience", "says nothing here: the last weights stay")
