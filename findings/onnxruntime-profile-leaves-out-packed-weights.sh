#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnxruntime 1.31.1: in a profile, a node whose weight was packed when the session was opened has one
# input less in input_type_shape, and its parameter_size is that of the others. Which weights are
# packed is up to the kernels of the machine, so that products counted from a profile come out
# differently, without a word; a MatMul looks like one of nothing. With session.disable_prepacking
# all inputs stand there.
#
# Ends with 0 if it is so, else with 1.
#
# Seen on 2026-11-30 (x86-64):
#   as it is: inputs [[5, 64]], parameter_size 0
#   session.disable_prepacking: inputs [[5, 64], [64, 64]], parameter_size 16384
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'EOF'
import json

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
node = helper.make_node("MatMul", ["x", "w"], ["y"])
given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])
made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])
graph = helper.make_graph([node], "one", [given], [made], [weight])
opsets = [helper.make_opsetid("", 17)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
found = []
for title, entries in (("as it is", {}), ("session.disable_prepacking", {"session.disable_prepacking": "1"})):
    options = ort.SessionOptions()
    options.enable_profiling = True
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones((5, 64), np.float32)})
    with open(session.end_profiling()) as file:
        events = json.load(file)
    (node,) = (e["args"] for e in events if e["name"].endswith("_kernel_time"))
    shapes = [shape for tensor in node["input_type_shape"] for shape in tensor.values()]
    found.append(shapes)
    print(f"{title}: inputs {shapes}, parameter_size {node['parameter_size']}")
raise SystemExit(0 if found == [[[5, 64]], [[5, 64], [64, 64]]] else 1)
EOF
