# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What each task's outputs are called and shaped like."""

from __future__ import annotations

from edgeopt.model.image import CHANNELS, ImageSpec
from edgeopt.model.signature import Signature, TensorSpec

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Every input that a model of texts may have, in the order of the call."""

PIXELS = "pixel_values"
"""The input of a model of images."""

EMBEDDING = "sentence_embedding"
"""The output of feature extraction, in the place of its own, where the graph itself embeds."""

OUTPUTS = {
    "feature-extraction": ("last_hidden_state",),
    "sequence-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "image-classification": ("logits",),
}
"""Output names by task, in the order of the call."""


def activation(task: str, labels: int, problem_type: str | None = None) -> str:
    """Return what makes scores of the logits: softmax, sigmoid or none.

    As transformers' pipelines choose it; ``problem_type`` is the checkpoint's.
    """
    if not task.endswith("classification") or problem_type == "regression":
        return "none"
    if task == "token-classification":
        return "softmax"
    multi = problem_type == "multi_label_classification"
    return "sigmoid" if multi or labels == 1 else "softmax"


def signature(inputs: tuple[str, ...], task: str, *, hidden: int, labels: int) -> Signature:
    """Return the signature of a task on texts.

    ``hidden`` and ``labels`` are the last dimension's sizes.
    """
    dims: dict[str, tuple[int | str, ...]] = {
        "feature-extraction": ("batch", "seq", hidden),
        "sequence-classification": ("batch", labels),
        "token-classification": ("batch", "seq", labels),
        "question-answering": ("batch", "seq"),
    }
    return Signature(
        inputs=tuple(TensorSpec(name=n, dtype="int64", dims=("batch", "seq")) for n in inputs),
        outputs=tuple(TensorSpec(name=n, dtype="float32", dims=dims[task]) for n in OUTPUTS[task]),
    )


def embedding_signature(inputs: tuple[str, ...], size: int) -> Signature:
    """Return the signature of a model whose graph gives an embedding of each text."""
    return Signature(
        inputs=tuple(TensorSpec(name=n, dtype="int64", dims=("batch", "seq")) for n in inputs),
        outputs=(TensorSpec(name=EMBEDDING, dtype="float32", dims=("batch", size)),),
    )


def image_signature(image: ImageSpec, *, labels: int) -> Signature:
    """Return the signature of a classification of images into ``labels`` labels."""
    dims = ("batch", CHANNELS, image.height, image.width)
    return Signature(
        inputs=(TensorSpec(name=PIXELS, dtype="float32", dims=dims),),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("batch", labels)),),
    )
