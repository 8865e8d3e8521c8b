"""The options of movement pruning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, read_max_drop
from edgeopt.steps.structured import PARTS
from edgeopt.steps.training import Training

_TRAINING = Training(epochs=6, learning_rate=5e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Movement:
    """Learn which heads and FFN neurons go, together with the weights.

    ``method`` "topk" removes the share ``remove`` of those with the lowest scores (in each layer
    where ``widths`` is "uniform", in the network as a whole where it is "uneven"); "sigmoid"
    removes all whose sigmoid(score) is not over ``threshold``, and ``penalty`` times the mean of
    these pulls them down: how many go is then found out. With ``block`` the attention's four
    weights are masked in squares of that side instead of by heads; heads without a square left are
    removed, and of the others zeros stay. Nothing goes before the share ``begin`` of the steps is
    done, and the last goes at ``end``; then the neurons that a layer keeps are a multiple of 16
    where it had 256 or more. Scores are learnt at ``score_learning_rate``.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "factored layers"})
    technique: str = field(default="movement", init=False)
    method: str = "topk"
    remove: float = 0.5
    parts: tuple[str, ...] = PARTS
    widths: str = "uneven"
    block: int | None = None
    threshold: float = 0.1
    penalty: float = 1.0
    begin: float = 0.1
    end: float = 0.7
    score_learning_rate: float = 0.01
    temperature: float = 2.0
    label_share: float = 0.1
    training: Training = _TRAINING
    max_drop: float = 0.01

    @property
    def makes(self) -> frozenset[str]:
        """Squares that are no whole head stay as zeros."""
        return frozenset({"zeros"} if self.block else ())

    @classmethod
    def read(cls, table: Table) -> Movement:
        """Read a step. Raises InputError where options contradict each other."""
        step = cls(
            method=table.choice("method", ("topk", "sigmoid"), "topk"),
            remove=table.number("remove", 0.5, low=0.0, high=0.95),
            parts=table.words("parts", PARTS) if "parts" in table else PARTS,
            widths=table.choice("widths", ("uniform", "uneven"), "uneven"),
            block=table.integer("block", None, low=2, high=MOST),
            threshold=table.number("threshold", 0.1, low=0.001, high=0.499),
            penalty=table.number("penalty", 1.0, low=0.0, high=1e6),
            begin=table.number("begin", 0.1, low=0.0, high=0.9),
            end=table.number("end", 0.7, low=0.01, high=0.99),
            score_learning_rate=table.number("score_learning_rate", 0.01, low=1e-6, high=10.0),
            temperature=table.number("temperature", 2.0, low=0.1, high=100.0),
            label_share=table.number("label_share", 0.1, low=0.0, high=1.0),
            training=Training.read(table, _TRAINING),
            max_drop=read_max_drop(table),
        )
        others = {"topk": ("threshold", "penalty"), "sigmoid": ("remove", "widths")}
        for name in others[step.method]:
            if name in table:
                raise table.wrong(name, f"says nothing where method is {step.method!r}")
        if step.block and "heads" not in step.parts:
            raise table.wrong("block", "is for attention, but parts leaves heads alone")
        if step.block and step.widths == "uniform":
            raise table.wrong("widths", "with block heads are emptied unevenly")
        if step.begin >= step.end:
            raise table.wrong("end", f"expected more than begin ({step.begin:g})")
        return step
