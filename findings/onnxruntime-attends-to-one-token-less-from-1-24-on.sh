#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# onnxruntime 1.24: GroupQueryAttention's local_window_size counts the token itself, which it did not before.
# A window of 6 is the token and 5 before it; up to 1.23 it was the token and 6 before it, on a CPU. The same file
# answers otherwise after an update, without an error or a warning. transformers' sliding_window counts the token
# itself. Seen on 2026-12-01, 24 tokens, off from plain attention over windows of 6 and of 7 tokens in numpy:
#   1.23.2: off by 1.59 of 6 tokens, by 0.00 of 7
#   1.24.4: off by 0.00 of 6 tokens, by 1.59 of 7
#
# Makes a temporary folder and two venvs, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/window.py" <<'PY'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

HEADS, SIZE, TOKENS = 2, 16, 24
q, k, v = np.random.default_rng(0).standard_normal((3, 1, TOKENS, HEADS * SIZE)).astype(np.float32)


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def attended(window):
    rows, past = [1, TOKENS, HEADS * SIZE], [1, HEADS, TOKENS, SIZE]
    node = helper.make_node(
        "GroupQueryAttention", ["q", "k", "v", "pk", "pv", "last", "total"], ["y", "nk", "nv"],
        domain="com.microsoft", num_heads=HEADS, kv_num_heads=HEADS, local_window_size=window,
    )
    float_, int_ = TensorProto.FLOAT, TensorProto.INT32
    inputs = [value(n, float_, rows) for n in "qkv"] + [value(n, float_, past) for n in ("pk", "pv")]
    inputs += [value(n, int_, [1]) for n in ("last", "total")]
    outputs = [value("y", float_, rows), *(value(n, float_, past) for n in ("nk", "nv"))]
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    empty = np.zeros(past, np.float32)
    places = {"last": np.array([TOKENS - 1], np.int32), "total": np.array([TOKENS], np.int32)}
    return session.run(["y"], {"q": q, "k": k, "v": v, "pk": empty, "pv": empty, **places})[0]


def plain(window):
    a, b, c = (x.reshape(TOKENS, HEADS, SIZE).transpose(1, 0, 2) for x in (q, k, v))
    scores = a @ b.transpose(0, 2, 1) / np.sqrt(SIZE)
    back = np.arange(TOKENS)[:, None] - np.arange(TOKENS)
    weights = np.where((back >= 0) & (back < window), np.exp(scores), 0)
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ c).transpose(1, 0, 2).reshape(1, TOKENS, HEADS * SIZE)


seen = int(sys.argv[1])
off = {tokens: float(np.abs(attended(6) - plain(tokens)).max()) for tokens in (6, 7)}
print(f"{ort.__version__}: off by {off[6]:.2f} of 6 tokens, by {off[7]:.2f} of 7")
raise SystemExit(0 if off.pop(seen) < 1e-5 and min(off.values()) > 0.1 else 1)
PY
for pair in 1.23.2:7 1.24.4:6; do
  venv="$folder/${pair%:*}"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q onnxruntime=="${pair%:*}" onnx==1.19.1 numpy==2.3.5
  "$venv/bin/python" "$folder/window.py" "${pair#*:}"
done
