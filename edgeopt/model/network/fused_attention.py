# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Compute attention in one kernel of torch, which never writes the scores down.

A network is imported with the attention that spells its operations out, as it is to be lowered.
To run it in torch alone, one kernel does the same (to rounding): on a CPU half the time without
gradients, and a fifth less with them. With dropout of the scores torch has no such kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from edgeopt.model import Model
from edgeopt.model.network.widths import blocks, supported

_SPELT_OUT, _FUSED = "eager", "sdpa"  # in transformers' words


@contextlib.contextmanager
def fused_attention(model: Model) -> Iterator[None]:
    """Have ``model`` attend in one kernel within the block.

    Nothing is changed if its architecture has none, or if a layer reads the attention's scores.
    """
    module: Any = model.module if model.main.is_torch else None
    network = getattr(module, "network", None)
    # Only where the mask is handed through as it is: others are made by the kind of attention.
    if network is None or not getattr(module, "additive_mask", False) or not _has_one(network):
        yield
        return
    network.config._attn_implementation = _FUSED
    try:
        yield
    finally:
        network.config._attn_implementation = _SPELT_OUT


def _has_one(network: Any) -> bool:
    return (
        supported(network)
        and network.config._attn_implementation == _SPELT_OUT
        and bool(getattr(network, "_supports_sdpa", False))
        and not any(hasattr(block, "reduction") for block in blocks(network))
    )
