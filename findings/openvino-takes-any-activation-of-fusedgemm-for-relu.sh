#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# openvino 2026.4.1: of FusedGemm, which onnxruntime writes for Gemm and an activation (a saved model that it
# optimised, from "extended" on), Relu and LeakyRelu are read. Tanh, Sigmoid and Elu become a Relu, without an error
# or a warning: the pooler of BERT is such a Tanh. Seen on 2026-11-29, of -1, 0.5 and 2, onnxruntime 1.31.1 first:
#   Relu, LeakyRelu: the same
#   Tanh: -0.76, 0.46, 0.96 and 0, 0.5, 2
#   Sigmoid: 0.27, 0.62, 0.88 and 0, 0.5, 2
#   Elu: -0.32, 0.5, 2 and 0, 0.5, 2
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.31.1 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import openvino
from onnx import TensorProto, helper, numpy_helper

x = np.array([[-1.0, 0.5, 2.0]], np.float32)
differs = {}
for activation in ("Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu"):
    options = {"activation": activation}
    if activation in ("LeakyRelu", "Elu"):
        options["activation_alpha"] = 0.5
    graph = helper.make_graph(
        [helper.make_node("FusedGemm", ["x", "w", "b"], ["y"], domain="com.microsoft", **options)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w"),
         numpy_helper.from_array(np.zeros(3, np.float32), "b")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "m.onnx")
    theirs = ort.InferenceSession("m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    ours = openvino.Core().compile_model("m.onnx", "CPU", options)({"x": x})[0]
    differs[activation] = float(np.abs(theirs - ours).max()) > 1e-2
    print(f"{activation}: onnxruntime {np.array2string(theirs, precision=2)}, openvino {np.array2string(ours, precision=2)}")
expected = {"Relu": False, "LeakyRelu": False, "Tanh": True, "Sigmoid": True, "Elu": True}
raise SystemExit(0 if differs == expected else 1)
PY
