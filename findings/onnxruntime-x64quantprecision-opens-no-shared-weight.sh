#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnx 1.23.2, onnxruntime 1.31.1, x86-64: with session.x64quantprecision=1, which is there for CPUs that
# would overflow in INT8, a model is not opened if two integer products share a weight, as the layers of an
# ALBERT do. The weight is converted for each of its users, under one name. Without the key, or with a copy of
# the weight for each product, it is opened, on the same CPU. Seen on 2026-11-29:
#   one weight, plain: opened
#   one weight, x64quantprecision: Attempt to replace the existing tensor
#   two weights, x64quantprecision: opened
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

weight = np.linspace(-127, 127, 16).astype(np.int8).reshape(4, 4)


def model(names):
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 4])
    outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["n", 4]) for i in range(2)]
    nodes = [
        helper.make_node(
            "MatMulIntegerToFloat",
            ["x", name, "x_scale", f"{name}_scale", "x_zero", f"{name}_zero"],
            [f"y{i}"],
            domain="com.microsoft",
        )
        for i, name in enumerate(names)
    ]
    constants = {"x_scale": np.float32(0.5), "x_zero": np.uint8(128)}
    for name in dict.fromkeys(names):
        constants |= {name: weight, f"{name}_scale": np.float32(0.25), f"{name}_zero": np.int8(0)}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return made.SerializeToString()


def opened(names, key):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if key:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        ort.InferenceSession(model(names), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return str(error).rsplit("AddInitializedOrtValue ")[-1].strip()
    return "opened"


seen = {
    "one weight, plain": opened(["w", "w"], False),
    "one weight, x64quantprecision": opened(["w", "w"], True),
    "two weights, x64quantprecision": opened(["w", "v"], True),
}
for name, what in seen.items():
    print(f"{name}: {what}")
first, second, third = seen.values()
raise SystemExit(0 if first == third == "opened" and "replace the existing tensor" in second else 1)
PY
