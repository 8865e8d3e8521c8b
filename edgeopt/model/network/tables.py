# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Embedding tables that are smaller than one float32 number for each token and channel."""

from __future__ import annotations

from typing import Any

import torch


class Projected(torch.nn.Module):
    """A narrow table and a linear layer to the hidden size: tokens * rank + rank * hidden numbers.

    Lan et al. 2020, "ALBERT", section 3.1.
    """

    def __init__(self, table: Any, hidden: int) -> None:
        super().__init__()
        self.table = table
        self.projection = torch.nn.Linear(table.embedding_dim, hidden)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Take int64 (batch, seq), return float32 (batch, seq, hidden)."""
        return self.projection(self.table(ids))


class Packed(torch.nn.Module):
    """A table in whole numbers of 4 or 8 bits; each ``group`` of a row has its scale.

    A number n stands for (n - (2^bits - 1) / 2) * scale: levels on both sides alike, none at zero.
    A byte of 4-bit numbers holds channel i (low) and i + dim / 2 (high). A scale is one byte c as
    well, exp(low + step * c), so that nothing in a row is a float. Only rows that are looked up are
    unpacked, by arithmetic that every engine has: LiteRT converts no unsigned constants (hence
    int8, which is 128 below the byte), and ONNX has bitwise operators only from opset 18 on.
    """

    packed: torch.Tensor  # (tokens, dim * bits / 8), int8
    codes: torch.Tensor  # (tokens, dim / group), int8
    low: torch.Tensor  # (), float32
    step: torch.Tensor  # (), float32

    def __init__(self, num_embeddings: int, embedding_dim: int, *, bits: int, group: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.bits, self.group = bits, group
        bytes_ = embedding_dim * bits // 8
        self.register_buffer("packed", torch.zeros(num_embeddings, bytes_, dtype=torch.int8))
        codes = torch.zeros(num_embeddings, embedding_dim // group, dtype=torch.int8)
        self.register_buffer("codes", codes)
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("step", torch.zeros(()))

    @property
    def weight(self) -> torch.Tensor:
        """The whole table, float32 (tokens, dim), as it was rounded."""
        return self(torch.arange(self.num_embeddings, device=self.packed.device))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Take int64 (...), return float32 (..., dim)."""
        lookup = torch.nn.functional.embedding
        numbers = lookup(ids, self.packed).to(torch.float32) + 128.0  # (..., dim * bits / 8)
        if self.bits == 4:
            high = torch.floor(numbers / 16.0)
            numbers = torch.cat([numbers - 16.0 * high, high], dim=-1)  # (..., dim)
        codes = lookup(ids, self.codes).to(torch.float32) + 128.0  # (..., dim / group)
        scales = torch.exp(self.low + self.step * codes).unsqueeze(-1)
        levels = (numbers - (2**self.bits - 1) / 2).reshape(*ids.shape, -1, self.group)
        return (levels * scales).reshape(*ids.shape, self.embedding_dim)
