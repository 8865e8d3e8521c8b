# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The grid of quantised values, in torch: what engines' kernels do to a linear module, simulated.

Weights have one scale to an output channel, or to a group of its inputs, and no zero point:

    narrow    s = max|w| / (2^(b-1) - 1)         ONNX and OpenVINO in 8 bits, TFLite
    full      s = the w of max|w| / -(2^(b-1))   MatMulNBits and NNCF in 4 bits: one more value

Activations have 8 bits, a scale and a zero point to each token, found call by call. Gradients pass
the rounding straight through (Bengio et al. 2013, "Estimating or Propagating Gradients Through
Stochastic Neurons", section 4), as in Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.model import Model

if TYPE_CHECKING:
    import torch

NETWORK = "network."
"""Before every name in the wrapped module, and of no use to a reader."""

_TINY = 1e-12  # keeps weights and tokens that are all zero from a division by zero


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """How weights are rounded: ``group_size`` inputs (0: all of a channel) share a scale."""

    bits: int = 8
    group_size: int = 0
    full: bool = False


def linears(model: Model) -> dict[str, torch.nn.Linear]:
    """Return the linear modules by name, in the model's order; none for an .onnx file."""
    if not model.main.is_torch:
        return {}
    import torch

    return {
        name.removeprefix(NETWORK): module
        for name, module in model.module.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def snap(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return ``weight`` (outputs, inputs) with every value at the nearest point of the grid.

    Twice is as good as once. If groups do not divide the inputs, a channel is one group.
    """
    size = grid.group_size if grid.group_size and weight.shape[1] % grid.group_size == 0 else 0
    groups = weight.reshape(-1, size or weight.shape[1])
    half = 2 ** (grid.bits - 1)
    if grid.full:
        scale = groups.gather(1, groups.abs().argmax(1, keepdim=True)) / -half
        scale = scale.where(scale.abs() > _TINY, _TINY)
        points = (groups / scale).round().clamp(-half, half - 1)
    else:
        scale = groups.abs().amax(1, keepdim=True).clamp(min=_TINY) / (half - 1)
        points = (groups / scale).round()
    return (points * scale).reshape(weight.shape)


def through(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return ``snap(weight)``, whose gradient is that of ``weight`` itself."""
    return weight + (snap(weight, grid) - weight).detach()


def fake_tokens(hidden: torch.Tensor) -> torch.Tensor:
    """Return ``hidden`` (..., inputs) as 8 bits keep it, each token in a range of its own."""
    import torch

    tokens = hidden.reshape(-1, hidden.shape[-1])
    with torch.no_grad():
        low = tokens.amin(1).clamp(max=0)
        high = tokens.amax(1).clamp(min=0)
        scale = ((high - low) / 255).clamp(min=_TINY).float()
        zero = (-low / scale).round().to(torch.int32)
    kept = torch.fake_quantize_per_channel_affine(tokens.float(), scale, zero, 0, 0, 255)
    return kept.to(hidden.dtype).reshape(hidden.shape)


def fake_inputs(_: Any, inputs: Any) -> Any:
    """Do the work of a forward pre-hook of a linear module: its input by ``fake_tokens``."""
    (hidden,) = inputs
    return (fake_tokens(hidden),)
