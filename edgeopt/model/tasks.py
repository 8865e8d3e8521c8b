# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tasks: what each one's outputs are, what is made of them, and how that is scored.

The runtime has the same table in C (``runtime/src/bundle/tasks.h``), which
``python -m tools.task_table`` writes from this one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from edgeopt.errors import InputError
from edgeopt.model.image import CHANNELS, ImageInput
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.values import Named

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Every input that a model of texts may have, in the order of the call."""

PIXELS = "pixel_values"
"""The input of a model of images."""

EMBEDDING = "sentence_embedding"
"""The output of feature extraction, in the place of its own, if the graph itself embeds."""


class Result(enum.Enum):
    """What comes out for one input."""

    EMBEDDING = "embedding"  # a vector
    SCORES = "scores"  # one for each label
    ENTITIES = "entities"  # a label for each token, joined
    SPANS = "spans"  # places in the text, best first
    BOXES = "boxes"  # places in the image with labels, best first
    CLASS_MAP = "class_map"  # a label for each pixel
    GENERATED = "generated"  # a text that goes on from the prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(Named):
    """One task, which is written as its ``name``.

    ``input`` is the kind of input: text, image or audio. ``outputs`` are called so, in the order of
    the call, and each has ``dims``, in which "width" stands for the labels or the hidden size, and
    what is neither batch nor sequence for a size that the network has.
    ``activations`` are what may make scores of them. ``metric`` is what a user's labels, or
    without them the original, hold answers against; "" if edgeopt has none for it.
    """

    name: str
    input: str
    outputs: tuple[str, ...]
    dims: tuple[str, ...]
    result: Result
    activations: tuple[str, ...] = ("none",)
    metric: str = ""

    known: ClassVar[Mapping[str, Task]] = {}

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def labelled(self) -> bool:
        """True if an output has values for labels."""
        return self.result not in (Result.EMBEDDING, Result.SPANS, Result.GENERATED)

    @property
    def label_dim(self) -> int | None:
        """The dimension of the output that has exactly one value for each label, None for none.

        Boxes may have one more, for "nothing here".
        """
        exact = self.labelled and self.result is not Result.BOXES
        return self.dims.index("width") if exact and self.dims else None

    @property
    def by_token(self) -> bool:
        """True if the output runs along the sequence."""
        return "seq" in self.dims


_EITHER = ("softmax", "sigmoid", "none")

FEATURE_EXTRACTION = Task(
    name="feature-extraction",
    input="text",
    outputs=("last_hidden_state",),
    dims=("batch", "seq", "width"),
    result=Result.EMBEDDING,
    metric="cosine",
)
SEQUENCE_CLASSIFICATION = Task(
    name="sequence-classification",
    input="text",
    outputs=("logits",),
    dims=("batch", "width"),
    result=Result.SCORES,
    activations=_EITHER,
    metric="accuracy",
)
TOKEN_CLASSIFICATION = Task(
    name="token-classification",
    input="text",
    outputs=("logits",),
    dims=("batch", "seq", "width"),
    result=Result.ENTITIES,
    activations=("softmax", "none"),
)
QUESTION_ANSWERING = Task(
    name="question-answering",
    input="text",
    outputs=("start_logits", "end_logits"),
    dims=("batch", "seq"),
    result=Result.SPANS,
)
IMAGE_CLASSIFICATION = Task(
    name="image-classification",
    input="image",
    outputs=("logits",),
    dims=("batch", "width"),
    result=Result.SCORES,
    activations=_EITHER,
    metric="accuracy",
)
TEXT_EMBEDDING = Task(
    name="text-embedding",
    input="text",
    outputs=("text_embeds",),
    dims=("batch", "width"),
    result=Result.EMBEDDING,
    metric="cosine",
)
IMAGE_EMBEDDING = Task(
    name="image-embedding",
    input="image",
    outputs=("image_embeds",),
    dims=("batch", "width"),
    result=Result.EMBEDDING,
)
ZERO_SHOT_IMAGE_CLASSIFICATION = Task(
    name="zero-shot-image-classification",
    input="image",
    outputs=(),
    dims=(),
    result=Result.SCORES,
    activations=("softmax", "sigmoid"),
)
"""Of a dual encoder, whose graphs are of the two tasks before; the labels come with the call."""

IMAGE_FEATURE_EXTRACTION = Task(
    name="image-feature-extraction",
    input="image",
    outputs=("image_embeds",),
    dims=("batch", "width"),
    result=Result.EMBEDDING,
)
"""Of a backbone, whose own pooler makes the embedding."""

OBJECT_DETECTION = Task(
    name="object-detection",
    input="image",
    outputs=("logits", "pred_boxes"),
    dims=("batch", "queries", "width"),
    result=Result.BOXES,
    activations=("softmax", "sigmoid"),
)
"""``pred_boxes`` has, in the place of labels, the centre's x and y, width and height, as shares of
the image's. With softmax the logits have one more, the last, for "nothing here"."""

