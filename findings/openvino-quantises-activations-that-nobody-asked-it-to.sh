#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# OpenVINO 2026.4.1 quantises activations to 8 bits in a model of which only the weights are in
# 8 bits, although INFERENCE_PRECISION_HINT is f32: on an x86 CPU with VNNI the property
# DYNAMIC_QUANTIZATION_GROUP_SIZE is 32 by default. 0 turns it off; the answers are then those of
# the same weights in float32, to within rounding.
#
# Ends with 0 if it is so (or this CPU has no VNNI, on which nothing can be seen), else with 1.
#
# Seen on 2026-11-29:
#   default: groups of 32, largest difference 0.0114
#   DYNAMIC_QUANTIZATION_GROUP_SIZE 0: groups of 0, largest difference 0.0000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
if ! grep -qE 'avx_vnni|avx512_vnni' /proc/cpuinfo; then
  echo "this CPU has no VNNI: nothing to see here"
  exit 0
fi
"$folder/venv/bin/python" - <<'EOF'
import numpy as np
import openvino as ov
from openvino import opset13 as op

rng = np.random.default_rng(0)
steps = rng.integers(-127, 128, (256, 256)).astype(np.int8)
scale = np.full((256, 1), 1 / 2048, np.float32)
x = op.parameter([-1, 256], np.float32, name="x")
weight = op.multiply(op.convert(op.constant(steps), "f32"), op.constant(scale))
model = ov.Model([op.matmul(x, weight, False, True)], [x])
given = rng.normal(size=(8, 256)).astype(np.float32)
expected = given @ (steps * scale).T
found = {}
for name, more in (("default", {}), ("0", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"})):
    told = {"INFERENCE_PRECISION_HINT": "f32"} | more
    compiled = ov.Core().compile_model(model, "CPU", told)
    found[name] = np.abs(compiled(given)[0] - expected).max()
    title = name if not more else "DYNAMIC_QUANTIZATION_GROUP_SIZE 0"
    group = compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
    print(f"{title}: groups of {group}, largest difference {found[name]:.4f}")
raise SystemExit(0 if found["default"] > 1e-3 and found["0"] < 1e-4 else 1)
EOF
