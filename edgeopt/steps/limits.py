# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options that several techniques have, with their limits."""

from __future__ import annotations

from typing import Annotated

from edgeopt.values import Range

MIN_SAMPLES = 16
"""Fewer texts say nothing about what a part of a network is for."""

MOST = 1_000_000

LabelShare = Annotated[float, Range(0.0, 1.0), "what labels count beside the teacher's answers"]
Reconstruct = Annotated[bool, "refit what reads the parts that go, on the samples"]
Ridge = Annotated[
    float, Range(1e-8, 1e3), "the penalty of refitting, as a share of the mean square input"
]
Samples = Annotated[int, Range(MIN_SAMPLES, MOST, "texts"), "how many texts are looked at"]
Sparsity = Annotated[float, Range(0.01, 0.99), "the share of the weights that is set to zero"]
Temperature = Annotated[float, Range(0.1, 100.0), "how much the teacher's answers are softened"]
