# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny decoders with random (seeded) weights and tokenizers, saved as transformers does."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
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


_BART_SIZES: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 160,
    "init_std": 0.2,
}
_T5_SIZES: dict[str, Any] = {
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "n_positions": 160,
    "relative_attention_max_distance": 40,
}
_SEEDS = {"t5": 11, "flan-t5": 4, "bart": 13, "marian": 1}
"""Of weights with which answers are of several tokens."""

_T5_ENDS = {"pad_token_id": 0, "eos_token_id": 1}
ENCODER_DECODERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "t5": ("T5ForConditionalGeneration", _T5_SIZES, {"decoder_start_token_id": 0}),
    "flan-t5": (
        "T5ForConditionalGeneration",
        _T5_SIZES | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        {"decoder_start_token_id": 0, "suppress_tokens": [9, 17]},
    ),
    "bart": (
        "BartForConditionalGeneration",
        _BART_SIZES,
        {"decoder_start_token_id": 0, "forced_bos_token_id": 7, "forced_eos_token_id": 0},
    ),
    "marian": (
        "MarianMTModel",
        _BART_SIZES | {"scale_embedding": True, "activation_function": "swish", "init_std": 0.4},
        {"decoder_start_token_id": 0, "bad_words_ids": [[0]], "forced_eos_token_id": 1},
    ),
}
"""What is made of each: its class, its config, and its generation_config.json."""


def unigram() -> Any:
    """T5's tokenizer as transformers has it, of the pieces that are often in texts.

    It is not learnt by the package, which numbers the same pieces otherwise each time.
    """
    import transformers

    counts: Counter[str] = Counter()
    for text in texts.read_texts(None, 100):
        for word in text.split():
            marked = f"\u2581{word}"
            for begin in range(len(marked)):
                counts.update(marked[begin:end] for end in range(begin + 1, begin + 9))
    often = sorted(counts, key=lambda piece: (-counts[piece] * len(piece), piece))
    letters = [piece for piece in often if len(piece) == 1][: VOCABULARY // 2]
    longer = [piece for piece in often if len(piece) > 1][: VOCABULARY - 7 - len(letters)]
    whole = counts.total()
    pieces = [(piece, math.log(counts[piece] / whole)) for piece in (*letters, *longer)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return transformers.T5Tokenizer(vocab=[*special, *pieces], extra_ids=4)


def write_encoder_decoder(folder: Path, family: str, factor: float = 3.0, **changes: Any) -> Any:
    """Save one of ``family`` (of ``ENCODER_DECODERS``) into ``folder``, and return the network.

    ``factor`` is of what linear layers begin with; with 1 an answer is one token again and again.
    """
    with quiet():
        import torch
        import transformers

        named, sizes, asked = ENCODER_DECODERS[family]
        kind = getattr(transformers, named)
        ends = {"pad_token_id": 3, "eos_token_id": 0} if family == "bart" else _T5_ENDS
        config = kind.config_class(vocab_size=VOCABULARY + 4, **ends | sizes | changes)
        torch.manual_seed(_SEEDS[family])
        network = kind(config).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if parameter.ndim == 1:
                    parameter += 0.1 * torch.randn_like(parameter)
                elif name == "shared.weight":
                    parameter *= 0.03
                elif not re.search("shared|embed|lm_head|relative", name):
                    parameter *= factor
            if "final_logits_bias" in dict(network.named_buffers()):
                network.final_logits_bias += 0.3 * torch.randn_like(network.final_logits_bias)
        network.generation_config = transformers.GenerationConfig(**ends | asked)
        network.save_pretrained(folder)
        if family == "bart":
            made = byte_level()
            transformers.PreTrainedTokenizerFast(
                tokenizer_object=made, eos_token=END, bos_token=END
            ).save_pretrained(folder)
        else:
            unigram().save_pretrained(folder)
    return network


LANGUAGES = ("en", "de", "fr")


def write_whisper(folder: Path, *, multilingual: bool = True, **asked: Any) -> Any:
    """Save a tiny Whisper that hears two seconds into ``folder``, and return the network.

    ``asked`` are changes of its generation_config.json.
    """
    from tokenizers import AddedToken, processors

    with quiet():
        import torch
        import transformers

        tokenizer = byte_level()
        named = [f"<|{name}|>" for name in LANGUAGES] if multilingual else []
        tasks = ["<|translate|>", "<|transcribe|>"] if multilingual else []
        tokens = ["<|startoftranscript|>", *named, *tasks, "<|nospeech|>", "<|notimestamps|>"]
        tokenizer.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t in tokens]
        )
        ids = {name: tokenizer.token_to_id(name) for name in (END, *tokens)}
        start, silent = ids[tokens[0]], ids[tokens[-1]]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[0]} {tokens[-1]} $A {END}",
            pair=f"{tokens[0]} {tokens[-1]} $A $B {END}",
            special_tokens=[(tokens[0], start), (tokens[-1], silent), (END, ids[END])],
        )
        config = transformers.WhisperConfig(
            vocab_size=tokenizer.get_vocab_size() + 3,
            num_mel_bins=80,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            max_source_positions=100,
            max_target_positions=80,
            init_std=0.3,
            bos_token_id=ids[END],
            eos_token_id=ids[END],
            pad_token_id=ids[END],
            decoder_start_token_id=start,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
        torch.manual_seed(0)
        network = transformers.WhisperForConditionalGeneration(config).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if parameter.ndim == 1:
                    parameter += 0.1 * torch.randn_like(parameter)
                elif "encoder_attn" in name:  # what is heard is to count
                    parameter *= 2
        more: dict[str, Any] = {"is_multilingual": multilingual}
        if multilingual:
            more["lang_to_id"] = {name: ids[name] for name in named}
            more["task_to_id"] = {name[2:-2]: ids[name] for name in tasks}
        network.generation_config = transformers.GenerationConfig(
            decoder_start_token_id=start,
            bos_token_id=ids[END],
            eos_token_id=ids[END],
            pad_token_id=ids[END],
            max_length=80,
            no_timestamps_token_id=silent,
            suppress_tokens=[9, 17, *(ids[name] for name in tokens)],
            begin_suppress_tokens=[33, ids[END]],
            **more | asked,
        )
        network.save_pretrained(folder)
        transformers.WhisperFeatureExtractor(chunk_length=2).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token=END, bos_token=END
        ).save_pretrained(folder)
    return network


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
