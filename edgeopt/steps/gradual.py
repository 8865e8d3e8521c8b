"""The options of removing heads and neurons little by little, with training in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MIN_SAMPLES, MOST, read_max_drop
from edgeopt.steps.structured import PARTS, read_widths
from edgeopt.steps.training import Training

_TRAINING = Training(epochs=1, learning_rate=5e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradual:
    """Remove attention heads and FFN neurons in ``rounds``, and let the network recover in each.

    ``remove``, ``parts``, ``heads``, ``neurons``, ``widths``, ``multiple``, ``ridge`` and
    ``samples`` are those of ``structured`` and say what is left in the end. ``training`` follows
    each round, with ``final_epochs`` the last one; the last weights stay, not those that do best on
    the validation texts. ``label_share`` is what labels count beside the teacher's answers, which
    are softened by ``temperature``.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="gradual", init=False)
    remove: float = 0.5
    parts: tuple[str, ...] = PARTS
    heads: int | None = None
    neurons: int | None = None
    widths: str = "uniform"
    multiple: int | None = None
    rounds: int = 4
    ridge: float = 0.01
    samples: int = 512
    temperature: float = 2.0
    label_share: float = 0.1
    final_epochs: int = 3
    training: Training = _TRAINING
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Gradual:
        """Read a step. Raises InputError where options contradict each other."""
        return cls(
            **read_widths(table, remove=0.5),
            rounds=table.integer("rounds", 4, high=100),
            ridge=table.number("ridge", 0.01, low=1e-8, high=1e3),
            samples=table.integer("samples", 512, low=MIN_SAMPLES, high=MOST),
            temperature=table.number("temperature", 2.0, low=0.1, high=100.0),
            label_share=table.number("label_share", 0.1, low=0.0, high=1.0),
            final_epochs=table.integer("final_epochs", 3, high=10_000),
            training=Training.read(table, _TRAINING, to_the_end=True),
            max_drop=read_max_drop(table),
        )
