# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How good outputs are: accuracy on labels, else agreement with the original's."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, batches
from edgeopt.model import Model
from edgeopt.model.pooling import Pooling
from edgeopt.model.tasks import FEATURE_EXTRACTION, IMAGE_CLASSIFICATION, SEQUENCE_CLASSIFICATION

CLASSIFIERS = (SEQUENCE_CLASSIFICATION, IMAGE_CLASSIFICATION)
"""The tasks that are scored by the label of the best logit."""


def check(model: Model) -> None:
    """Raise InputError if the outputs of ``model`` are of a kind that is not scored here."""
    if not model.main.is_torch:
        raise InputError(
            "is no checkpoint of transformers, and only those can be compressed", where=model.name
        )
    if not hasattr(model.module, "network"):
        raise InputError(
            "has modules or a head behind its network, which compression does not take yet",
            where=model.name,
            hint="Compression takes embeddings that are pooled by one of mean, cls and max.",
        )
    sorted_out = model.task in CLASSIFIERS and model.activation == "softmax"
    if not sorted_out and model.task != FEATURE_EXTRACTION:
        kind = f" with {model.activation} scores" if model.task.labelled else ""
        raise InputError(
            f"is for {model.task}{kind}, which compression does not take yet",
            where=model.name,
            hint="Supported: sequence-classification and image-classification with one label each, "
            "feature-extraction",
        )


def measure(model: Model) -> str:
    """Return what ``score`` gives without labels: how outputs are held against the original's."""
    return "same label" if model.task.metric == "accuracy" else model.task.metric


def answers(model: Model, data: Data, text: str) -> np.ndarray:
    """Return the outputs on ``data``, float32 (texts, labels), or (texts, hidden) for embeddings.

    An embedding is pooled as the checkpoint says, by the mean if it does not say. ``text`` is
    what progress calls it.
    """
    import torch

    rows: list[Any] = [None] * len(data)
    done = 0
    with progress.step(text) as step, torch.inference_mode():
        for batch in batches(model, data):
            (output,) = model.module(*batch.inputs)
            if model.task.metric == "cosine":
                output = pool(output, batch.mask, model.pooling)
            for row, values in zip(batch.rows, output.numpy(), strict=True):
                rows[row] = values
            done += len(batch.rows)
            step.update(done, len(data))
    return np.stack(rows)


def pool(hidden: Any, mask: Any, pooling: Pooling | None) -> Any:
    """Return ``hidden`` (batch, seq, hidden) pooled to (batch, hidden), over tokens of mask 1.

    Without a mask all tokens count.
    An embedding (batch, hidden), which the graph itself made, comes back as it is.
    """
    if hidden.ndim == 2:
        return hidden
    mode = pooling.mode if pooling is not None else "mean"
    if mask is None:
        mask = hidden.new_ones(hidden.shape[:2])
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, -1e9).amax(1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def score(model: Model, found: np.ndarray, original: np.ndarray, data: Data) -> np.ndarray:
    """Return each text's score, float64 (texts,); their mean is the accuracy or the agreement.

    With labels it is 1 if the label is right. Without, it is 1 if the label is the original's, or
    for embeddings the cosine with the original's.
    """
    if model.task.metric == "cosine":
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(original, axis=1)
        return np.einsum("ij,ij->i", found, original).astype(np.float64) / np.maximum(
            lengths, 1e-12
        )
    expected = original.argmax(1) if data.labels is None else np.array(data.labels)
    return (found.argmax(1) == expected).astype(np.float64)


def change(model: Model, found: np.ndarray, original: np.ndarray, data: Data) -> float:
    """Return how far outputs are from the original's: KL distance of the labels, 1 - cosine.

    The mean over the texts; outputs are as ``answers`` gives them.
    """
    if model.task.metric == "cosine":
        return float(1 - score(model, found, original, data).mean())
    p, q = _log_softmax(original), _log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(1).mean())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
