# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of distillation."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, Temperature
from edgeopt.steps.step import Step
from edgeopt.steps.training import Training
from edgeopt.values import Range

Augmentation = Literal["crop", "drop", "shuffle", "swap"]
Indices = Annotated[tuple[int, ...], Range(0, MOST)]
Size = Annotated[int | None, Range(1, MOST)]
Weight = Annotated[float, Range(0.0, 1e6)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """The weight of each loss (0 leaves it out); ``edgeopt.train.losses`` has them."""

    response: Annotated[Weight, "a classifier's logits, against the teacher's"] = 0.0
    labels: Annotated[Weight, "a classifier's logits, against the texts' labels"] = 0.0
    hidden: Annotated[Weight, "single tokens' hidden states"] = 0.0
    cosine: Annotated[Weight, "the directions of single tokens' hidden states"] = 0.0
    attention: Annotated[Weight, "what each token attends to"] = 0.0
    relations: Annotated[Weight, "queries, keys and values of tokens, among themselves"] = 0.0
    distances: Annotated[Weight, "the distances between the texts' embeddings"] = 0.0
    angles: Annotated[Weight, "the angles between the texts' embeddings"] = 0.0
    embedding: Annotated[Weight, "the texts' embeddings"] = 0.0
    embedding_cosine: Annotated[Weight, "the directions of the texts' embeddings"] = 0.0

    def check(self, table: Table) -> None:
        """Raise InputError if no loss has a weight."""
        if self == Losses():
            names = [f.name for f in fields(self)]
            raise table.wrong(names[0], f"no loss has a weight (there are {', '.join(names)})")

    @property
    def of_tokens(self) -> bool:
        """Whether single tokens are compared: teacher and student must have the same."""
        return any((self.hidden, self.cosine, self.attention, self.relations))

    @property
    def of_embeddings(self) -> bool:
        """Whether the texts' embeddings are compared."""
        return any((self.distances, self.angles, self.embedding, self.embedding_cosine))

    @property
    def of_teacher(self) -> bool:
        """Whether the teacher is needed: not for the labels alone."""
        return bool(self.response) or self.of_tokens or self.of_embeddings

    def __str__(self) -> str:
        """The losses with their weights, as ``response 1 + labels 0.5``."""
        weights = ((f.name, getattr(self, f.name)) for f in fields(self))
        return " + ".join(f"{name} {weight:g}" for name, weight in weights if weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Distil(Step):
    """Teach the network what the original, the teacher, answers.

    Without ``losses`` it is ``response`` for a classifier, ``embedding_cosine`` for embeddings.
    The student is the network as it is, or a smaller one made of it by ``layers``, ``hidden``,
    ``heads`` and ``neurons``.
    """

    undoes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    technique: str = field(default="distil", init=False)
    losses: Annotated[Losses | None, "how much each loss weighs"] = None
    temperature: Temperature = 2.0
    layers: Annotated[
        Annotated[int, Range(1, MOST)] | Annotated[float, Range(0.01, 0.99)] | Indices | None,
        "those of the student: how many, a share, or which (from 0)",
    ] = None
    hidden: Annotated[Size, "the student's hidden size"] = None
    heads: Annotated[Size, "the student's attention heads in each layer"] = None
    neurons: Annotated[Size, "the student's FFN neurons in each layer"] = None
    start: Annotated[
        Literal["sliced", "new"],
        "what a narrower student begins with: the weights that matter most, or new ones",
    ] = "sliced"
    layer_map: Annotated[
        Literal["uniform", "last"] | Indices,
        "which layer of the teacher each of the student is compared with",
    ] = "uniform"
    relation_heads: Annotated[Size, "into how many heads relations cut both networks"] = None
    augment: Annotated[
        int, Range(0, 100), "how many changed copies of each text are learnt from besides"
    ] = 0
    augmentations: Annotated[tuple[Augmentation, ...], "how copies are changed"] = ("crop", "drop")
    training: Annotated[Training, "how weights are learnt"] = field(default_factory=Training)

    @property
    def aims(self) -> Literal["latency", "accuracy"]:
        """Latency if the student is a smaller one, else accuracy."""
        made = (self.layers, self.hidden, self.heads, self.neurons)
        return "latency" if any(size is not None for size in made) else "accuracy"

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other."""
        if self.losses is not None and self.augment and not self.losses.of_teacher:
            raise table.wrong("augment", "changed texts have no label: they need a teacher's loss")
        if "augmentations" in table and not self.augment:
            raise table.wrong("augmentations", "is given, but augment is 0")
        if "start" in table and not (self.hidden or self.heads or self.neurons):
            raise table.wrong("start", "is given, but neither hidden nor heads nor neurons")
