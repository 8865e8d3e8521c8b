"""The options of distillation."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, read_max_drop
from edgeopt.steps.training import Training

AUGMENTATIONS = ("crop", "drop", "shuffle", "swap")
STARTS = ("sliced", "new")
MAPS = ("uniform", "last")


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """How much each loss weighs; 0 leaves it out. ``edgeopt.compression.losses`` says what each is.

    ``response`` and ``labels`` are of a classifier's logits; ``hidden``, ``cosine``, ``attention``
    and ``relations`` of single tokens; ``distances``, ``angles``, ``embedding`` and
    ``embedding_cosine`` of the texts' embeddings.
    """

    response: float = 0.0
    labels: float = 0.0
    hidden: float = 0.0
    cosine: float = 0.0
    attention: float = 0.0
    relations: float = 0.0
    distances: float = 0.0
    angles: float = 0.0
    embedding: float = 0.0
    embedding_cosine: float = 0.0

    @classmethod
    def read(cls, table: Table) -> Losses:
        """Read the table ``losses``. Raises InputError where none has a weight."""
        names = [f.name for f in fields(cls)]
        found = cls(**{n: table.number(n, 0.0, low=0.0, high=1e6) for n in names if n in table})
        table.close(*names)
        if found == cls():
            raise table.wrong(names[0], f"no loss has a weight (there are {', '.join(names)})")
        return found

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
class Distil:
    """Teach the network what the original, the teacher, answers.

    Without ``losses`` it is ``response`` for a classifier, ``embedding_cosine`` for embeddings.
    ``temperature`` is that of ``response``. The student is the network as it is, or one made of it:
    with ``layers`` only, a count, a share of them below 1, or the layers by index, and of the width
    ``hidden``, ``heads`` and ``neurons``. ``start`` says what a narrower one begins with: the part
    of the weights that matters most, or new ones. ``layer_map`` says which layer of the teacher
    each of the student is compared with: "uniform", "last", or the teacher's by index.
    ``relation_heads`` is into how many heads ``relations`` cuts both networks. ``augment`` is how
    many changed copies of each text are learnt from besides, changed by ``augmentations``.
    """

    undoes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    technique: str = field(default="distil", init=False)
    losses: Losses | None = None
    temperature: float = 2.0
    layers: int | float | tuple[int, ...] | None = None
    hidden: int | None = None
    heads: int | None = None
    neurons: int | None = None
    start: str = "sliced"
    layer_map: str | tuple[int, ...] = "uniform"
    relation_heads: int | None = None
    augment: int = 0
    augmentations: tuple[str, ...] = ("crop", "drop")
    training: Training = field(default_factory=Training)
    max_drop: float = 0.01

    @property
    def aims(self) -> Literal["latency", "accuracy"]:
        """What the step is for: a smaller student, or a better one."""
        made = (self.layers, self.hidden, self.heads, self.neurons)
        return "latency" if any(size is not None for size in made) else "accuracy"

    @classmethod
    def read(cls, table: Table) -> Distil:
        """Read a step. Raises InputError where options contradict each other."""
        losses = table.optional_table("losses")
        step = cls(
            losses=None if losses is None else Losses.read(losses),
            temperature=table.number("temperature", 2.0, low=0.1, high=100.0),
            layers=_layers(table),
            hidden=table.integer("hidden", None, high=MOST),
            heads=table.integer("heads", None, high=MOST),
            neurons=table.integer("neurons", None, high=MOST),
            start=table.choice("start", STARTS, "sliced"),
            layer_map=_map(table),
            relation_heads=table.integer("relation_heads", None, high=MOST),
            augment=table.integer("augment", 0, low=0, high=100),
            augmentations=(
                table.words("augmentations", AUGMENTATIONS)
                if "augmentations" in table
                else ("crop", "drop")
            ),
            training=Training.read(table),
            max_drop=read_max_drop(table),
        )
        if step.losses is not None and step.augment and not step.losses.of_teacher:
            raise table.wrong("augment", "changed texts have no label: they need a teacher's loss")
        if "augmentations" in table and not step.augment:
            raise table.wrong("augmentations", "is given, but augment is 0")
        if "start" in table and not (step.hidden or step.heads or step.neurons):
            raise table.wrong("start", "is given, but neither hidden nor heads nor neurons")
        return step


def _layers(table: Table) -> int | float | tuple[int, ...] | None:
    match table.data.get("layers"):
        case list():
            return table.ascending("layers", low=0, high=MOST)
        case float():
            return table.number("layers", low=0.01, high=0.99)
        case _:
            return table.integer("layers", None, high=MOST)


def _map(table: Table) -> str | tuple[int, ...]:
    if isinstance(table.data.get("layer_map"), list):
        return table.ascending("layer_map", low=0, high=MOST)
    return table.choice("layer_map", MAPS, "uniform")
