# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""onnxruntime-genai, with what its own model builder makes for CPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

VARIANTS = {
    "onnxruntime-genai INT4": "int4",
    "onnxruntime-genai INT8": "int8",
    "onnxruntime-genai FP32": "fp32",
}
REQUIREMENTS = (
    "torch==2.13.0",
    "onnxruntime-genai==0.18.0",
    "onnxruntime==1.31.1",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "transformers==5.24.0",
    "tqdm==4.67.1",
)
PACKAGES = ("onnxruntime-genai", "onnxruntime")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "smollm3")
"""Of those that edgeopt generates with; its builder knows others besides."""


def make(model: Path, folder: Path) -> None:
    """Build the three graphs, and ask for one thread."""
    family = json.loads((model / "config.json").read_text())["model_type"]
    if family not in FAMILIES:
        raise SystemExit(f"its model builder knows no {family}")
    for precision in VARIANTS.values():
        words = ["-i", str(model), "-o", str(folder / precision), "-p", precision, "-e", "cpu"]
        words += ["-c", str(folder / "cache")]
        # Activations in 8 bits inside the kernel: the quickest, and what edgeopt has too.
        words += [] if precision == "fp32" else ["--extra_options", "accuracy_level=4"]
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *words]
        subprocess.run(command, check=True)
        path = folder / precision / "genai_config.json"
        config = json.loads(path.read_text())
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = 1
        path.write_text(json.dumps(config))


def generator(
    variant: str, model: Path, folder: Path, context: int
) -> Callable[[Sequence[int], int, Callable[[int], None]], None]:
    """Return what goes on with a prompt."""
    import numpy as np
    import onnxruntime_genai as og

    network = og.Model(str(folder / variant))

    def generate(prompt: Sequence[int], count: int, told: Callable[[int], None]) -> None:
        how = og.GeneratorParams(network)
        how.set_search_options(max_length=context, min_length=context, do_sample=False)
        made = og.Generator(network, how)
        made.append_tokens(np.array([list(prompt)], dtype=np.int32))
        for _ in range(count):
            made.generate_next_token()
            told(int(made.get_next_tokens()[0]))

    return generate
