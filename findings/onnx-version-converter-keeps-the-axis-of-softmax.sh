#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnx 1.23.2: version_converter lowers Softmax below opset 13 and keeps its axis, which means another thing there.
# Before opset 13 Softmax took all dimensions from its axis on for one. For an axis that is not the last the
# converted model answers otherwise, without an error or a warning. Seen on 2026-11-29, x of (2, 3, 4):
#   axis=2, opset 13 as 12: off by 0.00
#   axis=1, opset 13 as 12: off by 0.37
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
import onnx.version_converter
import onnxruntime as ort
from onnx import TensorProto, helper

x = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 10


def run(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


off = {}
for axis in (2, 1):
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"], axis=axis)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    off[axis] = float(np.abs(run(model) - run(onnx.version_converter.convert_version(model, 12))).max())
    print(f"axis={axis}, opset 13 as 12: off by {off[axis]:.2f}")
raise SystemExit(0 if off[2] < 1e-6 and off[1] > 0.1 else 1)
PY
