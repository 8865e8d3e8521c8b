#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# OpenVINO 2026.4.1 computes in BF16 if it is asked for FP16 (INFERENCE_PRECISION_HINT=f16) on an
# x86-64 CPU that has BF16 and no FP16, as AMD's Zen 4 has, and tells so only in the compiled
# model's property. On a CPU that has neither it computes in FP32, with no word either. BF16 has 8
# bits to FP16's 11.
#
# A CPU with both is kept from FP16 here by oneDNN's own limit, ONEDNN_MAX_CPU_ISA.
#
# Ends with 0 if it is so, with 1 if not, and with 2 if this CPU has no BF16.
#
# Seen on 2026-11-30 (x86-64 with AVX-512 FP16, BF16 and AMX):
#   asked for f16, computes in bf16: off by 0.0067
#   asked for f32, computes in f32: off by 0.0000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 "$folder/venv/bin/python" - <<'EOF'
import numpy as np
import openvino as ov
from openvino import opset13 as op

core = ov.Core()
known = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
if "BF16" not in known or "FP16" in known:
    print(f"this CPU has {', '.join(known)}")
    raise SystemExit(2)
rng = np.random.default_rng(0)
values = rng.normal(size=(8, 64)).astype(np.float32)
weight = (rng.normal(size=(16, 64)) / 8).astype(np.float32)
given = op.parameter([-1, 64], np.float32)
model = ov.Model([op.matmul(given, op.constant(weight), False, True)], [given])
found = {}
for asked in ("f16", "f32"):
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": asked})
    computed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    off = float(np.abs(compiled([values])[0] - values @ weight.T).max())
    found[asked] = computed, off
    print(f"asked for {asked}, computes in {computed}: off by {off:.4f}")
raise SystemExit(0 if found["f16"][0] == "bf16" and found["f16"][1] > 2e-3 else 1)
EOF
