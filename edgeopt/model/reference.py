# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The reference that every artifact is held against: the imported model itself in FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeopt.extras import require
from edgeopt.model import Model, OnnxSource, network_call, network_open, onnx_call
from edgeopt.model.network_call import FileSource

Outputs = dict[str, np.ndarray]

CODE = (__name__, "edgeopt.model.importer", "edgeopt.model.torch_module")
"""The modules that the reference's answers depend on: those that make the network count too."""


def name(model: Model) -> str:
    """Return what computes the reference, for the reader of a manifest."""
    source = model.main.source
    if isinstance(source, OnnxSource):
        return f"onnxruntime {source.given.precision}"
    if isinstance(source, FileSource):
        tool = "LiteRT" if source.given.kind == network_call.TFLITE else "TensorFlow"
        return f"{tool}, the file itself"
    return "PyTorch FP32"


def run(model: Model, batches: Sequence[Mapping[str, np.ndarray]]) -> list[Outputs]:
    """Run ``batches`` (the inputs by name, batch 1) one by one and return float32 outputs by name.

    Raises MissingDependencyError if torch (or what else runs the model's file) is missing.
    """
    names = [spec.name for spec in model.main.signature.outputs]
    source = model.main.source
    if isinstance(source, OnnxSource):
        file = source.given
        session = onnx_call.open_session(str(file.path))
        return [
            dict(zip(names, onnx_call.run(session, file, batch), strict=True)) for batch in batches
        ]
    if isinstance(source, FileSource):
        network = network_open.open_network(source.given)
        return [
            dict(zip(names, network_call.call(network, source.given, batch), strict=True))
            for batch in batches
        ]
    torch = require("torch", "torch")
    outputs: list[Outputs] = []
    with torch.inference_mode():
        for batch in batches:
            tensors = [torch.from_numpy(batch[spec.name]) for spec in model.main.signature.inputs]
            results = source.module(*tensors)
            outputs.append({n: r.float().numpy() for n, r in zip(names, results, strict=True)})
    return outputs
