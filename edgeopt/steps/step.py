# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the options of every technique have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from edgeopt import options
from edgeopt.fields import Table
from edgeopt.steps.training import Training
from edgeopt.values import Range

Aim = Literal["latency", "size", "accuracy"]
S = TypeVar("S", bound="Step")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The options of one technique: a frozen dataclass, so that it can be hashed and stored."""

    technique: str = field(init=False)
    max_drop: Annotated[
        float,
        Range(0.0, 1.0),
        "the step is rolled back if the score on held-out texts falls by more",
    ] = 0.01

    @property
    def aims(self) -> Aim:
        """What the step is for: one for latency is rolled back if it gains none on the target.

        One that makes the file smaller, or the model better, need not gain any.
        """
        raise NotImplementedError

    @property
    def inputs(self) -> frozenset[str]:
        """What networks it is for take: text, image, or either."""
        return frozenset({"text", "image"})

    @property
    def makes(self) -> frozenset[str]:
        """What the step makes that a later one might undo, in words such as "zeros"."""
        return frozenset()

    @property
    def undoes(self) -> frozenset[str]:
        """What the step would undo, or cannot take, of what an earlier one makes."""
        return frozenset()

    @property
    def training(self) -> Training | None:
        """How the step learns weights; None for a technique that does not train."""
        return None

    @property
    def needs_costs(self) -> bool:
        """Whether the step is given what a layer costs on the target (``Context.costs``)."""
        return False

    @classmethod
    def read(cls: type[S], table: Table) -> S:
        """Read a step's table. Raises InputError with the dotted key for what is wrong."""
        return options.read(cls, table)

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other; ``table`` tells which are given."""
