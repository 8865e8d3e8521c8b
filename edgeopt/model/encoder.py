"""The module that is lowered: a transformers encoder with plain tensors in and out."""

from __future__ import annotations

from typing import Any

import torch

from edgeopt.model.tasks import OUTPUTS


class Encoder(torch.nn.Module):
    """Call ``network`` with tensors by position and return a tuple of tensors.

    With ``additive_mask`` the mask of two dimensions becomes (batch, 1, 1, seq) float32 here: 0
    where a token counts, the lowest float where not. transformers hands such a mask through to
    the attention, so that the graph has none of its mask building (index ops that LiteRT's and
    TVM's importers do not take), and the pattern is the one that onnxruntime's fusion knows.
    """

    def __init__(
        self, network: Any, inputs: tuple[str, ...], task: str, *, additive_mask: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.outputs = OUTPUTS[task]
        self.additive_mask = additive_mask

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take int64 (batch, seq) by the order of ``inputs``; return the task's outputs."""
        named = dict(zip(self.inputs, tensors, strict=True))
        if self.additive_mask:
            mask = named["attention_mask"].unsqueeze(1).unsqueeze(2).to(torch.float32)
            named["attention_mask"] = (1.0 - mask) * torch.finfo(torch.float32).min
        result = self.network(**named, return_dict=True)
        return tuple(result[name] for name in self.outputs)
