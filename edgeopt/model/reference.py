# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The reference that every artifact is held against: the imported model itself in FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeopt.extras import require
from edgeopt.model import Model, onnx_call

Outputs = dict[str, np.ndarray]


def name(model: Model) -> str:
    """Return what computes the reference, for the reader of a manifest."""
    if model.module is not None:
        return "PyTorch FP32"
    return f"onnxruntime {model.given.precision if model.given else 'FP32'}"


def run(model: Model, batches: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
    """Run ``batches`` (the inputs by name, batch 1) one by one and return float32 outputs by name.

    Raises MissingDependencyError where torch (or onnxruntime for an .onnx model) is missing.
    """
    names = [spec.name for spec in model.signature.outputs]
    if model.module is None:
        file = file_of(model)
        session = onnx_call.open_session(str(file.path))
        return [
            dict(zip(names, onnx_call.run(session, file, batch), strict=True)) for batch in batches
        ]
    torch = require("torch", "torch")
    outputs: list[Outputs] = []
    with torch.inference_mode():
        for batch in batches:
            tensors = [torch.from_numpy(batch[spec.name]) for spec in model.signature.inputs]
            results = model.module(*tensors)
            outputs.append({n: r.float().numpy() for n, r in zip(names, results, strict=True)})
    return outputs


def file_of(model: Model) -> onnx_call.OnnxFile:
    """Return the .onnx file as it came; for one without a word on that, the one to be shipped."""
    if model.given is not None:
        return model.given
    if model.onnx is None:
        raise ValueError(f"{model.name} has neither a module nor a file")
    inputs = model.signature.inputs
    return onnx_call.OnnxFile(
        path=model.onnx,
        feeds=tuple(onnx_call.Feed(name=t.name, ours=t.name, dtype=t.dtype) for t in inputs),
        outputs=tuple(t.name for t in model.signature.outputs),
    )
