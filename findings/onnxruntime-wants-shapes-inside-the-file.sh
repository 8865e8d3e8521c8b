#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnx 1.23.2, onnxruntime 1.31.1: onnxruntime does not load a model whose shapes lie in external data.
# onnx.save(..., save_as_external_data=True, size_threshold=0) writes every tensor to the other file, the two
# integers that a Reshape takes as well; onnx.checker accepts it, onnxruntime refuses. With the default of
# 1,024 bytes it loads. Seen on 2026-11-29:
#   size_threshold=1024: loads
#   size_threshold=0: Node () Op (Reshape) [ShapeInferenceError] Cannot parse data from external tensors.
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
graph = helper.make_graph(
    [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("Add", ["flat", "w"], ["y"])],
    "g", [x], [y],
    [numpy_helper.from_array(np.array([-1, 4]), "shape"), numpy_helper.from_array(np.ones(4, np.float32), "w")],
)
loaded = {}
for threshold in (1024, 0):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = f"{threshold}.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=threshold, location=f"{threshold}.bin")
    onnx.checker.check_model(path)
    try:
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        loaded[threshold] = "loads"
    except Exception as error:
        loaded[threshold] = str(error).split("failed:")[-1]
    print(f"size_threshold={threshold}: {loaded[threshold]}")
as_seen = loaded[1024] == "loads" and "Cannot parse data from external tensors" in loaded[0]
raise SystemExit(0 if as_seen else 1)
PY
