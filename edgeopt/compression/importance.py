# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How much each attention head and FFN neuron matters.

A gate g = 1 multiplies each head's output (batch, seq, head_dim) and each neuron's (batch, seq).
The gradient of a text's loss with respect to it tells what closing it would do: ``taylor`` takes
the mean of |dL/dg| (Michel et al. 2019, "Are Sixteen Heads Really Better than One?", eq. 2), and
``fisher`` the mean of (dL/dg)^2 (Kwon et al. 2022, "A Fast Post-Training Pruning Framework for
Transformers", eq. 8). ``magnitude`` takes the weights alone.

The loss is cross-entropy with the label. Without labels it is that with a label drawn from the
model's own distribution: the mean squared gradient is then the Hessian of the KL distance to the
model's own outputs (that distance itself is zero, and so is its gradient). For embeddings it is
the projection of the output on a random direction, for which the same holds of the squared
distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt import progress
from edgeopt.evaluate.data import Batch, Data, batches
from edgeopt.evaluate.score import pool
from edgeopt.model import Model
from edgeopt.model.network.widths import Layer, layers
from edgeopt.model.tasks import FEATURE_EXTRACTION

if TYPE_CHECKING:
    import torch

_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gradients:
    """The gradients of a layer's gates, float32: (inputs, heads) and (inputs, neurons)."""

    heads: torch.Tensor
    neurons: torch.Tensor


def gradients(model: Model, data: Data) -> list[Gradients]:
    """Return each text's gradients of the gates, layer by layer."""
    import torch

    torch_layers = layers(model.module.network)
    generator = torch.Generator().manual_seed(_SEED)
    found: list[list[torch.Tensor]] = [[] for _ in range(2 * len(torch_layers))]
    with progress.step(
        f"Measuring what heads and neurons matter on {len(data)} {data.noun}"
    ) as step:
        done = 0
        for batch in batches(model, data):
            gates, hooks = _gates(torch_layers, len(batch.rows))
            try:
                (output,) = model.module(*batch.inputs)
            finally:
                for hook in hooks:
                    hook.remove()
            total = loss(model, output, batch, generator)
            for values, gradient in zip(
                found, torch.autograd.grad(total, gates, materialize_grads=True), strict=True
            ):
                values.append(gradient)
            done += len(batch.rows)
            step.update(done, len(data))
    joined = [torch.cat(values) for values in found]
    pairs = zip(joined[::2], joined[1::2], strict=True)
    return [Gradients(heads=heads, neurons=neurons) for heads, neurons in pairs]


def _gates(found: list[Layer], batch: int) -> tuple[list[torch.Tensor], list[Any]]:
    """Return gates of one, heads and neurons of each layer in turn, and the hooks that use them."""
    import torch

    gates, hooks = [], []
    for layer in found:
        for linear, count in (
            (layer.attention_output, layer.heads),
            (layer.ffn_output, layer.neurons),
        ):
            gate = torch.ones(batch, count, requires_grad=True)
            gates.append(gate)
            if linear is None:
                continue

            def multiply(_: Any, inputs: Any, gate: torch.Tensor = gate) -> Any:
                (hidden,) = inputs  # (batch, ..., count * size)
                size = hidden.shape[-1] // gate.shape[1]
                wide = gate.repeat_interleave(size, 1)
                # Windows of one image stand side by side: (batch * windows, places, ...).
                wide = wide.repeat_interleave(len(hidden) // len(gate), 0)
                return (hidden * wide.view(len(hidden), *(1,) * (hidden.dim() - 2), -1),)

            hooks.append(linear.register_forward_pre_hook(multiply))
    return gates, hooks


def loss(model: Model, output: Any, batch: Batch, generator: torch.Generator) -> Any:
    """Return the sum of the texts' losses: each gate belongs to one text, so none is mixed."""
    import torch

    if model.task == FEATURE_EXTRACTION:
        pooled = pool(output, batch.mask, model.pooling)
        return (pooled * torch.randn(pooled.shape, generator=generator)).sum()
    labels = batch.labels
    if labels is None:
        drawn = torch.multinomial(output.detach().softmax(1), 1, generator=generator)
        labels = drawn.squeeze(1)
    return torch.nn.functional.cross_entropy(output, labels, reduction="sum")


def taylor(gradient: torch.Tensor) -> torch.Tensor:
    """Return each gate's mean absolute gradient, (gates,), from ``gradient`` (texts, gates)."""
    return gradient.abs().mean(0)


def fisher(gradient: torch.Tensor) -> torch.Tensor:
    """Return the diagonal of the Fisher information, (gates,), from ``gradient`` (texts, gates)."""
    return gradient.square().mean(0)


def magnitude(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (heads,) and (neurons,): the norm of the weights into each times that out of it."""
    heads = layer.ffn_input.weight.new_zeros(0)
    if layer.attention_output is not None:
        value = layer.qkv[2].weight.reshape(layer.heads, -1)  # rows of a head stand together
        output = layer.attention_output.weight.T.reshape(layer.heads, -1)
        heads = value.norm(dim=1) * output.norm(dim=1)
    neurons = layer.ffn_input.weight.norm(dim=1) * layer.ffn_output.weight.norm(dim=0)
    return heads, neurons
