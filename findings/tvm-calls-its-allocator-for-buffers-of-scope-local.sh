#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# apache-tvm 0.26.0: a buffer of 64 bytes in a loop on a CPU lies on the stack, from where LLVM takes it into
# registers, if its scope is "global". With the scope "local", which stands for registers, each iteration asks TVM's
# runtime for it (TVMBackendAllocWorkspace) and gives it back. Results are the same. Seen on 2026-12-01:
#   {'global serial': 0, 'global parallel': 0, 'local serial': 1, 'local parallel': 1}
#
# Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apache-tvm==0.26.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import tvm
from tvm.script import from_source, tirx

TEXT = """
@T.prim_func(s_tir=True)
def main(X: T.Buffer((64, 16), "float32"), Y: T.Buffer((64, 16), "float32")) -> None:
    for i in T.{kind}(64):
        with T.sblock("row"):
            T.reads(X[i, 0:16])
            T.writes(Y[i, 0:16])
            row = T.sblock_alloc_buffer((16,), "float32", scope="{scope}")
            for j in range(16):
                row[j] = X[i, j] + T.float32(1)
            for j in range(16):
                Y[i, j] = row[j] * row[15 - j]
"""
found = {}
for scope in ("global", "local"):
    for kind in ("serial", "parallel"):
        text = TEXT.replace("{kind}", kind).replace("{scope}", scope)
        made = tvm.compile(from_source(text, extra_vars={"T": tirx}), target="llvm")
        x = np.random.default_rng(0).random((64, 16), np.float32)
        y = tvm.runtime.tensor(np.zeros_like(x))
        made["main"](tvm.runtime.tensor(x), y)
        assert np.allclose(y.numpy(), (x + 1) * (x + 1)[:, ::-1]), (scope, kind)
        code = made.mod.inspect_source("ll")
        found[f"{scope} {kind}"] = code.count("load ptr, ptr @__TVMBackendAllocWorkspace")
print(found)
sys.exit(list(found.values()) != [0, 0, 1, 1])
PY
