"""What a network learns while it is pruned: the teacher's answers and, where there are, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.compress.context import Context
from edgeopt.compress.data import Batch, Data
from edgeopt.compress.loop import Objective
from edgeopt.compress.score import answers, pool
from edgeopt.model import Model

if TYPE_CHECKING:
    import torch


def wanted(model: Model, data: Data, context: Context) -> torch.Tensor:
    """Return the answers on ``data`` of the teacher (without one: of ``model`` as it is now).

    Float32 (texts, labels), or (texts, hidden) for embeddings.
    """
    import torch

    teacher = context.teacher or model
    return torch.from_numpy(answers(teacher, data, f"Asking the teacher on {len(data)} texts"))


def taught(
    model: Model, answered: torch.Tensor, *, temperature: float, label_share: float
) -> Objective:
    """Return the loss of ``model`` against ``answered``, the teacher's answers on the data.

    For a classifier ``(1 - label_share) T^2 KL(teacher / T, student / T) + label_share *
    cross-entropy with the label`` (Hinton et al. 2015, "Distilling the Knowledge in a Neural
    Network", section 2); texts without labels have the first term only. For embeddings the squared
    distance to the teacher's as a share of its squared length.
    """
    import torch

    nn = torch.nn.functional

    def embedding(batch: Batch) -> torch.Tensor:
        assert model.module is not None
        (hidden,) = model.module(*batch.inputs)
        target = answered[batch.rows].to(hidden.device)
        distance = (pool(hidden, batch.mask, model.pooling).float() - target).square().sum(1)
        return (distance / target.square().sum(1).clamp_min(1e-12)).mean()

    def classifier(batch: Batch) -> torch.Tensor:
        assert model.module is not None
        (logits,) = model.module(*batch.inputs)
        labels = batch.labels
        share = label_share if labels is not None else 0.0
        loss = logits.new_zeros((), dtype=torch.float32)
        if share < 1:
            target = (answered[batch.rows].to(logits.device) / temperature).log_softmax(1)
            found = (logits.float() / temperature).log_softmax(1)
            kl = nn.kl_div(found, target, reduction="batchmean", log_target=True)
            loss = loss + (1 - share) * temperature**2 * kl
        if labels is not None and share > 0:
            loss = loss + share * nn.cross_entropy(logits.float(), labels)
        return loss

    return embedding if model.task == "feature-extraction" else classifier
