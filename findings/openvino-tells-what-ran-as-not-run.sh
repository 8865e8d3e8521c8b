#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# openvino 2026.4.1: with PERF_COUNT, a node of the CPU plugin that ran and took below a microsecond has the status
# NOT_RUN. The plugin keeps whole microseconds of each call, and takes a mean of 0 for a node that never ran. What ran
# thus differs from process to process.
# Seen on 2026-11-30:
#   Add of 4 numbers, 1000 runs: its result is right; 0 us, NOT_RUN
#   Add of 4,000,000 numbers, 20 runs: its result is right; above 0 us, EXECUTED
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import openvino
from openvino import opset13 as ops

found = []
for size, runs in ((4, 1000), (4_000_000, 20)):
    x = ops.parameter([size], np.float32, name="x")
    y = ops.parameter([size], np.float32, name="y")
    model = openvino.Model([ops.add(x, y, name="sum")], [x, y], "m")
    options = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    given = np.arange(size, dtype=np.float32)
    for _ in range(runs):
        result = request.infer([given, given])[0]
    right = bool(np.array_equal(result, given + given))
    (node,) = (node for node in request.profiling_info if node.node_name == "sum")
    us = node.real_time.total_seconds() * 1e6
    status = str(node.status).rpartition(".")[2]
    found.append((right, us > 0, status))
    print(f"Add of {size} numbers, {runs} runs: {'right' if right else 'wrong'}; {us:.0f} us, {status}")
raise SystemExit(0 if found == [(True, False, "NOT_RUN"), (True, True, "EXECUTED")] else 1)
PY
