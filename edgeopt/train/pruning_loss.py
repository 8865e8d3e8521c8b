# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network learns while it is pruned: the teacher's answers and, if there are any, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.evaluate.data import Batch, Data
from edgeopt.evaluate.score import pool
from edgeopt.model import Model
from edgeopt.model.network.first_token import narrowing
from edgeopt.model.tasks import FEATURE_EXTRACTION
from edgeopt.steps.training import Training
from edgeopt.train import teacher
from edgeopt.train.context import Context
from edgeopt.train.loop import Objective

if TYPE_CHECKING:
    import torch


def wanted(model: Model, data: Data, context: Context, options: Training) -> torch.Tensor:
    """Return the teacher's answers on ``data``; without a teacher, those of ``model`` as it is.

    Float32 (texts, labels), or (texts, hidden) for embeddings. Kept in the cache.
    """
    output = "embeddings" if model.task == FEATURE_EXTRACTION else "logits"
    return teacher.answers(context.teacher or model, [data], [output], options)[output]


def taught(
    model: Model, answered: torch.Tensor, *, temperature: float, label_share: float
) -> Objective:
    """Return the loss of ``model`` against ``answered``, the teacher's answers on the data.

    For a classifier ``(1 - label_share) T^2 KL(teacher / T, student / T) + label_share *
    cross-entropy with the label``; texts without labels have the first term only. For embeddings
    the squared distance to the teacher's as a share of its squared length.
    """
    from edgeopt.train import losses

    def embedding(batch: Batch) -> torch.Tensor:
        (hidden,) = model.module(*batch.inputs)
        target = answered[batch.rows].to(hidden.device)
        distance = (pool(hidden, batch.mask, model.pooling).float() - target).square().sum(1)
        return (distance / target.square().sum(1).clamp_min(1e-12)).mean()

    def classifier(batch: Batch) -> torch.Tensor:
        with narrowing(model):
            (logits,) = model.module(*batch.inputs)
        target = answered[batch.rows].to(logits.device)
        response = losses.response(logits, target, temperature)
        if batch.labels is None:
            return response
        return (1 - label_share) * response + label_share * losses.labels(logits, batch.labels)

    return embedding if model.task == FEATURE_EXTRACTION else classifier
