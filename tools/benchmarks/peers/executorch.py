# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch with XNNPACK, dynamic INT8 by its quantizer, and a free length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer, encoder, limit

VARIANTS = {"ExecuTorch XNNPACK INT8": "model.pte"}
REQUIREMENTS = ("torch==2.13.0", "executorch==1.5.1", "transformers==5.24.0")
PACKAGES = ("executorch", "torch", "torchao")


def make(model: Path, folder: Path) -> None:
    """Export with a free length, quantise the products by channel, lower to XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    class Alone(torch.nn.Module):
        """One text: its ids and mask in, its logits out."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            # transformers' own way from a mask to this indexes tensors, which the quantizer breaks.
            added = (1.0 - mask[:, None, None, :].to(torch.float32)) * -1e4
            return self.network(input_ids=ids, attention_mask=added, return_dict=False)[0]

    example = (torch.ones((1, 24), dtype=torch.int64), torch.ones((1, 24), dtype=torch.int64))
    tokens = torch.export.Dim("tokens", min=2, max=limit(model))
    free = ({1: tokens}, {1: tokens})
    with torch.no_grad():
        program = torch.export.export(Alone(), example, dynamic_shapes=free, strict=False)
        quantizer = XNNPACKQuantizer().set_global(
            get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
        )
        prepared = prepare_pt2e(program.module(), quantizer)
        prepared(*example)
        converted = convert_pt2e(prepared)
        quantised = torch.export.export(converted, example, dynamic_shapes=free, strict=False)
    lowered = to_edge_transform_and_lower(quantised, partitioner=[XnnpackPartitioner()])
    (folder / "model.pte").write_bytes(lowered.to_executorch().buffer)


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    import torch
    from executorch.extension.pybindings.portable_lib import (
        _load_for_executorch,
        _unsafe_reset_threadpool,
    )

    encode = encoder(model, length)
    _unsafe_reset_threadpool(1)
    network = _load_for_executorch(str(folder / variant))

    def answer(text: str) -> Answer:
        found = encode(text)
        ids = torch.tensor([found.ids], dtype=torch.int64)
        mask = torch.tensor([found.attention_mask], dtype=torch.int64)
        (logits,) = network.forward((ids, mask))
        return int(logits.argmax()), sum(found.attention_mask), logits[0]

    return answer
