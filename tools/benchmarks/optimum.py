# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a user would pick instead: Optimum's ONNX export and dynamic INT8.

Optimum pins an older transformers, so it lives in an environment of its own, made here with uv
and kept in edgeopt's cache. Only the file that it makes is run by the benchmark.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.errors import CompileError

REQUIREMENTS = ["optimum-onnx[onnxruntime]==0.1.0", "transformers<4.58", "torch==2.13.0"]


TASKS = {"sequence-classification": "text-classification"}
"""Optimum's name of a task if it is another than ours."""


def python() -> Path:
    """Return the Python of Optimum's environment, which is made first if it is not there."""
    key = cache.key(requirements=REQUIREMENTS)
    return cache.entry("optimum", key, _install) / "venv/bin/python"


def int8_model(model: Path, task: str) -> Path:
    """Return the ``model_quantized.onnx`` that Optimum makes of a Hugging Face directory."""
    own = str(python())
    weights = cache.file_sha256(model / "model.safetensors")

    def build(directory: Path) -> None:
        program = [own, "-m", "optimum.commands.optimum_cli"]
        with progress.step("Optimum: export"):
            flags = ["--task", TASKS.get(task, task), "--model", str(model)]
            _run([*program, "export", "onnx", *flags, str(directory / "onnx")])
        with progress.step("Optimum: quantize"):
            flags = ["--onnx_model", str(directory / "onnx"), "-o", str(directory), _isa()]
            _run([*program, "onnxruntime", "quantize", "--per_channel", *flags])

    key = cache.key(weights=weights, isa=_isa(), requirements=REQUIREMENTS)
    return cache.entry("optimum-model", key, build) / "model_quantized.onnx"


def _install(directory: Path) -> None:
    with progress.step("Making Optimum's environment"):
        _run([sys.executable, "-m", "venv", str(directory / "venv")])
        pip = [str(directory / "venv/bin/python"), "-m", "pip", "install", "-q"]
        _run([*pip, "torch==2.13.0"])
        _run([*pip, *REQUIREMENTS])


def _isa() -> str:
    """Return the flag of ``optimum-cli onnxruntime quantize`` that fits this machine."""
    if platform.machine() == "aarch64":
        return "--arm64"
    flags = Path("/proc/cpuinfo").read_text()
    if "avx512_vnni" in flags:
        return "--avx512_vnni"
    return "--avx512" if "avx512f" in flags else "--avx2"


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}")
