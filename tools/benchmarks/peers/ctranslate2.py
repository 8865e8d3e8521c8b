# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""CTranslate2's encoder in INT8; the classifier on its pooled output is one product of numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer, encoder

VARIANTS = {"CTranslate2 INT8": "int8"}
REQUIREMENTS = ("ctranslate2==4.8.5", "transformers==5.24.0", "torch==2.13.0")
PACKAGES = ("ctranslate2", "transformers")
FAMILIES = ("bert",)  # with a pooler before the head; others of its encoders have none


def make(model: Path, folder: Path) -> None:
    """Convert the encoder, and keep the head beside it."""
    import numpy as np
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(model).float()
    if network.config.model_type not in FAMILIES:
        raise SystemExit(f"its encoder has no head of {network.config.model_type}'s kind")
    # The converter takes the architecture by the configuration, and the encoder alone.
    network.bert.save_pretrained(folder / "encoder")
    TransformersConverter(str(folder / "encoder")).convert(str(folder / "ct2"), quantization="int8")
    head = network.classifier
    np.savez(
        folder / "head.npz",
        weight=head.weight.detach().numpy(),
        bias=head.bias.detach().numpy(),
    )


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    import ctranslate2
    import numpy as np

    encode = encoder(model, length)
    network = ctranslate2.Encoder(
        str(folder / "ct2"), compute_type=variant, inter_threads=1, intra_threads=1
    )
    with np.load(folder / "head.npz") as head:
        weight, bias = head["weight"], head["bias"]

    def answer(text: str) -> Answer:
        found = encode(text)
        lengths = np.array([sum(found.attention_mask)], dtype=np.int32)
        ids = np.array([found.ids], dtype=np.int32)
        output = network.forward_batch(
            ctranslate2.StorageView.from_array(ids), ctranslate2.StorageView.from_array(lengths)
        )
        logits = weight @ np.array(output.pooler_output)[0] + bias
        return int(logits.argmax()), int(lengths[0]), logits

    return answer
