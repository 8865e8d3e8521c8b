# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules that are lowered of a dual encoder: from ids, or pixels, to an embedding.

Each gives what transformers' ``get_text_features`` and ``get_image_features`` give, of length 1.
They are built of plain operations: transformers makes its masks, and looks a token up, by index
operations that not every engine's importer takes.
"""

from __future__ import annotations

from typing import Any

import torch

from edgeopt.model.network.bands import additive

_LOWEST = torch.finfo(torch.float32).min
_FORMER_EOS = 2
"""What old configurations of CLIP call the end of a text: the token meant is that of the largest
id."""


def _normalized(vector: torch.Tensor) -> torch.Tensor:
    return vector / (vector * vector).sum(-1, keepdim=True).sqrt()


class CausalText(torch.nn.Module):
    """CLIP's text encoder: a token sees those before it, and that at the text's end embeds it.

    What fills a text up stands behind its end, where nothing that counts sees it, so that no mask
    is taken.
    """

    positions: torch.Tensor
    mask: torch.Tensor

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.text_model = network.text_model
        self.text_projection = network.text_projection
        self.end = int(network.text_model.eos_token_id)
        most = network.config.text_config.max_position_embeddings
        future = torch.ones(most, most).triu(1)
        self.register_buffer("mask", (future * _LOWEST)[None, None], persistent=False)
        self.register_buffer("positions", torch.arange(float(most)), persistent=False)

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor]:
        """Take int64 (batch, seq); return (batch, size)."""
        length = input_ids.shape[1]
        hidden = self.text_model.embeddings(input_ids=input_ids)
        hidden = self.text_model.encoder(
            inputs_embeds=hidden, attention_mask=self.mask[:, :, :length, :length]
        ).last_hidden_state
        hidden = self.text_model.final_layer_norm(hidden)
        # The first one that ends a text: argmax finds no other.
        ids = input_ids.float()
        wanted = ids.amax(-1, keepdim=True) if self.end == _FORMER_EOS else float(self.end)
        rank = (ids == wanted).float() * len(self.positions) - self.positions[:length]
        chosen = (rank == rank.amax(-1, keepdim=True)).float()
        pooled = (chosen.unsqueeze(-1) * hidden).sum(1)
        return (_normalized(self.text_projection(pooled)),)


class PaddedText(torch.nn.Module):
    """SigLIP's text encoder: it reads what fills a text up too, and the last token embeds it.

    ``masked`` says that its tokenizer gives a mask, which transformers then follows.
    """

    def __init__(self, network: Any, *, masked: bool) -> None:
        super().__init__()
        self.text_model = network.text_model
        self.masked = masked

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor]:
        """Take int64 (batch, seq), and a mask if ``masked``; return (batch, size)."""
        hidden = self.text_model.embeddings(input_ids=input_ids)
        mask = None if attention_mask is None else additive(attention_mask)
        hidden = self.text_model.encoder(inputs_embeds=hidden, attention_mask=mask)
        last = self.text_model.final_layer_norm(hidden.last_hidden_state)[:, -1]
        return (_normalized(self.text_model.head(last)),)


class ImageTower(torch.nn.Module):
    """The image encoder of either, called as transformers' networks of images are."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.config = network.config
        self.vision_model = network.vision_model
        self.visual_projection = getattr(network, "visual_projection", torch.nn.Identity())
        head: Any = getattr(self.vision_model, "head", None)
        attention = getattr(head, "attention", None)
        if isinstance(attention, torch.nn.MultiheadAttention):
            head.attention = Pooling(attention, head.probe)

    def forward(self, pixel_values: torch.Tensor, return_dict: bool = True) -> Any:
        """Take float32 (batch, 3, height, width); return ``image_embeds`` (batch, size)."""
        del return_dict
        pooled = self.vision_model(pixel_values=pixel_values).pooler_output
        return {"image_embeds": _normalized(self.visual_projection(pooled))}


class Pooling(torch.nn.Module):
    """The attention of one learnt query, which stands for a MultiheadAttention of torch.

    With the query known, a head's scores are a layer of the hidden states alone: that of the keys
    times the query. An engine is asked for no product of a constant with what it computes, of which
    LiteRT would quantise one side.
    """

    def __init__(self, attention: torch.nn.MultiheadAttention, probe: torch.Tensor) -> None:
        super().__init__()
        heads, size = attention.num_heads, attention.embed_dim
        self.heads = heads
        weights = attention.in_proj_weight.detach().unflatten(0, (3, heads, -1))
        biases = attention.in_proj_bias.detach().unflatten(0, (3, heads, -1))
        query = weights[0] @ probe.detach().flatten() + biases[0]  # (heads, size of one)
        query = query * query.shape[-1] ** -0.5
        self.scores = _linear(
            (query.unsqueeze(1) @ weights[1]).squeeze(1), (query * biases[1]).sum(-1)
        )
        self.values = _linear(weights[2].reshape(size, size), biases[2].flatten())
        self.output = attention.out_proj

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor]:
        """Take the query, which is known, and twice (batch, n, size); return (batch, 1, size)."""
        del query
        shares = self.scores(key).softmax(1).transpose(1, 2).unsqueeze(2)  # (batch, heads, 1, n)
        values = self.values(value).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return (self.output((shares @ values).flatten(1).unsqueeze(1)),)


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    layer.bias = torch.nn.Parameter(bias.clone(), requires_grad=False)
    return layer
