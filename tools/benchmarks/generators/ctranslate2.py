# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""CTranslate2's generator: INT8 weights, and activations that are quantised as they come; FP32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks.peers.ctranslate2 import PACKAGES, REQUIREMENTS

__all__ = ["PACKAGES", "REQUIREMENTS", "VARIANTS", "generator", "make"]

VARIANTS = {"CTranslate2 INT8": "int8", "CTranslate2 FP32": "float32"}


def make(model: Path, folder: Path) -> None:
    """Convert the network in both precisions."""
    from ctranslate2.converters import TransformersConverter

    for precision in VARIANTS.values():
        TransformersConverter(str(model)).convert(str(folder / precision), quantization=precision)


def generator(
    variant: str, model: Path, folder: Path, context: int
) -> Callable[[Sequence[int], int, Callable[[int], None]], None]:
    """Return what goes on with a prompt."""
    import json

    import ctranslate2

    network = ctranslate2.Generator(
        str(folder / variant), compute_type=variant, inter_threads=1, intra_threads=1
    )
    names = json.loads((folder / variant / "vocabulary.json").read_text())

    def generate(prompt: Sequence[int], count: int, told: Callable[[int], None]) -> None:
        def step(result: Any) -> None:
            told(result.token_id)

        network.generate_batch(
            [[names[token] for token in prompt]],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=step,
        )

    return generate
