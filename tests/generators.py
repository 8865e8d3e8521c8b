# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny decoders with random (seeded) weights and tokenizers, saved as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeopt.model import texts
from edgeopt.quiet import quiet

END = "<|end|>"
VOCABULARY = 400
_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 160,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {}),
    "llama": ("LlamaForCausalLM", {}),
    "llama-tied": (
        "LlamaForCausalLM",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "mistral": ("MistralForCausalLM", {"sliding_window": 16}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 32}),
    "phi3": ("Phi3ForCausalLM", {}),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4}),
}
"""What is made of each, and how it differs from the others."""


def byte_level() -> Any:
    """A byte-level BPE, as GPT-2 and Qwen have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        texts.read_texts(None, 100),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return made


def byte_fallback(*, strip: bool) -> Any:
    """A BPE of characters with tokens for bytes: as Llama 2 has it, or (no ``strip``) Gemma."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    made.normalizer = (
        normalizers.Sequence([normalizers.Prepend("\u2581"), spaces]) if strip else spaces
    )
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    made.train_from_iterator(
        texts.read_texts(None, 100),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<unk>", END, *(f"<0x{byte:02X}>" for byte in range(256))],
            limit_alphabet=60,
            show_progress=False,
        ),
    )
    document = json.loads(made.to_str())  # tokens for bytes are no special ones, as they are here
    document["added_tokens"] = document["added_tokens"][:2]
    return Tokenizer.from_str(json.dumps(document))


def write(folder: Path, family: str = "gpt2", tokenizer: Any = None, **changes: Any) -> Any:
    """Save a decoder of ``family`` (of ``FAMILIES``) into ``folder``, and return the network."""
    with quiet():
        import torch
        import transformers

        named, own = FAMILIES[family]
        made = byte_level() if tokenizer is None else tokenizer
        end = made.token_to_id(END)
        sizes = _SIZES | own | changes
        if family == "gpt2":
            sizes = {
                "n_embd": sizes["hidden_size"],
                "n_layer": sizes["num_hidden_layers"],
                "n_head": sizes["num_attention_heads"],
                "n_positions": sizes["max_position_embeddings"],
            } | changes
        kind = getattr(transformers, named)
        config = kind.config_class(
            **{
                "vocab_size": VOCABULARY + 4,  # some ids are no token's, as in Qwen
                "initializer_range": 0.2,
                "bos_token_id": end,
                "eos_token_id": end,
                "pad_token_id": None,
            }
            | sizes
        )
        torch.manual_seed(0)
        network = kind(config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:  # norms and biases, which are all alike else
                    parameter += 0.1 * torch.randn_like(parameter)
        network.save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=made, eos_token=END, bos_token=END
        ).save_pretrained(folder)
    return network
