# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Optimum's dynamic INT8 of onnxruntime: by its own model class, and its file opened directly."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer

VARIANTS = {"Optimum INT8": "bare", "Optimum INT8, its model class": "class"}
REQUIREMENTS = (
    "optimum-onnx[onnxruntime]==0.1.0",
    "onnxruntime==1.31.1",
    "transformers==4.57.6",
    "torch==2.13.0",
)
PACKAGES = ("optimum-onnx", "onnxruntime", "transformers", "torch")
FILE = "model_quantized.onnx"


def make(model: Path, folder: Path) -> None:
    """Export and quantise as the documentation does, by channel, for this machine."""
    program = [sys.executable, "-m", "optimum.commands.optimum_cli"]
    export = ["--task", "text-classification", "--model", str(model), str(folder / "onnx")]
    quantize = ["--onnx_model", str(folder / "onnx"), "-o", str(folder), isa(), "--per_channel"]
    subprocess.run([*program, "export", "onnx", *export], check=True)
    subprocess.run([*program, "onnxruntime", "quantize", *quantize], check=True)


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    if variant == "bare":
        from tools.benchmarks.peers import onnxruntime_fp32

        return onnxruntime_fp32.reader(FILE, model, folder, length)
    import onnxruntime as ort
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    network = ORTModelForSequenceClassification.from_pretrained(
        folder, file_name=FILE, session_options=options
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    shape = {"padding": "max_length", "max_length": length} if length else {}

    def answer(text: str) -> Answer:
        encoded = tokenizer(text, return_tensors="pt", truncation=True, **shape)
        logits = network(**encoded).logits
        return int(logits.argmax()), int(encoded["attention_mask"].sum()), logits[0]

    return answer


def isa() -> str:
    """Return the flag of ``optimum-cli onnxruntime quantize`` that fits this machine."""
    if platform.machine() == "aarch64":
        return "--arm64"
    flags = Path("/proc/cpuinfo").read_text()
    if "avx512_vnni" in flags:
        return "--avx512_vnni"
    return "--avx512" if "avx512f" in flags else "--avx2"
