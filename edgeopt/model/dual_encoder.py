# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A dual encoder: one network of texts and one of images whose embeddings are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from edgeopt.model import Model
from edgeopt.model.tasks import Task
from edgeopt.values import Range

TEXT, IMAGE = "text", "image"
"""The graphs of a dual encoder, by what each takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Similarity:
    """How a logit is made of two embeddings of length 1: ``scale`` * their product + ``bias``."""

    scale: Annotated[float, Range(-1e30, 1e30)]
    bias: Annotated[float, Range(-1e30, 1e30)] = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DualEncoder:
    """CLIP or SigLIP whole: ``towers`` are models of one graph each, by the graph's name.

    Each gives embeddings of length 1. ``activation`` makes scores of an image's logits with some
    texts: softmax, or sigmoid. The other fields are as those of a Model.
    """

    name: str
    task: Task
    towers: Mapping[str, Model]
    similarity: Similarity
    activation: str
    source: Path | None
    origin: Mapping[str, Any]
    digest: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, of which it has none: they come with the call."""
        return ()
