# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""One linear layer as two of low rank."""

from __future__ import annotations

import torch


class Factors(torch.nn.Module):
    """``second(first(x))``: (..., in_features) -> (..., rank) -> (..., out_features).

    Costs rank * (in_features + out_features) multiplications a token. The bias is the second's.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.first = torch.nn.Linear(in_features, rank, bias=False)
        self.second = torch.nn.Linear(rank, out_features, bias=bias)

    @property
    def in_features(self) -> int:
        """How wide the input is, as of ``torch.nn.Linear``."""
        return self.first.in_features

    @property
    def out_features(self) -> int:
        """How wide the output is."""
        return self.second.out_features

    @property
    def rank(self) -> int:
        """How wide the middle is."""
        return self.first.out_features

    @property
    def weight(self) -> torch.Tensor:
        """The first's, which classes of transformers ask for when they initialise weights."""
        return self.first.weight

    @property
    def bias(self) -> torch.Tensor:
        """The second's, for the same reason."""
        return self.second.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take (..., in_features), return (..., out_features)."""
        return self.second(self.first(x))
