# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What happens inside a network, caught while it runs: hidden states, queries, keys and values."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.evaluate.score import pool
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.widths import blocks, layers
from edgeopt.model.tasks import FEATURE_EXTRACTION

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inside:
    """What was caught in the last run, by layer from 0.

    ``hidden`` is what the layer puts out, (batch, seq, hidden). ``qkv`` are its queries, keys and
    values, each (batch, seq, heads * head_dim).
    """

    hidden: dict[int, torch.Tensor] = field(default_factory=dict)
    qkv: dict[int, tuple[torch.Tensor, ...]] = field(default_factory=dict)


@contextlib.contextmanager
def watch(
    model: Model, *, hidden: Collection[int] = (), qkv: Collection[int] = ()
) -> Iterator[Inside]:
    """Catch what the layers ``hidden`` and ``qkv`` do, in each run within the block.

    Raises InputError if any is asked for of an architecture whose layers are not known.
    """
    found = Inside()
    hooks: list[Any] = []
    try:
        for i in hidden:
            block = blocks(network(model))[i]

            def put(_m: Any, _inputs: Any, output: Any, i: int = i) -> None:
                found.hidden[i] = output[0] if isinstance(output, tuple) else output

            hooks.append(block.register_forward_hook(put))
        for i in qkv:
            for place, linear in enumerate(layers(network(model))[i].qkv):

                def project(
                    _m: Any, _inputs: Any, output: Any, i: int = i, place: int = place
                ) -> None:
                    values = list(found.qkv.get(i, (output,) * 3))
                    values[place] = output
                    found.qkv[i] = tuple(values)

                hooks.append(linear.register_forward_hook(project))
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def embed(model: Model, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the texts' embeddings (batch, hidden), float32, of the last hidden states.

    As the checkpoint pools and normalises them; for a classifier the mean over the tokens. Without
    a mask all of them count.
    """
    import torch

    pooling = model.pooling if model.task == FEATURE_EXTRACTION else None
    pooled: torch.Tensor = pool(hidden.float(), mask, pooling)
    if pooling is not None and pooling.normalize:
        return torch.nn.functional.normalize(pooled, dim=-1)
    return pooled
