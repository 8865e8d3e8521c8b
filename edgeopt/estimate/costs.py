# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a layer costs by its widths: the table from which heads and neurons are chosen.

A layer is cut into its attention and its FFN, each with the residual and the normalisation behind
it; each part is built in every width and counted here, or timed by
``edgeopt.measure.latency_table``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgeopt import progress
from edgeopt.estimate.counted import MACS, Rates, count
from edgeopt.evaluate.data import SEQ_LEN

if TYPE_CHECKING:
    import torch

STEPS = 32
"""Into how many widths the neurons of an FFN are divided, without a ``multiple``."""

KERNEL_COLUMNS = 16
"""The best number to have an FFN's neurons a multiple of.

XNNPACK's INT8 kernels compute 8 or 16 columns at once. On x86-64, three layers of 384 channels and
1,075 neurons took in INT8 1.018 (LiteRT), 1.017 (onnxruntime) and 1.008 (OpenVINO) times as long as
with 1,088."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The widths of a layer: of its input, of a head, and the most heads and neurons there are."""

    hidden: int
    head_dim: int
    heads: int
    neurons: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCosts:
    """What a layer costs: its attention by the heads, its FFN by the neurons, in one unit.

    ``neurons`` has the widths that one may choose, the whole among them.
    """

    heads: Mapping[int, float]
    neurons: Mapping[int, float]


class Costs(Protocol):
    """What layers cost on a target, by their widths."""

    @property
    def name(self) -> str:
        """What the costs were measured or counted with, for people."""

    @property
    def key(self) -> str:
        """All that the costs depend on, as a key for the cache."""

    def __call__(self, shape: Shape, multiple: int | None) -> LayerCosts:
        """Return the costs of one layer; neurons in multiples of ``multiple`` (None: its own)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedCosts:
    """Costs that are counted, in FP32 multiply-accumulates of the core, as in ``counted``."""

    name: str = f"counted, at {SEQ_LEN} tokens"
    seq_len: int = SEQ_LEN
    rates: Rates = MACS

    @property
    def key(self) -> str:
        """See ``Costs``."""
        return repr(self)

    def __call__(self, shape: Shape, multiple: int | None) -> LayerCosts:
        """See ``Costs``."""
        with progress.step("Counting what a layer costs by its widths"):
            return LayerCosts(
                heads={n: self._cost(attention(shape, n), shape) for n in head_counts(shape)},
                neurons={
                    n: self._cost(ffn(shape, n), shape) for n in neuron_counts(shape, multiple)
                },
            )

    def _cost(self, part: torch.nn.Module, shape: Shape) -> float:
        import torch

        return count(part, (torch.zeros(1, self.seq_len, shape.hidden),)).cost(self.rates)


COUNTED = CountedCosts()
"""The table that holds if no target is known."""


def head_counts(shape: Shape) -> list[int]:
    """Return the numbers of heads that a layer may have."""
    return list(range(1, shape.heads + 1))


def neuron_counts(shape: Shape, multiple: int | None) -> list[int]:
    """Return the numbers of neurons that a layer may have, ascending, the whole among them."""
    step = multiple or default_multiple(shape.neurons)
    if multiple in (None, 1):  # any would do: a table of each would take hours to measure
        step = max(step, shape.neurons // STEPS // step * step)
    return sorted({*range(step, shape.neurons + 1, step), shape.neurons})


def default_multiple(neurons: int) -> int:
    """Return the number that the neurons left of ``neurons`` are a multiple of by default."""
    return KERNEL_COLUMNS if neurons >= 16 * KERNEL_COLUMNS else 1


def round_neurons(left: int, neurons: int, multiple: int | None = None) -> int:
    """Return the multiple nearest to ``left``, at most ``neurons``: by default one for kernels."""
    step = multiple or default_multiple(neurons)
    return max(step, min(round(left / step), neurons // step) * step)


def attention(shape: Shape, heads: int) -> torch.nn.Module:
    """Return the attention of a layer with ``heads`` heads, (batch, seq, hidden) to the same.

    Random weights: what they are costs nothing.
    """
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = heads * shape.head_dim
            self.query = torch.nn.Linear(shape.hidden, width)
            self.key = torch.nn.Linear(shape.hidden, width)
            self.value = torch.nn.Linear(shape.hidden, width)
            self.output = torch.nn.Linear(width, shape.hidden)
            self.norm = torch.nn.LayerNorm(shape.hidden)

        def forward(self, hidden: Any) -> Any:
            batch, seq, _ = hidden.shape
            split = (batch, seq, heads, shape.head_dim)
            query, key, value = (
                linear(hidden).view(split).transpose(1, 2)  # (batch, heads, seq, head_dim)
                for linear in (self.query, self.key, self.value)
            )
            scores = query @ key.transpose(2, 3) * shape.head_dim**-0.5
            mixed = (scores.softmax(-1) @ value).transpose(1, 2)
            mixed = mixed.reshape(batch, seq, heads * shape.head_dim)
            return self.norm(self.output(mixed) + hidden)

    return Attention().eval().requires_grad_(False)


def ffn(shape: Shape, neurons: int) -> torch.nn.Module:
    """Return the FFN of a layer with ``neurons`` neurons, (batch, seq, hidden) to the same."""
    import torch

    class Ffn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input = torch.nn.Linear(shape.hidden, neurons)
            self.output = torch.nn.Linear(neurons, shape.hidden)
            self.norm = torch.nn.LayerNorm(shape.hidden)

        def forward(self, hidden: Any) -> Any:
            inner = torch.nn.functional.gelu(self.input(hidden))
            return self.norm(self.output(inner) + hidden)

    return Ffn().eval().requires_grad_(False)
