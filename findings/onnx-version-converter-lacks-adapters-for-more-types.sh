#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnx 1.23.2: version_converter cannot lower operators that have only learnt more types since.
# Identity 16 differs from 13 (of opset 14 too) in one more type, and ConstantOfShape 20 from 9 in more types,
# but there is no adapter; all of a graph is refused for one of them. Seen on 2026-11-29:
#   Identity 17 -> 15: No Adapter From Version $16 for Identity
#   ConstantOfShape 20 -> 17: No Adapter To Version $19 for ConstantOfShape
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])
shape = numpy_helper.from_array(np.array([2, 4]), "shape")
cases = {
    "Identity": ([helper.make_node("Identity", ["x"], ["y"])], 17, 15),
    "ConstantOfShape": (
        [helper.make_node("ConstantOfShape", ["shape"], ["zeros"]), helper.make_node("Add", ["x", "zeros"], ["y"])],
        20, 17,
    ),
}
refused = []
for name, (nodes, have, want) in cases.items():
    graph = helper.make_graph(nodes, "g", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", have)], ir_version=9)
    onnx.checker.check_model(model)
    try:
        version_converter.convert_version(model, want)
        said = "converted"
    except RuntimeError as error:
        said = str(error).split("failed: ")[-1].strip()
    refused.append("No Adapter" in said)
    print(f"{name} {have} -> {want}: {said}")
raise SystemExit(0 if all(refused) else 1)
PY
