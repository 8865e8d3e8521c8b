#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# apache-tvm 0.26.0: the code for ONNX's GatherElements reads in front of the tensor for a negative index, which
# counts from the end in ONNX; the answer is whatever lies there. LayerNormalization's second and third outputs,
# mean and deviation, are zeros of no dimension. No error, no warning. Seen on 2026-11-29:
#   GatherElements at -1, -1, 0: wrong at the negative ones
#   LayerNormalization's mean of 3 rows: 0.0, 0.0
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apache-tvm==0.26.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import tvm
from onnx import TensorProto, helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def run(node, shapes, *values):
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info(n, kinds[v.dtype], v.shape) for n, v in zip(node.input, values)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(node.output, shapes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    module = from_onnx(model, keep_params_in_input=False)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    return machine["main"](*map(tvm.runtime.tensor, values))


x = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=0)
found = run(node, [(1, 3)], x, np.array([[-1, -1, 0]])).numpy()
gathers = found[0, 2] == 3 and not np.array_equal(found, [[7, 8, 3]])
print(f"GatherElements at -1, -1, 0: {'wrong at the negative ones' if gathers else found.tolist()}")
node = helper.make_node("LayerNormalization", ["x", "s"], ["y", "mean", "deviation"])
_, mean, deviation = run(node, [(3, 3), (3, 1), (3, 1)], x, np.ones(3, np.float32))
print(f"LayerNormalization's mean of 3 rows: {mean.numpy().tolist()}, {deviation.numpy().tolist()}")
raise SystemExit(0 if gathers and mean.numpy().shape == () and float(mean.numpy()) == 0 else 1)
PY
