# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""onnxruntime as it comes: torch.onnx.export in FP32, and the tokenizers package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer, encoder

FILE = "model.onnx"
VARIANTS = {"onnxruntime FP32": FILE}
REQUIREMENTS: tuple[str, ...] = ()  # edgeopt's own environment has both
PACKAGES = ("onnxruntime", "tokenizers")


def make(model: Path, folder: Path) -> None:
    """Export the checkpoint with free batch and length."""
    import torch
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    network.config.return_dict = False
    ids = torch.ones((2, 16), dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        network,
        (ids, ids, torch.zeros_like(ids)),
        str(folder / FILE),
        dynamo=False,
        opset_version=17,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "seq"} for name in names} | {"logits": {0: "batch"}},
    )


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    import numpy as np
    import onnxruntime as ort

    encode = encoder(model, length)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        str(folder / variant), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]

    def answer(text: str) -> Answer:
        found = encode(text)
        values = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        feed = {name: np.array([values[name]], dtype=np.int64) for name in names}
        logits = session.run(None, feed)[0]
        return int(logits.argmax()), sum(found.attention_mask), logits[0]

    return answer
