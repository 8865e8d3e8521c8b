# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a user would pick instead: Optimum's ONNX export and dynamic INT8.

Optimum pins an older transformers, so it lives in the environment of its peer. Only the file that
it makes is run by the benchmark.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.errors import CompileError
from tools.benchmarks.peers.optimum import FILE, REQUIREMENTS, isa
from tools.benchmarks.served import python_of

TASKS = {"sequence-classification": "text-classification"}
"""Optimum's name of a task if it is another than ours."""


def python() -> Path:
    """Return the Python of Optimum's environment, which is made first if it is not there."""
    return python_of(REQUIREMENTS)


def int8_model(model: Path, task: str) -> Path:
    """Return the INT8 file that Optimum makes of a Hugging Face directory."""
    own = str(python())
    weights = cache.file_sha256(model / "model.safetensors")

    def build(directory: Path) -> None:
        program = [own, "-m", "optimum.commands.optimum_cli"]
        with progress.step("Optimum: export"):
            flags = ["--task", TASKS.get(task, task), "--model", str(model)]
            _run([*program, "export", "onnx", *flags, str(directory / "onnx")])
        with progress.step("Optimum: quantize"):
            flags = ["--onnx_model", str(directory / "onnx"), "-o", str(directory), isa()]
            _run([*program, "onnxruntime", "quantize", "--per_channel", *flags])

    key = cache.key(weights=weights, isa=isa(), requirements=list(REQUIREMENTS))
    return cache.entry("optimum-model", key, build) / FILE


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}")
