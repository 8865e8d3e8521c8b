#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# openvino 2026.4.1: Tile of a tensor of four dimensions, with repeats that are an input, gives memory that was
# never written. With fewer dimensions, or with repeats that are constants, it is right. No error, no warning.
# Seen on 2026-11-29:
#   3 dimensions, repeats constant: right; an input: right
#   4 dimensions, repeats constant: right; an input: wrong
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

right = {}
for shape in ((2, 3, 4), (2, 3, 4, 5)):
    for constant in (True, False):
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
        repeats = np.full(len(shape), 2)
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        if not constant:
            inputs.append(helper.make_tensor_value_info("r", TensorProto.INT64, [len(shape)]))
        graph = helper.make_graph(
            [helper.make_node("Tile", ["x", "r"], ["y"])], "g", inputs,
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
            [numpy_helper.from_array(repeats, "r")] if constant else [],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, "m.onnx")
        given = {"x": x} if constant else {"x": x, "r": repeats}
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        found = openvino.Core().compile_model("m.onnx", "CPU", options)(given)[0]
        right[len(shape), constant] = bool(np.array_equal(found, np.tile(x, repeats)))
        print(f"{len(shape)} dimensions, repeats {'constant' if constant else 'an input'}: "
              f"{'right' if right[len(shape), constant] else 'wrong'}")
raise SystemExit(0 if [*right.values()] == [True, True, True, False] else 1)
PY
