#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnxruntime 1.31.1: after quantize_dynamic a row's answer depends on the other rows of its batch,
# since DynamicQuantizeLinear takes one range over the whole tensor. One neighbour ten times as
# loud changes the decision of some rows; in float32 none changes.
#
# Ends with 0 if it is so, else with 1.
#
# Seen on 2026-11-29:
#   float32: 0 of 200 decisions change beside a loud row, logits by up to 0.000
#   quantize_dynamic: 9 of 200 decisions change beside a loud row, logits by up to 0.131
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'EOF'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

rng = np.random.default_rng(0)
shapes = {"w1": (64, 128), "w2": (128, 8)}
weights = [
    numpy_helper.from_array((rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32), name)
    for name, shape in shapes.items()
]
nodes = [
    helper.make_node("MatMul", ["x", "w1"], ["hidden"]),
    helper.make_node("Tanh", ["hidden"], ["bent"]),
    helper.make_node("MatMul", ["bent", "w2"], ["logits"]),
]
given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])
made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])
graph = helper.make_graph(nodes, "classifier", [given], [made], weights)
opsets = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "fp32.onnx")
quantize_dynamic("fp32.onnx", "int8.onnx")
rows = rng.normal(size=(200, 64)).astype(np.float32)
loud = rng.normal(size=(1, 64)).astype(np.float32) * 10
changes = []
for title, path in (("float32", "fp32.onnx"), ("quantize_dynamic", "int8.onnx")):
    session = ort.InferenceSession(path)
    alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])
    beside = np.concatenate(
        [session.run(None, {"x": np.concatenate([row[None], loud])})[0][:1] for row in rows]
    )
    changes.append(int((alone.argmax(1) != beside.argmax(1)).sum()))
    most = np.abs(alone - beside).max()
    print(
        f"{title}: {changes[-1]} of 200 decisions change beside a loud row, "
        f"logits by up to {most:.3f}"
    )
raise SystemExit(0 if changes[0] == 0 and changes[1] > 0 else 1)
EOF
