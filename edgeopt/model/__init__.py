# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The imported model: what came in, before anything is done to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.model.image import ImageSpec
from edgeopt.model.onnx_call import OnnxFile
from edgeopt.model.signature import Signature

if TYPE_CHECKING:
    import torch

TEXT_TASKS = (
    "feature-extraction",
    "sequence-classification",
    "token-classification",
    "question-answering",
)
IMAGE_TASKS = ("image-classification",)
TASKS = (*TEXT_TASKS, *IMAGE_TASKS)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """A trained transformer with all that belongs to it.

    Exactly one of ``module`` and ``onnx`` is set. ``module`` is in eval mode and FP32; it is
    called with the signature's inputs by position (``input_ids``, ``attention_mask`` and, where
    the model has them, ``token_type_ids``: int64, (batch, seq); for images ``pixel_values``:
    float32, (batch, 3, height, width)) and returns a tuple of tensors in the signature's output
    order: ``last_hidden_state`` (batch, seq, hidden), ``logits`` (batch, labels) or
    (batch, seq, labels), or ``start_logits`` and ``end_logits`` (batch, seq). Where modules behind
    the network are part of it, feature extraction returns ``sentence_embedding`` (batch, size).
    ``given`` is the .onnx file as it came, which is the reference, and how it is called; ``onnx``
    is the file that artifacts are made of, with the signature's inputs and outputs.
    ``seq_lens`` are the only lengths that the model takes, () for all up to ``max_seq_len``.
    ``image`` is how an image becomes ``pixel_values``, None for a model of texts;
    ``max_seq_len`` is 0 for one of images.
    ``tokenizer`` is a directory with the tokenizer's files (``tokenizer.json``, ...), or None;
    ``pad_id`` is the token id that fills a text up to a length, where the mask is 0.
    ``pooling`` is how a sentence embedding is made of ``last_hidden_state``, where the checkpoint
    says so: ``{"mode": "mean", "normalize": True}``. ``prompt`` is put before every text (of a
    pair before the first). ``activation`` makes scores of ``logits``: softmax, sigmoid,
    or none. ``origin`` tells where it came from (plain
    JSON values); ``digest`` is a SHA-256 of the weights, the configuration and the tokenizer.
    ``source`` is the folder, or the .onnx file, as the user's own tool would open it; None for a
    module made in Python.
    """

    name: str
    task: str
    signature: Signature
    module: torch.nn.Module | None
    onnx: Path | None
    tokenizer: Path | None
    labels: tuple[str, ...]
    activation: str
    pooling: Mapping[str, Any] | None
    max_seq_len: int
    pad_id: int = 0
    image: ImageSpec | None = None
    source: Path | None = None
    prompt: str = ""
    given: OnnxFile | None = None
    seq_lens: tuple[int, ...] = ()
    origin: Mapping[str, Any]
    digest: str


def name_of(source: str | Path) -> str:
    """Return the name that the Model of ``source`` gets: the last part of its path or hub name
    (of the folder around it where that part is just ``model``)."""
    path = Path(source)
    if path.is_file():  # a file of a hub's cache is a link to one that is named by its hash
        path = Path(os.path.abspath(path))
    elif path.exists():
        path = path.resolve()
    name = path.name.removesuffix(".onnx")
    if name != "model" or not path.parent.name:
        return name
    # As Optimum and sentence-transformers lay it out: NAME/onnx/model.onnx.
    around = path.parent.parent if path.parent.name == "onnx" else path.parent
    return around.name or path.parent.name
