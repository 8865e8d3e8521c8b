#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# ai-edge-quantizer 0.10.0: int8 weights by channel under activations that are quantised call by call are in
# TensorFlow Lite from 2.17 on (FULLY_CONNECTED version 12), but the quantised file keeps the number of the network
# in floating point, and its min_runtime_version. So an older runtime does not refuse the file: it opens it, takes the
# first channel's scale for all, and answers wrongly, with no warning. Seen on 2026-11-30, the largest error of an
# answer, relative to the largest answer:
#   FULLY_CONNECTED version 1 and 1, min_runtime_version 1.5.0 and 1.5.0 (before and after)
#   ai-edge-litert 2.3.0: off by 1.2 %
#   tflite-runtime 2.14.0: off by 100.0 %
#
# Takes Python 3.11. Makes a temporary folder and venv, installs the pinned packages, and exits with 1 if it is
# otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 numpy==2.4.6
"$folder/venv/bin/pip" install -q --no-deps --target "$folder/old" tflite-runtime==2.14.0 numpy==1.26.4
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>/dev/null <<'PY'
import contextlib
import io

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer, recipe_manager

rng = np.random.default_rng(0)
weights = rng.normal(size=(64, 32)).astype(np.float32) * np.geomspace(0.01, 1, 32, dtype=np.float32)
x = rng.normal(size=(1, 64)).astype(np.float32)
call = tf.function(lambda x: {"y": tf.matmul(x, weights)}, input_signature=[tf.TensorSpec([1, 64], name="x")])
content = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()]).convert()
open("fp32.tflite", "wb").write(content)

recipe = recipe_manager.RecipeManager()
recipe.add_dynamic_config(regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=8)
work = quantizer.Quantizer("fp32.tflite")
work.load_quantization_recipe(recipe.get_quantization_recipe())
with contextlib.redirect_stdout(io.StringIO()):
    work.quantize().export_model("int8.tflite")


def said(path):
    model = schema.ModelT.InitFromPackedBuf(open(path, "rb").read(), 0)
    entry = next(e for e in model.metadata if e.name == b"min_runtime_version")
    return model.operatorCodes[0].version, bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()


(before, first), (after, second) = said("fp32.tflite"), said("int8.tflite")
print(f"FULLY_CONNECTED version {before} and {after}, min_runtime_version {first} and {second} (before and after)")
interpreter = Interpreter("int8.tflite")
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
interpreter.invoke()
found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
np.savez("call.npz", x=x, y=x @ weights, found=found, told=(before, first) == (after, second))
PY
PYTHONPATH="$folder/old" python3 - 2>/dev/null <<'PY'
import numpy as np
from tflite_runtime.interpreter import Interpreter

held = np.load("call.npz")
interpreter = Interpreter("int8.tflite")
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], held["x"])
interpreter.invoke()
found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
off = [float(np.abs(y - held["y"]).max() / np.abs(held["y"]).max()) for y in (held["found"], found)]
print(f"ai-edge-litert 2.3.0: off by {100 * off[0]:.1f} %")
print(f"tflite-runtime 2.14.0: off by {100 * off[1]:.1f} %")
raise SystemExit(0 if held["told"] and off[0] < 0.02 and off[1] > 0.2 else 1)
PY
