# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensors inside an ONNX file: a copy of it in which every value is an output."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Artifact, Batch, Outputs
from edgeopt.backends.inside import Inside, Tensor, split
from edgeopt.backends.onnx import computes_wider, session_options
from edgeopt.backends.onnx_quantize import widen
from edgeopt.extras import require
from edgeopt.model import Model


def inside(model: Model, artifact: Artifact, directory: Path, batch: Batch) -> Inside:
    """Run the file with onnxruntime's graph optimisation off and all values as outputs."""
    del model
    options = session_options(artifact, directory, threads=1)
    return of_file(
        directory / artifact.main.files[0],
        [spec.name for spec in artifact.main.signature.outputs],
        batch,
        options,
        wider=computes_wider(artifact, directory),
    )


def fused(artifact: Artifact, directory: Path, batch: Batch, keep: Sequence[str]) -> Outputs:
    """Run the file optimised as it is, but with the values ``keep`` as outputs too."""
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    names = [spec.name for spec in artifact.main.signature.outputs]
    proto = onnx.load(str(directory / artifact.main.files[0]))
    more = [name for name in keep if name not in names]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    options = session_options(artifact, directory, threads=1)
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(names, dict(batch))
    return {n: np.asarray(v, np.float32) for n, v in zip(names, values, strict=True)}


def of_file(
    path: Path, outputs: list[str], batch: Batch, options: Any = None, *, wider: bool = False
) -> Inside:
    """Return what lies inside the file at ``path``; see ``inside``.

    ``wider`` has INT8 products computed as ``session.x64quantprecision`` does.
    """
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    options = options or ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = onnx.load(str(path))
    if wider:
        widen(proto)
    used = _used(proto, outputs)
    nodes = [node for node in used if node.op_type not in ("Constant", "Identity")]
    made = {name: node for node in nodes for name in node.output if name}
    more = [name for name in made if name not in outputs]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "inside.onnx"
        onnx.save(proto, str(copy))
        session = ort.InferenceSession(str(copy), options, providers=["CPUExecutionProvider"])
        values = dict(
            zip([*outputs, *more], session.run([*outputs, *more], dict(batch)), strict=True)
        )
    return Inside(
        tensors=[
            Tensor(
                name=name,
                operator=node.op_type,
                scope=split(name.rpartition("/")[0]),
                value=np.asarray(values[name], np.float32),
            )
            for name, node in made.items()
            if getattr(values[name], "dtype", None) in (np.float32, np.float16)
        ],
        outputs={name: np.asarray(values[name], np.float32) for name in outputs},
    )


def _used(proto: Any, outputs: Sequence[str]) -> list[Any]:
    """Return the nodes that ``outputs`` depend on, in order."""
    wanted, found = set(outputs), []
    for node in reversed(proto.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]
