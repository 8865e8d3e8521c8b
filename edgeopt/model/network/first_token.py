# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Compute only what a classifier reads of the last layer: the first token.

BERT, RoBERTa and DistilBERT classify by the last hidden state of the first token. In the last
layer the other tokens serve as keys and values only, so that their queries, attention outputs and
FFN need not be computed: of the 12 h^2 multiply-accumulates that a layer has for each token (with
an FFN of 4 h) 2 h^2 are left. The logits stay what they were.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeopt.model import Model
from edgeopt.model.network.widths import blocks, head_dim, supported
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION

if TYPE_CHECKING:
    import torch


def narrowed(model: Model) -> Model:
    """Return ``model`` with a last layer that computes the first token only.

    The model itself comes back if its task or its architecture does not allow that.
    """
    if not _reads_first_only(model):
        return model
    module: Any = copy.deepcopy(model.module)
    _narrow(module.network)
    return model.with_module(module)


@contextlib.contextmanager
def narrowing(model: Model) -> Iterator[None]:
    """Have the last layer of ``model`` compute the first token only, within the block.

    If its task or its architecture does not allow that, nothing is changed.
    """
    if not _reads_first_only(model):
        yield
        return
    module: Any = model.module
    block = _narrow(module.network)
    try:
        yield
    finally:
        del block.forward


def _reads_first_only(model: Model) -> bool:
    if not model.main.is_torch:
        return False
    module: Any = model.module
    network = getattr(module, "network", None)
    return (
        model.task == SEQUENCE_CLASSIFICATION
        and network is not None
        and supported(network)
        and bool(module.additive_mask)
        and not hasattr(blocks(network)[-1], "reduction")  # it hands on a mask besides
    )


def _narrow(network: Any) -> Any:
    """Change what the last layer of ``network`` computes, and return that layer."""
    block: Any = blocks(network)[-1]
    # Not another module in its place: weights keep their names, in checkpoints and artifacts.
    block.forward = partial(_forward, block, head_dim(network))
    return block


def _forward(
    block: Any,
    size: int,
    hidden_states: torch.Tensor,  # (batch, seq, hidden)
    attention_mask: torch.Tensor,  # (batch, 1, 1, seq), added to the scores
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """Return the last hidden state of the first token, (batch, 1, hidden)."""
    del args, kwargs
    first = hidden_states[:, :1]
    distilbert = hasattr(block, "sa_layer_norm")
    part = block.attention if distilbert else block.attention.self
    names = ("q_lin", "k_lin", "v_lin") if distilbert else ("query", "key", "value")
    query, key, value = (
        getattr(part, name)(tokens).unflatten(-1, (-1, size)).transpose(1, 2)
        for name, tokens in zip(names, (first, hidden_states, hidden_states), strict=True)
    )  # (batch, heads, 1 or seq, head_dim)
    scores = query @ key.transpose(2, 3) * size**-0.5 + attention_mask
    context = (part.dropout(scores.softmax(-1)) @ value).transpose(1, 2).flatten(2)
    if distilbert:
        attended = block.sa_layer_norm(part.out_lin(context) + first)
        result: torch.Tensor = block.output_layer_norm(block.ffn(attended) + attended)
        return result
    result = block.feed_forward_chunk(block.attention.output(context, first))
    return result
