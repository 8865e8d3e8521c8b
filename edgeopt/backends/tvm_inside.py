# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensors inside a TVM artifact: the same graph compiled again, its values outputs.

A library has no names left, so the ONNX graph that it came from is made anew and given more
outputs. What is fused into one kernel is then cut there; the schedule is the same.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Artifact, Batch
from edgeopt.backends.inside import Inside, Tensor, split
from edgeopt.backends.onnx_inside import of_file
from edgeopt.backends.tvm import KEPT, compile_for_host, source_graph
from edgeopt.backends.tvm_graph import function_name
from edgeopt.backends.tvm_library import computes_halves
from edgeopt.extras import require
from edgeopt.model import Model

_WORTH = (
    "Add",
    "Conv",
    "Erf",
    "Gather",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "ReduceMean",
    "Softmax",
    "Tanh",
)
"""Operators whose outputs are asked for; layouts (Reshape, Transpose) would only add kernels."""


def inside(model: Model, artifact: Artifact, directory: Path, batch: Batch) -> Inside:
    """Compile the graph for this host with its values as outputs, and run that."""
    kept = directory / KEPT
    keep = json.loads(kept.read_text()) if kept.is_file() else ()
    onnx = require("onnx", "onnx")
    length = artifact.main.signature.seq_len({name: v.shape for name, v in batch.items()})
    names = [spec.name for spec in model.main.signature.outputs]
    with tempfile.TemporaryDirectory() as folder:
        source = source_graph(model, Path(folder) / "model.onnx")
        proto = onnx.load(str(source))
        depends = _on_inputs(proto)
        # Only what onnxruntime makes of it on this call tells that a value is a float tensor.
        known = {t.name: t for t in of_file(source, names, batch).tensors if t.operator in _WORTH}
        more = [name for name in known if name not in names and name in depends]
        proto.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in more
        )
        wide = Path(folder) / "inside.onnx"
        onnx.save(proto, str(wide))
        machine = compile_for_host(
            model,
            wide,
            length,
            Path(folder),
            artifact.precision,
            keep,
            halves=computes_halves(artifact.options["mcpu"]),
        )
        values = _run(machine, artifact, batch, length)
    arrays = dict(zip([*names, *more], values, strict=True))
    return Inside(
        tensors=[
            Tensor(
                name=name,
                operator=known[name].operator,
                scope=split(name.rpartition("/")[0]),
                value=arrays[name],
            )
            for name in more
        ],
        outputs={name: arrays[name] for name in names},
    )


def _on_inputs(proto: Any) -> set[str]:
    """Return the values that depend on an input; the others are folded away."""
    found = {value.name for value in proto.graph.input}
    for node in proto.graph.node:
        if node.op_type != "Shape" and found & set(node.input):
            found |= set(node.output)
    return found


def _run(machine: Any, artifact: Artifact, batch: Batch, length: int) -> list[np.ndarray]:
    import tvm

    inputs = [
        np.ascontiguousarray(batch[t.name], dtype=t.dtype) for t in artifact.main.signature.inputs
    ]
    outputs = machine[function_name(length)](*map(tvm.runtime.tensor, inputs))
    if hasattr(outputs, "numpy"):
        outputs = [outputs]
    return [np.asarray(output.numpy(), np.float32) for output in outputs]