SEMANTIC_SEGMENTATION = Task(
    name="semantic-segmentation",
    input="image",
    outputs=("logits",),
    dims=("batch", "width", "rows", "columns"),
    result=Result.CLASS_MAP,
)

TEXT_GENERATION = Task(
    name="text-generation",
    input="text",
    outputs=("logits",),
    dims=("batch", "width"),
    result=Result.GENERATED,
)
"""Of a decoder with states (``edgeopt.model.decoder``): the logits are those of the last token."""

SPEECH_RECOGNITION = Task(
    name="automatic-speech-recognition",
    input="audio",
    outputs=("logits",),
    dims=("batch", "width"),
    result=Result.GENERATED,
)
"""Of an encoder of sound and a decoder with states (``edgeopt.model.speech``)."""

TASKS = (
    FEATURE_EXTRACTION,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    QUESTION_ANSWERING,
    IMAGE_CLASSIFICATION,
    TEXT_EMBEDDING,
    IMAGE_EMBEDDING,
    ZERO_SHOT_IMAGE_CLASSIFICATION,
    IMAGE_FEATURE_EXTRACTION,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    TEXT_GENERATION,
    SPEECH_RECOGNITION,
)
"""All of them; the C runtime numbers them in this order."""

Task.known = MappingProxyType({task.name: task for task in TASKS})

TOWERS = (TEXT_EMBEDDING, IMAGE_EMBEDDING)
"""The tasks of a dual encoder's graphs, which a model of one graph has not."""

GENERATING = (TEXT_GENERATION, SPEECH_RECOGNITION)
"""The tasks of models that write a text, token by token."""

APART = (*TOWERS, *GENERATING)
"""Tasks whose models have a way of their own from import to bundle."""

TEXT_TASKS = tuple(task for task in TASKS if task.input == "text" and task not in APART)


def text_task(name: str, where: str) -> Task:
    """Return the task on texts of this name. Raises InputError for another name."""
    found = Task.known.get(name)
    if found not in TEXT_TASKS:
        raise InputError(
            f"unknown task {name!r}, expected one of {', '.join(map(str, TEXT_TASKS))}",
            where=where,
        )
    return found


def activation(task: Task, labels: int, problem_type: str | None = None) -> str:
    """Return what makes scores of the logits: softmax, sigmoid or none.

    As transformers' pipelines choose it; ``problem_type`` is the checkpoint's.
    """
    if "softmax" not in task.activations or problem_type == "regression":
        return "none"
    multi = problem_type == "multi_label_classification" or labels == 1
    return "sigmoid" if multi and "sigmoid" in task.activations else "softmax"


def signature(inputs: tuple[str, ...], task: Task, *, width: int) -> Signature:
    """Return the signature of a task on texts; ``width`` is the labels, or the hidden size."""
    dims = _sized(task, width)
    return Signature(
        inputs=tuple(TensorSpec(name=n, dtype="int64", dims=("batch", "seq")) for n in inputs),
        outputs=tuple(TensorSpec(name=n, dtype="float32", dims=dims) for n in task.outputs),
    )


def embedding_signature(inputs: tuple[str, ...], size: int) -> Signature:
    """Return the signature of a model whose graph gives an embedding of each text."""
    return Signature(
        inputs=tuple(TensorSpec(name=n, dtype="int64", dims=("batch", "seq")) for n in inputs),
        outputs=(TensorSpec(name=EMBEDDING, dtype="float32", dims=("batch", size)),),
    )


def image_signature(image: ImageInput, task: Task, shapes: Sequence[tuple[int, ...]]) -> Signature:
    """Return the signature of a task on images whose outputs have ``shapes``, the batch first."""
    dims = ("batch", CHANNELS, image.height, image.width)
    return Signature(
        inputs=(TensorSpec(name=PIXELS, dtype="float32", dims=dims),),
        outputs=tuple(
            TensorSpec(name=name, dtype="float32", dims=("batch", *shape[1:]))
            for name, shape in zip(task.outputs, shapes, strict=True)
        ),
    )


def _sized(task: Task, width: int) -> tuple[int | str, ...]:
    return tuple(width if dim == "width" else dim for dim in task.dims)
