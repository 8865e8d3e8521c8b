# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run an encoder one block after the other, so that each can be changed before the next runs.

What goes into the first block is collected by one run of the network on the data; each block is
then run on it alone. The hidden states of all texts are held in memory:
4 bytes * tokens * hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeopt.evaluate.data import Data, batches
from edgeopt.model import Model
from edgeopt.model.network.widths import Layer, blocks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Call:
    """One batch on its way: ``hidden`` (batch, seq, hidden), and what else each block is given.

    ``mask`` (batch, seq) is bool: True where there is a token; None if everywhere.
    """

    hidden: torch.Tensor
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    mask: torch.Tensor | None


def projections(layer: Layer, parts: Collection[str]) -> list[tuple[torch.nn.Linear, ...]]:
    """Return the linear modules of ``parts`` ("attention", "ffn") in the order they compute.

    Those of a group are given the same.
    """
    groups: list[tuple[torch.nn.Linear, ...]] = []
    if "attention" in parts and layer.attention_output is not None:
        groups += [layer.qkv, (layer.attention_output,)]
    if "ffn" in parts:
        groups += [(layer.ffn_input,), (layer.ffn_output,)]
    return groups


def first_calls(model: Model, data: Data) -> list[Call]:
    """Return what the first block of ``model`` is called with on ``data``, batch by batch."""
    import torch

    calls: list[Call] = []

    def see(_: Any, args: Any, named: Any) -> None:
        hidden, *others = args
        mask = None if batch.mask is None else batch.mask.bool()
        calls.append(Call(hidden=hidden, args=tuple(others), named=named, mask=mask))

    hook = blocks(model.module.network)[0].register_forward_pre_hook(see, with_kwargs=True)
    try:
        with torch.no_grad():
            for batch in batches(model, data):
                model.module(*batch.inputs)
    finally:
        hook.remove()
    return calls


def through(block: torch.nn.Module, call: Call) -> Call:
    """Run ``block`` on ``call``, and return the call of the next block."""
    import torch

    with torch.no_grad():
        found = block(call.hidden, *call.args, **call.named)
    return replace(call, hidden=found[0] if isinstance(found, tuple) else found)


def inputs(
    block: torch.nn.Module, linears: Sequence[torch.nn.Module], call: Call
) -> list[torch.Tensor]:
    """Return what each of ``linears`` inside ``block`` is given, (tokens, inputs), no padding."""
    found: dict[torch.nn.Module, torch.Tensor] = {}

    def see(linear: torch.nn.Module, args: Any) -> None:
        found[linear] = tokens(args[0], call.mask)

    hooks = [linear.register_forward_pre_hook(see) for linear in linears]
    try:
        through(block, call)
    finally:
        for hook in hooks:
            hook.remove()
    return [found[linear] for linear in linears]


def tokens(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return ``hidden`` (batch, ..., width) as (tokens, width), those that ``mask`` leaves."""
    return hidden.flatten(0, -2) if mask is None else hidden[mask]


def with_ones(rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` (tokens, inputs) with a column of ones, which stands for the bias."""
    import torch

    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
