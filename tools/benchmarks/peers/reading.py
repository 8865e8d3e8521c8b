# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts to token ids by the tokenizers package alone, and logits to probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Answer = tuple[int, int, Iterable[float]]
"""A text's: the index of its label, the tokens that were read, and the logit of each label (or its
probability: see ``GIVES_PROBABILITIES``)."""


def limit(model: Path) -> int:
    """Return how many tokens the checkpoint reads at most."""
    config = json.loads((model / "config.json").read_text())
    told = model / "tokenizer_config.json"
    most = json.loads(told.read_text()).get("model_max_length") if told.is_file() else None
    return int(min(config["max_position_embeddings"], most or config["max_position_embeddings"]))


def labels(model: Path) -> list[str]:
    """Return the labels' names, by index."""
    named = json.loads((model / "config.json").read_text())["id2label"]
    return [named[str(i)] for i in range(len(named))]


def encoder(model: Path, length: int | None) -> Callable[[str], Any]:
    """Return what encodes a text, cut at the model's own limit (of tokenizer.json's no word holds).

    With ``length`` every text is cut or padded to that many tokens.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(length or limit(model))
    tokenizer.no_padding()
    if length:
        config = json.loads((model / "config.json").read_text())
        pad = config.get("pad_token_id") or 0
        tokenizer.enable_padding(length=length, pad_id=pad, pad_token=tokenizer.id_to_token(pad))
    return tokenizer.encode  # type: ignore[no-any-return]


def softmax(logits: Iterable[float]) -> list[float]:
    """Return the probability of each label."""
    values = [float(value) for value in logits]
    most = max(values)
    powers = [math.exp(value - most) for value in values]
    return [power / sum(powers) for power in powers]
