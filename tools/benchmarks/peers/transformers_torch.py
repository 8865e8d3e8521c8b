# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch by transformers: what the checkpoint is published for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer

VARIANTS = {"PyTorch FP32": ""}
REQUIREMENTS: tuple[str, ...] = ()  # edgeopt's own environment has both
PACKAGES = ("torch", "transformers")


def make(model: Path, folder: Path) -> None:
    """Nothing is made: the checkpoint is opened as it is."""


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    shape = {"padding": "max_length", "max_length": length} if length else {}

    @torch.inference_mode()
    def answer(text: str) -> Answer:
        encoded = tokenizer(text, return_tensors="pt", truncation=True, **shape)
        logits = network(**encoded).logits
        return int(logits.argmax()), int(encoded["attention_mask"].sum()), logits[0]

    return answer
