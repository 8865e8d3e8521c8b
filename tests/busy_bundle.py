# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A small bundle for an emulated Raspberry Pi 4 whose inference computes for a while."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.agent_runs import Case

N = 96
"""Its graph multiplies two pairs of square matrices of this size."""


def write(folder: Path) -> Path:
    """Return a bundle whose one graph computes for a while."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    h, types = onnx.helper, onnx.TensorProto
    made = Case(Path("unused"), Path("unused"), folder)
    nodes = [
        h.make_node("Cast", ["ids"], ["f"], to=types.FLOAT),
        h.make_node("Cast", ["attention_mask"], ["m"], to=types.FLOAT),
        h.make_node("Mul", ["f", "m"], ["p"]),
        h.make_node("Unsqueeze", ["p", "axes"], ["u"]),
        h.make_node("Mul", ["u", "w"], ["o"]),
        h.make_node("ReduceSum", ["p"], ["s"], keepdims=0),
        h.make_node("Mul", ["s", "square"], ["a"]),
        h.make_node("MatMul", ["a", "square"], ["b"]),
        h.make_node("MatMul", ["b", "square"], ["c"]),
        h.make_node("ReduceMax", ["c"], ["r"], keepdims=0),
        h.make_node("Mul", ["r", "nothing"], ["z"]),
        h.make_node("Add", ["o", "z"], ["out"]),
    ]
    graph = h.make_graph(
        nodes, "graph",
        [h.make_tensor_value_info("attention_mask", types.INT32, ["b", "s"]),
         h.make_tensor_value_info("ids", types.INT64, ["b", "s"])],
        [h.make_tensor_value_info("out", types.FLOAT, ["b", "s", 3])],
        [h.make_tensor("axes", types.INT64, [1], [2]),
         h.make_tensor("w", types.FLOAT, [3], [1, 2, 3]),
         onnx.numpy_helper.from_array(np.full((N, N), 1e-3, np.float32), "square"),
         h.make_tensor("nothing", types.FLOAT, [], [0.0])],
    )  # fmt: skip
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    made.model.write_bytes(model.SerializeToString())
    made.arch = "aarch64"
    return made.write()
