# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks over parts of weights that are learnt with them: movement pruning.

Each part (a head, a neuron, a square of a weight) has a score S and a mask M of 0 or 1, and the
projection uses W * M. M has no gradient towards S, so that of M is taken for it (straight-through;
Sanh et al. 2020, "Movement Pruning", eq. 2-4): a score rises if the weights move away from
zero. Blocks instead of single weights are Lagunas et al. 2021, "Block Pruning For Faster
Transformers".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeopt.compression.sparsity import cubic, lowest
from edgeopt.estimate.costs import round_neurons
from edgeopt.model.network.widths import Layer
from edgeopt.steps.movement import Movement

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gate:
    """The mask of one projection's weight, in parts of ``size`` (rows, columns).

    ``score`` is float32 (rows / size, columns / size). Masks of one ``kind`` ("heads", "neurons",
    "squares", "blocks") compete with each other; unless ``can_be_empty``, the best one always
    stays.
    """

    kind: str
    linear: torch.nn.Linear
    size: tuple[int, int]
    score: torch.nn.Parameter
    can_be_empty: bool

    def spread(self, mask: torch.Tensor) -> torch.Tensor:
        """Return ``mask``, which has one number a part, in the shape of the weight."""
        rows, columns = self.size
        return mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LayerGates:
    """The gates of one layer.

    ``heads`` is one gate, or four (q, k, v, output) of squares or blocks; ``neurons`` is one, or
    two (FFN input and output) of blocks.
    """

    heads: tuple[Gate, ...]
    neurons: tuple[Gate, ...]


def gates(found: Sequence[Layer], options: Movement) -> list[LayerGates]:
    """Return gates of score zero for each layer, as ``options`` say."""
    import torch

    def gate(kind: str, linear: torch.nn.Linear, size: tuple[int, int]) -> Gate:
        rows, columns = linear.weight.shape
        score = torch.nn.Parameter(torch.zeros(rows // size[0], columns // size[1]))
        return Gate(
            kind=kind,
            linear=linear,
            size=size,
            score=score,
            can_be_empty=kind in ("squares", "blocks"),
        )

    made = []
    for layer in found:
        heads: tuple[Gate, ...] = ()
        neurons: tuple[Gate, ...] = ()
        out = layer.attention_output
        if options.outputs:
            size = (options.outputs, 1)
            if "heads" in options.parts:
                heads = tuple(gate("blocks", one, size) for one in layer.of_attention)
            if "neurons" in options.parts:
                ffn = (layer.ffn_input, layer.ffn_output)
                neurons = tuple(gate("blocks", one, size) for one in ffn)
            made.append(LayerGates(heads=heads, neurons=neurons))
            continue
        if "heads" in options.parts and options.block:
            four = layer.of_attention
            heads = tuple(gate("squares", one, (options.block, options.block)) for one in four)
        elif "heads" in options.parts and out is not None:
            heads = (gate("heads", out, (out.out_features, layer.head_dim)),)
        if "neurons" in options.parts:
            neurons = (gate("neurons", layer.ffn_output, (layer.ffn_output.out_features, 1)),)
        made.append(LayerGates(heads=heads, neurons=neurons))
    return made


class Masks:
    """The masks of all gates as they are at one time of the training.

    ``done`` is the share of the steps that is done, which the caller sets.
    """

    def __init__(self, found: Sequence[LayerGates], options: Movement) -> None:
        self.gates = [gate for layer in found for gate in (*layer.heads, *layer.neurons)]
        self.options = options
        self.done = 0.0

    @property
    def ramp(self) -> float:
        """The share of the whole removal that is due now, 0 to 1."""
        begin, end = self.options.begin, self.options.end
        return cubic((self.done - begin) / (end - begin))

    def hard(self) -> list[torch.Tensor]:
        """Return each gate's mask, float32 of 0 and 1, without gradient."""
        import torch

        with torch.no_grad():
            scores = [gate.score.detach() for gate in self.gates]
            if self.options.method == "sigmoid":
                kept = [score.sigmoid() > self.ramp * self.options.threshold for score in scores]
            else:
                kept = self._best(scores)
            for gate, mask, score in zip(self.gates, kept, scores, strict=True):
                if not gate.can_be_empty and not mask.any():
                    mask.view(-1)[score.argmax()] = True
                if self.ramp == 1.0 and gate.kind == "neurons":
                    _round(mask, score)
            return [mask.float() for mask in kept]

    def _best(self, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return which have the highest scores, in each gate or among all of its kind."""
        import torch

        share = self.ramp * self.options.remove
        if self.options.widths == "uniform":
            return [lowest(score, share) for score in scores]
        found: list[torch.Tensor] = [torch.empty(0)] * len(scores)
        for kind in {gate.kind for gate in self.gates}:
            places = [i for i, gate in enumerate(self.gates) if gate.kind == kind]
            joined = lowest(torch.cat([scores[i].flatten() for i in places]), share)
            parts = joined.split([scores[i].numel() for i in places])
            for i, part in zip(places, parts, strict=True):
                found[i] = part.reshape(scores[i].shape)
        return found

    def penalty(self) -> torch.Tensor:
        """Return what "sigmoid" adds to the loss: the share that is left, times the penalty."""
        import torch

        means = torch.stack([gate.score.sigmoid().mean() for gate in self.gates])
        return self.ramp * self.options.penalty * means.mean()

    @contextlib.contextmanager
    def applied(self, module: torch.nn.Module) -> Iterator[None]:
        """Let the projections in ``module`` use their masked weights for the block.

        Gradients reach the scores.
        """
        import torch

        masks: list[torch.Tensor] = []

        def refresh(_module: torch.nn.Module, _inputs: object) -> None:
            # All at once, as those of a kind compete; the scores' own value cancels itself out.
            masks[:] = [
                gate.spread(mask + (gate.score - gate.score.detach()))
                for gate, mask in zip(self.gates, self.hard(), strict=True)
            ]

        hook = module.register_forward_pre_hook(refresh)
        for number, gate in enumerate(self.gates):

            def forward(x: torch.Tensor, number: int = number, gate: Gate = gate) -> torch.Tensor:
                linear = gate.linear
                weight = linear.weight * masks[number]
                return torch.nn.functional.linear(x, weight, linear.bias)

            gate.linear.forward = forward  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            hook.remove()
            for gate in self.gates:
                del gate.linear.forward


def _round(mask: torch.Tensor, score: torch.Tensor) -> None:
    """Let as many be left as kernels like, in place: if there are many, a multiple of 16."""
    left = round_neurons(int(mask.sum()), mask.numel())
    best = score.flatten().argsort(descending=True)[:left]
    mask.view(-1).fill_(False)[best] = True
