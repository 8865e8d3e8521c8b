# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a student is held to: each loss a plain function of tensors, a scalar back.

Tensors may be of any float dtype and are taken as float32. ``mask`` is (batch, seq), 1 where a
token is. The first argument is the student's, the second the teacher's.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def response(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over (batch, labels).

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2: T^2 keeps the
    gradients' size whatever T is.
    """
    log_p = (teacher.float() / temperature).log_softmax(-1)
    log_q = (student.float() / temperature).log_softmax(-1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def labels(student: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of (batch, labels) with (batch,), the mean over those labelled.

    A text without a label has -100.
    """
    total = F.cross_entropy(student.float(), expected, reduction="sum")
    return total / (expected >= 0).sum().clamp_min(1)


def hidden(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean square distance of hidden states (batch, seq, hidden) of one width.

    Jiao et al. 2020, "TinyBERT", eq. 8.
    """
    square = (student.float() - teacher.float()).square().mean(-1)
    return _mean(square, mask)


def cosine(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return 1 - the cosine of hidden states (batch, seq, hidden), the mean over tokens.

    Sanh et al. 2019, "DistilBERT", section 3.
    """
    return _mean(1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), mask)


def attention(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean square distance of attention scores (batch, heads, seq, seq), before softmax.

    Jiao et al. 2020, "TinyBERT", eq. 7. Pairs with padding do not count.
    """
    square = (student.float() - teacher.float()).square().mean(1)  # (batch, seq, seq)
    return _mean(square, mask.unsqueeze(1) * mask.unsqueeze(2))


def attention_scores(queries: torch.Tensor, keys: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (batch, heads, seq, seq) of queries and keys (batch, seq, heads * head_dim)."""
    q, k = _heads(queries.float(), heads), _heads(keys.float(), heads)
    with torch.autocast(q.device.type, enabled=False):  # which would take the product in bfloat16
        return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def relations(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, heads: int
) -> torch.Tensor:
    """Return how far the relations between tokens are apart: KL(teacher || student).

    Both are queries (or keys, or values), (batch, seq, width); widths may differ, ``heads`` divides
    both. The relation of a token to the others is softmax(x x^T / sqrt(width / heads)), in each of
    ``heads`` parts of the width; the mean over heads and tokens. Wang et al. 2021, "MiniLMv2",
    eq. 4 to 6.
    """
    closed = mask[:, None, None, :] == 0
    log = []
    for values in (teacher, student):
        scores = attention_scores(values, values, heads)
        log.append(scores.masked_fill(closed, torch.finfo(scores.dtype).min).log_softmax(-1))
    log_p, log_q = log
    divergence = (log_p.exp() * (log_p - log_q)).masked_fill(closed, 0.0).sum(-1)
    return _mean(divergence.mean(1), mask)


def distances(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return how far the distances between a batch's texts (batch, width) are from the teacher's.

    Each is divided by its batch's mean; Huber loss, the mean over pairs. Park et al. 2019,
    "Relational Knowledge Distillation", eq. 5 to 7. 0 for a batch of one.
    """
    if len(student) < 2:
        return student.float().sum() * 0
    pairs = torch.triu_indices(len(student), len(student), offset=1)
    found = []
    for values in (student.float(), teacher.float()):
        apart = (values[pairs[0]] - values[pairs[1]]).square().sum(-1).clamp_min(1e-12).sqrt()
        found.append(apart / apart.mean().clamp_min(1e-6))
    return F.smooth_l1_loss(found[0], found[1])


def angles(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return how far the angles between a batch's texts (batch, width) are from the teacher's.

    The cosine at j of every triple i, j, k of unlike texts; Huber loss, the mean. Park et al. 2019,
    eq. 8 to 10. 0 for a batch of under three.
    """
    count = len(student)
    if count < 3:
        return student.float().sum() * 0
    unlike = ~torch.eye(count, dtype=torch.bool, device=student.device)
    counts = unlike.unsqueeze(0) & unlike.unsqueeze(1) & unlike.unsqueeze(2)  # (j, i, k)
    found = []
    for values in (student.float(), teacher.float()):
        lines = F.normalize(values.unsqueeze(0) - values.unsqueeze(1), dim=-1, eps=1e-6)
        with torch.autocast(lines.device.type, enabled=False):
            found.append((lines @ lines.transpose(1, 2))[counts])
    return F.smooth_l1_loss(found[0], found[1])


def embedding(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the mean square distance of embeddings (batch, width)."""
    return F.mse_loss(student.float(), teacher.float())


def embedding_cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - the cosine of embeddings (batch, width), the mean."""
    return (1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


def _heads(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (batch, heads, seq, size) of (batch, seq, heads * size)."""
    batch, seq, width = values.shape
    return values.reshape(batch, seq, heads, width // heads).transpose(1, 2)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``values`` where the mask, of the same shape, is 1."""
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp_min(1)
