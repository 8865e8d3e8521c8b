"""The options of looking for a lottery ticket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, read_max_drop
from edgeopt.steps.training import Training

_TRAINING = Training(epochs=3, learning_rate=5e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lottery:
    """Train, set the smallest weights to zero, rewind the others to where they began, and again.

    After ``rounds`` the share ``sparsity`` of the layers' weights is zero. ``rewind`` is the step
    of training whose weights are gone back to (0: those that came in). ``training`` is done
    ``rounds + 1`` times. ``label_share`` is what labels count beside the teacher's answers.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    technique: str = field(default="lottery", init=False)
    sparsity: float = 0.5
    rounds: int = 3
    rewind: int = 0
    temperature: float = 2.0
    label_share: float = 1.0
    training: Training = _TRAINING
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Lottery:
        """Read a step."""
        return cls(
            sparsity=table.number("sparsity", 0.5, low=0.01, high=0.99),
            rounds=table.integer("rounds", 3, high=100),
            rewind=table.integer("rewind", 0, low=0, high=MOST),
            temperature=table.number("temperature", 2.0, low=0.1, high=100.0),
            label_share=table.number("label_share", 1.0, low=0.0, high=1.0),
            training=Training.read(table, _TRAINING),
            max_drop=read_max_drop(table),
        )
