# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks whose residual stream is narrower than all heads together.

``hidden_size`` is the stream's width. transformers takes the size of a head to be ``hidden_size``
by the number of heads; a checkpoint whose heads are of another size says it in its section of our
own: ``{"head_dim": 32}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.model.network.embeddings import plain_table
from edgeopt.model.network.widths import Build, blocks, head_dim, layers, slice_linear

if TYPE_CHECKING:
    import torch

_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
NORMS = {
    "bert": _NORMS,
    "roberta": _NORMS,
    "distilbert": ("sa_layer_norm", "output_layer_norm"),
}
HEADS = {
    "bert": "bert.pooler.dense",
    "roberta": "classifier.dense",
    "distilbert": "pre_classifier",
}
"""The linear module that reads the stream after the last layer, in a classifier of texts."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stream:
    """All that touches the residual stream. Norms and readers are in the order of the forward pass.

    ``tables`` and ``writers`` write it, ``readers`` read the output of a norm.
    """

    tables: tuple[torch.nn.Embedding, ...]
    norms: tuple[torch.nn.LayerNorm, ...]
    readers: tuple[torch.nn.Linear, ...]
    writers: tuple[torch.nn.Linear, ...]

    @property
    def width(self) -> int:
        """How many channels there are."""
        return len(self.norms[0].weight)


def stream(network: Any) -> Stream:
    """Return what touches the residual stream of ``network``, a classifier of texts.

    Raises InputError for other networks, whose output is the stream itself, and for ones that
    were changed so that it can no longer be narrowed.
    """
    import torch

    found = layers(network)
    kind = network.config.model_type
    if not type(network).__name__.endswith("ForSequenceClassification"):
        raise InputError(
            f"the outputs of {type(network).__name__} are the residual stream itself, or are read "
            "from it token by token; only that of a classifier of texts is narrowed"
        )
    plain_table(network)
    embeddings: Any = network.base_model.embeddings
    norms = [embeddings.LayerNorm]
    norms += [block.get_submodule(name) for block in blocks(network) for name in NORMS[kind]]
    readers = [linear for layer in found for linear in (*layer.qkv, layer.ffn_input)]
    return Stream(
        tables=tuple(m for m in embeddings.modules() if isinstance(m, torch.nn.Embedding)),
        norms=tuple(norms),
        readers=(*readers, network.get_submodule(HEADS[kind])),
        writers=tuple(m for layer in found for m in (*layer.of_attention[3:], layer.ffn_output)),
    )


def keep(network: Any, channels: Sequence[int]) -> None:
    """Remove all channels of the residual stream but ``channels``, in place."""
    import torch

    found = stream(network)
    index = torch.tensor(channels, dtype=torch.long, device=found.norms[0].weight.device)

    def taken(weight: torch.Tensor) -> torch.nn.Parameter:
        values = weight.detach().index_select(-1, index).clone()
        return torch.nn.Parameter(values, requires_grad=weight.requires_grad)

    for table in found.tables:
        table.weight = taken(table.weight)
        table.embedding_dim = len(channels)
    for norm in found.norms:
        norm.weight, norm.bias = taken(norm.weight), taken(norm.bias)
        norm.normalized_shape = (len(channels),)
    for linear in found.readers:
        slice_linear(linear, channels, dim=1)
    for linear in found.writers:
        slice_linear(linear, channels, dim=0)
    network.config.hidden_size = len(channels)


def describe(network: Any) -> dict[str, Any]:
    """Return the key for the section of our own: none if heads and stream are equally wide."""
    config = network.config
    if config.model_type not in NORMS:
        return {}
    size = head_dim(network)
    whole = config.num_attention_heads * size
    return {} if config.hidden_size == whole else {"head_dim": size}


def read(table: Table, config: Any) -> Build | None:
    """Return the function that narrows a network's residual stream to ``hidden_size``.

    None if ``table`` has no ``head_dim``. Raises InputError if that does not fit ``config``, which
    is changed to that of the plain network with such heads: what the function narrows.
    """
    if "head_dim" not in table:
        return None
    size = table.integer("head_dim")
    width, heads = config.hidden_size, config.num_attention_heads
    if heads * size <= width:
        raise table.wrong(
            "head_dim",
            f"expected more than hidden_size by heads ({width} / {heads}), found {size}",
        )
    config.hidden_size = heads * size

    def build(network: Any) -> None:
        keep(network, range(width))

    return build
