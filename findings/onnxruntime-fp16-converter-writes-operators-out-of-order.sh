#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnxruntime 1.31.1: its converter to FP16 writes operators out of order, which onnx.checker refuses.
# convert_float_to_float16(model, keep_io_types=True) puts the Casts of the inputs behind the operators that read
# them. onnxruntime sorts and loads it; other readers, which take operators in the order of the file, do not.
# Seen on 2026-11-29:
#   operators: Relu, Relu, Cast, Cast
#   checker: Nodes in a graph must be topologically sorted
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])
nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Relu", ["r"], ["y"])]
model = helper.make_model(
    helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
)
half = convert_float_to_float16(model, keep_io_types=True)
print("operators:", ", ".join(node.op_type for node in half.graph.node))
ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
try:
    onnx.checker.check_model(half)
    said = "passes"
except onnx.checker.ValidationError as error:
    said = str(error).split(",")[0]
print("checker:", said)
raise SystemExit(0 if "topologically sorted" in said else 1)
PY
