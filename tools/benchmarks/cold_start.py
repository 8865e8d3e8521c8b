# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""One cold start in a process of its own: ``cold_start.py KIND MODEL TEXT``; prints JSON.

KIND: runtime:ENGINE:PRECISION (edgeopt_rt.py; MODEL a bundle, with EDGEOPT_RT set), onnxruntime
(its Python API and the tokenizers package; MODEL an .onnx file with tokenizer.json beside), optimum
(ORTModel and transformers' tokenizer; MODEL Optimum's folder), torch (transformers; MODEL a
checkpoint).
"""

import json
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()


def runtime(model, text, engine, precision):
    """Return the best label by the runtime's Python binding."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "edgeopt" / "runtime" / "python"))
    import edgeopt_rt

    opened = time.perf_counter()
    session = edgeopt_rt.open(model, engine=engine, precision=precision, threads=1)
    return opened, session.run(text=text).label


def onnxruntime(model, text):
    """Return the index of the best label by onnxruntime and tokenizers."""
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    opened = time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(Path(model).parent / "tokenizer.json"))
    encoded = tokenizer.encode(text)
    values = {
        "input_ids": encoded.ids,
        "attention_mask": encoded.attention_mask,
        "token_type_ids": encoded.type_ids,
    }
    feed = {i.name: np.array([values[i.name]], dtype=np.int64) for i in session.get_inputs()}
    return opened, int(session.run(None, feed)[0].argmax())


def optimum(model, text):
    """Return the best label by Optimum's model class."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    opened = time.perf_counter()
    network = ORTModelForSequenceClassification.from_pretrained(
        model, file_name="model_quantized.onnx"
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    logits = network(**tokenizer(text, return_tensors="pt")).logits
    return opened, network.config.id2label[int(logits.argmax())]


def torch(model, text):
    """Return the best label by transformers in PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    opened = time.perf_counter()
    network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with torch.inference_mode():
        logits = network(**tokenizer(text, return_tensors="pt")).logits
    return opened, network.config.id2label[int(logits.argmax())]


def main():
    """Run one kind and say how long it took and how much memory."""
    kind, model, text = sys.argv[1:]
    name, *options = kind.split(":")
    opened, label = globals()[name](model, text, *options)
    ended = time.perf_counter()
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    print(
        json.dumps(
            {
                "label": label,
                "open_ms": (ended - opened) * 1e3,
                "process_ms": (ended - BEGAN) * 1e3,
                "peak_mb": int(peak.split()[1]) * 1024 / 1e6,
            }
        )
    )


main()
