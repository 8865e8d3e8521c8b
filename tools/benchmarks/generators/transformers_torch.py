# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch by transformers' generate(): its cache that grows, and the one of a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

VARIANTS = {"transformers FP32": "dynamic", "transformers FP32, static cache": "static"}
REQUIREMENTS: tuple[str, ...] = ()  # edgeopt's own environment has both
PACKAGES = ("torch", "transformers")


def make(model: Path, folder: Path) -> None:
    """Nothing is made: the checkpoint is opened as it is."""


def generator(
    variant: str, model: Path, folder: Path, context: int
) -> Callable[[Sequence[int], int, Callable[[int], None]], None]:
    """Return what goes on with a prompt."""
    import torch
    import transformers

    torch.set_num_threads(1)
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    static = {"cache_implementation": "static"} if variant == "static" else {}

    @torch.inference_mode()
    def generate(prompt: Sequence[int], count: int, told: Callable[[int], None]) -> None:
        ids = torch.tensor([list(prompt)])
        how = transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
            **static,
        )
        network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=how,
            streamer=_Streamer(told),
        )

    return generate


class _Streamer:
    """Tells of each token but those of the prompt, which come first."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told, self._prompt = told, True

    def put(self, value: Any) -> None:
        """Take the prompt's tokens, or the next one."""
        if self._prompt:
            self._prompt = False
        else:
            self._told(int(value.reshape(-1)[0]))

    def end(self) -> None:
        """Nothing is left to tell."""
