# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Images to be sorted by what a dual encoder makes of texts that describe the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from edgeopt.errors import InputError
from edgeopt.evaluate.measured import Scored
from edgeopt.evaluate.problems.classification import Classification
from edgeopt.evaluate.problems.correlation import unit_vectors
from edgeopt.model.answer import Answer, Sample
from edgeopt.model.dual_encoder import Similarity

TEMPLATE = "This is a photo of {}."
"""What transformers' pipeline "zero-shot-image-classification" makes of a label."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ZeroShot:
    """A unit is an image. ``prompts`` are asked before the images: of each label all templates.

    A label's embedding is the mean of its prompts', each of length 1 (Radford et al. 2021,
    "Learning Transferable Visual Models From Natural Language Supervision", section 3.1.4).
    ``similarity`` and ``activation`` make scores of the products, as the model has them.
    """

    prompts: tuple[str, ...]
    images: Classification
    similarity: Similarity
    activation: str

    @property
    def inputs(self) -> tuple[Sample, ...]:
        """The prompts, and behind them the images."""
        return (*self.prompts, *self.images.inputs)

    @property
    def places(self) -> tuple[str, ...]:
        """The prompts themselves, and where images stand."""
        return (*(f"prompt {text!r}" for text in self.prompts), *self.images.places)

    @property
    def noun(self) -> str:
        """What units are called."""
        return self.images.noun

    @property
    def names(self) -> tuple[str, ...]:
        """The figures."""
        return self.images.names

    @property
    def main(self) -> str:
        """The figure to hold systems against each other by."""
        return self.images.main

    @property
    def labels(self) -> Sequence[str]:
        """The expected label of each image."""
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where an image stands, its name, and its label."""
        return self.images.unit(i)

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return those of the images."""
        return of_inputs[len(self.prompts) :]

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those images alone. Raises InputError for a prompt that was refused."""
        count = len(self.prompts)
        if not inputs[:count].all():
            at = int(np.argmin(inputs[:count]))
            raise InputError("the original's tool does not take it", where=self.places[at])
        return replace(self, images=self.images.answered(inputs[count:]))

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score the images by the label whose embedding is nearest."""
        vectors = unit_vectors(answers)
        classes, count = len(self.images.classes), len(self.prompts)
        texts = vectors[:count].reshape(classes, -1, vectors.shape[1]).mean(1)
        texts /= np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-12)
        logits = vectors[count:] @ texts.T * self.similarity.scale + self.similarity.bias
        if self.activation == "softmax":
            powers = np.exp(logits - logits.max(1, keepdims=True))
            scores = powers / powers.sum(1, keepdims=True)
        else:
            scores = 1 / (1 + np.exp(-logits))
        return self.images.score([Answer(scores=tuple(row)) for row in scores])
