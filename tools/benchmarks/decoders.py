# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoders of published sizes with random weights, for the benchmark of generation.

Speed and memory are those of any weights of the size. What such a network writes says nothing, and
how often two engines write the same of it is no worse than of trained weights, whose tokens stand
further apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgeopt
from edgeopt import cache, progress
from edgeopt.quiet import quiet

SEED = 0
_END = "<|endoftext|>"

SIZES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 50257}),
    "gpt2-medium": (
        "GPT2LMHeadModel",
        {"vocab_size": 50257, "n_embd": 1024, "n_layer": 24, "n_head": 16},
    ),
    "smollm": (
        "LlamaForCausalLM",
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
    "tiny": (
        "LlamaForCausalLM",
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "tie_word_embeddings": True,
        },
    ),
}
"""What is made of which sizes: those of GPT-2 and GPT-2 Medium (Radford et al., 2019), and those of
SmolLM-135M (its config.json); ``tiny`` is for tests. What is not said is transformers' default."""


def made(size: str) -> Path:
    """Return the checkpoint of a size, which is made if the cache has it not."""
    source = Path(__file__).read_text()
    key = cache.key(source=source, size=size, version=edgeopt.__version__)
    return cache.entry("bench-decoder", key, lambda folder: _build(size, folder)) / size


def _build(size: str, directory: Path) -> None:
    import torch
    import transformers

    name, sizes = SIZES[size]
    kind = getattr(transformers, name)
    with progress.step(f"Making a decoder of the size of {size}"), quiet():
        torch.manual_seed(SEED)
        config = kind.config_class(**sizes, bos_token_id=None, eos_token_id=None, pad_token_id=None)
        kind(config).save_pretrained(directory / size)
        tokenizer = _tokenizer(int(sizes["vocab_size"]))
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token=_END, bos_token=_END, unk_token=_END
        ).save_pretrained(directory / size)


def _tokenizer(count: int) -> Any:
    """Return a byte-level BPE of ``count`` tokens: bytes, pairs of bytes, and the end of a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in letters for b in letters][: count - len(letters) - 1]
    vocabulary = {word: i for i, word in enumerate([*letters, *(a + b for a, b in pairs)])}
    made = Tokenizer(models.BPE(vocabulary, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(_END, special=True)])
    return made


def without_end(model: Path) -> Path:
    """Return ``model`` as a checkpoint of which no token ends an answer: all make as many."""
    configs = {
        name: json.loads((model / name).read_text())
        for name in ("config.json", "generation_config.json")
        if (model / name).is_file()
    }
    if not any(config.get("eos_token_id") is not None for config in configs.values()):
        return model

    def build(directory: Path) -> None:
        folder = directory / model.name
        folder.mkdir()
        for path in model.iterdir():
            if path.is_file() and path.name not in configs:
                (folder / path.name).symlink_to(path.resolve())
        for name, config in configs.items():
            (folder / name).write_text(json.dumps(config | {"eos_token_id": None}))

    key = cache.key(configs=configs, model=str(model.resolve()))
    return cache.entry("bench-decoder-without-end", key, build) / model.name
