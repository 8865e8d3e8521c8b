#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# OpenVINO 2026.4.1 with INFERENCE_NUM_THREADS 1 gives the answer of the call before, without an
# error, if shapes inside a model with free dimensions do not fit: here a model that was traced for
# 16 tokens, whose input says that any number will do. With two threads it raises RuntimeError.
#
# Ends with 0 if it is so, else with 1.
#
# Seen on 2026-11-29:
#   1 thread: 8 tokens: the answer of the 16 before
#   2 threads: 8 tokens: RuntimeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'EOF'
import numpy as np
import openvino as ov
from openvino import opset13 as op

rng = np.random.default_rng(0)
words = rng.normal(size=(50, 8)).astype(np.float32)
places = rng.normal(size=(1, 16, 8)).astype(np.float32)
ids = op.parameter([-1, -1], np.int64, name="ids")
looked = op.gather(op.constant(words), ids, op.constant(np.int64(0)))
mean = op.reduce_mean(op.add(looked, op.constant(places)), op.constant(np.array([1])))
model = ov.Model([mean], [ids])
seen = {}
for threads in (1, 2):
    told = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = ov.Core().compile_model(model, "CPU", told).create_infer_request()
    before = np.array(request.infer([np.arange(16)[None]])[0])
    try:
        after = np.array(request.infer([np.arange(8)[None] + 20])[0])
        same = np.array_equal(before, after)
        seen[threads] = "the answer of the 16 before" if same else f"another: {after}"
    except RuntimeError:
        seen[threads] = "RuntimeError"
    print(f"{threads} thread{'s' * (threads > 1)}: 8 tokens: {seen[threads]}", flush=True)
right = {1: "the answer of the 16 before", 2: "RuntimeError"}
raise SystemExit(0 if seen == right else 1)
EOF
