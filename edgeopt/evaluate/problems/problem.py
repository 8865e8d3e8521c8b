# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation is of: labelled inputs, the answers that are expected, and how they score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from edgeopt.evaluate.measured import Scored
from edgeopt.model.answer import Answer, Question
from edgeopt.model.dual_encoder import Similarity
from edgeopt.model.tasks import Task


class Subject(Protocol):
    """What is evaluated: a Model, or the manifest of a bundle."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def task(self) -> Task:
        """What it is for."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names by index."""

    @property
    def activation(self) -> str:
        """What makes scores of its logits."""


class Dual(Subject, Protocol):
    """A dual encoder, whose embeddings of images and texts are compared."""

    @property
    def similarity(self) -> Similarity | None:
        """How."""


class Problem(Protocol):
    """Labelled data of one kind. A unit is what is right or wrong: a text, a pair, a query.

    ``inputs`` is what a system is asked, each with its place in ``places`` (a file and a line);
    a unit may take several. ``names`` are the figures, and ``main`` the one of them that systems
    are held against each other by. ``labels`` has a label of each unit to take slices by, None if
    they have none.
    """

    @property
    def inputs(self) -> Sequence[Question]:
        """What a system is asked."""

    @property
    def places(self) -> Sequence[str]:
        """Where each input stands."""

    @property
    def noun(self) -> str:
        """What units are called: "texts"."""

    @property
    def names(self) -> tuple[str, ...]:
        """The figures."""

    @property
    def main(self) -> str:
        """The figure to hold systems against each other by, unless the user names another."""

    @property
    def labels(self) -> Sequence[str] | None:
        """The label of each unit, None for none."""

    def __len__(self) -> int:
        """Return the number of units."""

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where unit ``i`` stands, what it is, and what is expected, for the reader."""

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return the length of each unit, by those of its inputs."""

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone whose inputs are True in ``inputs`` (bool)."""

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score the answers to all inputs, whose scores are in the order of the labels."""
