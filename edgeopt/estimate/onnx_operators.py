# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Count the operators of an ``.onnx`` file in one call: onnxruntime itself tells them.

The file is run once here under onnxruntime's profiler, which names each node that runs, after what
any engine fuses is fused, with the shapes that it got and gave. No time is read from it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.errors import InputError
from edgeopt.estimate.operators import OTHER, Network, Operator, elements
from edgeopt.extras import require

# Which input is the weight, and which of the others is multiplied with it.
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3}
_MATRIX = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger"), 1),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"), 1),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), 3),
}
_ATTENTION = ("Attention", "MultiHeadAttention", "QAttention")
_FREE = frozenset(
    ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Size", "Constant")
)
# Fusions that join products to one node, of which the shapes would not tell the parts.
_APART = ["AttentionFusion", "EmbedLayerNormFusion", "GroupQueryAttentionFusion"]


def count(path: Path, inputs: Mapping[str, np.ndarray] | None, seq_len: int, name: str) -> Network:
    """Return the operators of one call of the file.

    ``inputs`` are by the file's own names; None makes some up: one text of ``seq_len`` tokens for
    sizes that are free, of which the first is the batch. Raises InputError if onnxruntime does not
    run that, and MissingDependencyError if it is not installed.
    """
    ort = require("onnxruntime", "onnx")
    with tempfile.TemporaryDirectory(prefix="edgeopt-count-") as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        # Beyond this level layouts are the host's own, and its shapes no longer the network's.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        # A weight that a kernel packed is no longer among a node's inputs: see
        # findings/onnxruntime-profile-leaves-out-packed-weights.sh.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_APART
            )
            session.run(None, dict(inputs or _made_up(session, seq_len, path)))
        except InputError:
            raise
        # onnxruntime's exceptions have no common base.
        except Exception as exc:
            raise _refused(path, exc) from exc
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [
        e["args"] for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")
    ]
    return Network(name=name, operators=tuple(o for node in nodes for o in _operators(node)))


def has_free_size(path: Path) -> bool:
    """Return whether a call of the file may have another length. Raises as ``count``."""
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise _refused(path, exc) from exc
    return any(
        not isinstance(size, int) for port in session.get_inputs() for size in port.shape[1:]
    )


def _refused(path: Path, exc: Exception) -> InputError:
    return InputError(
        f"onnxruntime does not run it: {str(exc).strip().splitlines()[0][:200]}",
        where=str(path),
        hint="edgeopt inspect FILE --target TARGET tells which operator is in the way.",
    )


def _made_up(session: Any, seq_len: int, path: Path) -> dict[str, np.ndarray]:
    """Return a mask of ones, and else zeros, which are in every table; of the file's sizes."""
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(bool)": np.bool_}
    kinds |= {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
    made: dict[str, np.ndarray] = {}
    for port in session.get_inputs():
        if port.type not in kinds:
            raise InputError(
                f"input {port.name} is {port.type}, expected one of {', '.join(kinds)}",
                where=str(path),
            )
        shape = [
            size if isinstance(size, int) else 1 if i == 0 else seq_len
            for i, size in enumerate(port.shape)
        ]
        fill = np.ones if "mask" in port.name else np.zeros
        made[port.name] = fill(shape, kinds[port.type])
    return made


def _operators(node: Mapping[str, Any]) -> Iterator[Operator]:
    """Yield what a node of the profile computes."""
    kind = node["op_name"]
    given, made = _shapes(node["input_type_shape"]), _shapes(node["output_type_shape"])
    if kind in _FREE or not made:
        return
    moved = sum(map(elements, given)) + sum(map(elements, made))
    if kind in _CONVOLUTIONS and len(given) > _CONVOLUTIONS[kind]:
        yield _convolution(kind, given, made[0], moved)
    elif kind in _MATRIX and len(given) > _MATRIX[kind]:
        yield _product(given, made[0], moved, int(node.get("parameter_size", 0)), _MATRIX[kind])
    elif kind in _ATTENTION:
        yield from _attention(given, made[0])
    elif kind in ("Gather", "GatherElements"):  # most of the table is not read
        yield Operator(OTHER, 0, 0, 2 * elements(made[0]))
    else:
        yield Operator(OTHER, 0, 0, moved)


def _shapes(told: list[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for tensor in told for shape in tensor.values()]


def _convolution(kind: str, given: list[list[int]], made: list[int], moved: int) -> Operator:
    weight = given[_CONVOLUTIONS[kind]]
    image = made if kind != "ConvTranspose" else given[0]
    window = elements(weight[2:])
    macs = elements(image) * elements(weight[1:])
    channels = given[0][1]
    alone = channels > 1 and weight[1] == 1 and weight[0] >= channels
    name = "depthwise" if alone else "pointwise" if window == 1 else "conv"
    return Operator(name, macs, elements(weight), moved - elements(weight))


def _product(
    given: list[list[int]], made: list[int], moved: int, parameter_bytes: int, weight: int
) -> Operator:
    columns = made[-1] if made else 1
    depth = elements(given[0]) * columns // max(elements(made), 1)  # right if transposed, too
    macs = elements(made) * depth
    if 2 * parameter_bytes >= columns * depth > 0:  # a weight has half a byte a number or more
        size = columns * depth
        return Operator("linear", macs, size, moved - elements(given[weight]))
    return Operator("matmul", macs, 0, moved)


def _attention(given: list[list[int]], made: list[int]) -> Iterator[Operator]:
    """Yield the products of a fused attention; the first input is (batch, seq, hidden)."""
    *_, seq, hidden = given[0][-3:]
    rows = elements(given[0]) // hidden
    width = made[-1]
    if len(given) > 1 and len(given[1]) == 2 and given[1][0] == hidden:  # with its projections
        weights = elements(given[1])
        yield Operator("linear", rows * weights, weights, rows * (hidden + weights // hidden))
        keys = seq
    else:
        keys = given[1][-2] if len(given) > 1 else seq
    for _ in range(2):
        yield Operator("matmul", rows * keys * width, 0, 2 * rows * width)
    yield Operator(OTHER, 0, 0, 2 * rows * keys)
