# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of training for quantisation (QAT)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.options import DefaultIf
from edgeopt.steps.step import Aim, Step
from edgeopt.steps.training import Training, check_to_the_end
from edgeopt.values import Range

DEFAULT = Training(epochs=2, learning_rate=3e-5, freeze_embeddings=True)
"""A network that is trained already: small steps, the embeddings left alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Qat(Step):
    """Train the network while its linear modules compute as quantised ones do.

    Options that are not given are as engines quantise to so many ``bits``. The grid "narrow" is
    that of ONNX and OpenVINO in 8 bits and of TFLite, "full" that of ONNX and OpenVINO in 4 bits
    (``edgeopt.backends.grid``). The last weights stay, not those that do best on the validation
    texts.
    """

    aims: ClassVar[Aim] = "accuracy"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    makes: ClassVar[frozenset[str]] = frozenset({"quantised weights"})
    technique: str = field(default="qat", init=False)
    bits: Annotated[Literal[4, 8], "of a weight"] = 8
    group_size: Annotated[
        int,
        Range(0, 256),
        DefaultIf("bits", 4, 32),
        "the inputs that share a scale; 0: all of an output channel",
    ] = 0
    grid: Annotated[
        Literal["narrow", "full"], DefaultIf("bits", 4, "full"), "what weights are rounded to"
    ] = "narrow"
    activations: Annotated[bool, DefaultIf("bits", 4, False), "inputs are in 8 bits as well"] = True
    distil: Annotated[
        float,
        Range(0.0, 1.0),
        "the unquantised network's share of the loss, beside the labels'; all without labels",
    ] = 0.5
    keep: Annotated[tuple[str, ...], "linear modules that are trained in floating point"] = ()
    training: Annotated[Training, "how weights are learnt"] = DEFAULT

    def check(self, table: Table) -> None:
        """Raise InputError for a training that would end early."""
        check_to_the_end(table, self.training)
