"""The reference that every artifact is held against: the imported model itself in FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeopt.extras import require
from edgeopt.model import Model

Outputs = dict[str, np.ndarray]


def name(model: Model) -> str:
    """Return what computes the reference, for the reader of a manifest."""
    return "PyTorch FP32" if model.module is not None else "onnxruntime FP32"


def run(model: Model, batches: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
    """Run ``batches`` (the inputs by name, batch 1) one by one and return float32 outputs by name.

    Raises MissingDependencyError where torch (or onnxruntime for an .onnx model) is missing.
    """
    names = [spec.name for spec in model.signature.outputs]
    if model.module is None:
        ort = require("onnxruntime", "onnx")
        session = ort.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
        return [dict(zip(names, session.run(names, dict(batch)), strict=True)) for batch in batches]
    torch = require("torch", "torch")
    outputs: list[Outputs] = []
    with torch.inference_mode():
        for batch in batches:
            tensors = [torch.from_numpy(batch[spec.name]) for spec in model.signature.inputs]
            results = model.module(*tensors)
            outputs.append({n: r.float().numpy() for n, r in zip(names, results, strict=True)})
    return outputs
