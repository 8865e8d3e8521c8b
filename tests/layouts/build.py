# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Make the checkpoints of ``checkpoints.toml`` offline: their layout, with small random weights."""

from __future__ import annotations

import json
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.quiet import quiet
from tests import checkpoints

FILE = Path(__file__).with_name("checkpoints.toml")
HIDDEN, POSITIONS, SIDE = 32, 40, 32
TEXTS = (
    "The Python tool for data, in a library of Éclair and café.",
    "a",
    "in 日本 text: nothing-else; 3 tools & \t[MASK] of it",
    "the library " * 30,
)
"""What each is asked: case, accents, CJK, punctuation, a special token, and one too long."""

_WORDS = [*checkpoints.WORDS, "The", "Python", "cafe", "café", "Éclair"]
_LETTERS = [*string.ascii_letters, *"éÉ日本"]
_SMALL = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,  # so that outputs differ from input to input
}
_IMAGE = {k: v for k, v in _SMALL.items() if k != "max_position_embeddings"} | {
    "image_size": SIDE,
    "patch_size": 8,
}
_OFFSET = {"max_position_embeddings": POSITIONS + 2}  # positions count from padding_idx + 1
_SIZES: dict[str, dict[str, Any]] = {
    "bert": _SMALL,
    "electra": _SMALL | {"embedding_size": 16},
    "mobilebert": _SMALL | {"embedding_size": 16, "intra_bottleneck_size": 16},
    "roberta": _SMALL | _OFFSET,
    "xlm-roberta": _SMALL | _OFFSET,
    "mpnet": _SMALL | _OFFSET,
    "deberta-v2": _SMALL,
    "modernbert": _SMALL | {"max_position_embeddings": 64},
    "distilbert": {
        "dim": HIDDEN,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    },
    "gpt2": {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": 64, "n_ctx": 64},
    "t5": {"d_model": HIDDEN, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 4},
    "bart": {
        "d_model": HIDDEN,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": POSITIONS,
    },
    "vit": _IMAGE,
    "deit": _IMAGE,
    "resnet": {"depths": [1, 1], "embedding_size": 8, "hidden_sizes": [16, 32]},
    "clip": {
        # As the hub has it: with this id the text's last token is the one of the largest id.
        "text_config": _SMALL
        | {"model_type": "clip_text_model", "bos_token_id": 0, "eos_token_id": 2},
        "vision_config": _IMAGE | {"model_type": "clip_vision_model"},
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One checkpoint of ``checkpoints.toml``, whose head says what each key is."""

    name: str
    tool: str
    network: str
    stored: str
    config: str
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, list[str | int]] = field(default_factory=dict)
    dense: Mapping[str, list[int]] = field(default_factory=dict)
    dtype: str = "float32"
    gamma: bool = False
    without: str = ""
    refused: str = ""


def layouts() -> list[Layout]:
    """Return all layouts."""
    return [Layout(**entry) for entry in tomllib.loads(FILE.read_text())["checkpoint"]]


def write(layout: Layout, folder: Path) -> Path:
    """Write the checkpoint into ``folder``, which is made."""
    import torch

    folder.mkdir()
    for name, content in layout.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(_short(name, content), encoding="utf-8")
    vocabulary = _tokenizer(layout, folder) if layout.tokenizer else None
    config = json.loads(layout.config)
    sizes = _SIZES[config["model_type"]]
    config |= sizes
    if vocabulary is not None:
        config.get("text_config", config)["vocab_size"] = vocabulary
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(0)
    _save(_weights(layout, folder), folder / layout.stored)
    for path, (size, width) in layout.dense.items():
        parts = {"linear.weight": torch.randn(width, size) * 0.3, "linear.bias": torch.randn(width)}
        _save(parts, folder / path / "model.safetensors")
    return folder


def _short(name: str, content: str) -> str:
    """Return ``content`` with a tokenizer's greatest length made as small as the network's."""
    document = json.loads(content)
    if name == "tokenizer_config.json":
        for key in {"model_max_length", "max_len"} & set(document):
            document[key] = POSITIONS
    return json.dumps(document, ensure_ascii=False)


def _weights(layout: Layout, folder: Path) -> dict[str, Any]:
    import torch

    with quiet():
        import transformers

        config = transformers.AutoConfig.from_pretrained(str(folder))
        network = getattr(transformers, layout.network)(config)
    weights = {}
    for name, value in network.state_dict().items():
        stored = name.removeprefix(layout.without)
        if layout.gamma and "LayerNorm" in name:
            stored = stored.replace(".weight", ".gamma").replace(".bias", ".beta")
        weights[stored] = value.to(getattr(torch, layout.dtype)).clone()
    for name, dims in layout.extra.items():
        shape = [{"H": HIDDEN, "P": config.max_position_embeddings}.get(d, d) for d in dims]
        ids = name.endswith("position_ids")
        weights[name] = torch.arange(shape[1])[None] if ids else torch.randn(shape) * 0.3
    return weights


def _save(weights: dict[str, Any], path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(weights, str(path), metadata={"format": "pt"})
    else:
        import torch

        torch.save(weights, path)


def _tokenizer(layout: Layout, folder: Path) -> int:
    """Write the files of the vocabulary; return its size."""
    kind, files = layout.tokenizer["kind"], layout.tokenizer["files"]
    make = {
        "uncased": _wordpiece,
        "cased": _wordpiece,
        "mpnet": _wordpiece,
        "roberta": _byte_bpe,
        "gpt2": _byte_bpe,
        "modernbert": _byte_bpe,
        "xlm-roberta": _unigram,
        "deberta-v3": _unigram,
        "t5": _unigram,
        "clip": _clip,
    }[kind]
    with quiet():
        return make(kind, files, folder, layout.tokenizer.get("padded"))


def _wordpiece(kind: str, files: list[str], folder: Path, padded: int | None) -> int:
    import transformers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind == "mpnet":
        special = ["<s>", "<pad>", "</s>", "[UNK]"]
    pieces = [*_WORDS, *_LETTERS, *(f"##{c}" for c in _LETTERS), *string.digits, *".,:;-&"]
    tokens = list(dict.fromkeys([*special, *pieces]))
    tokens += ["<mask>"] if kind == "mpnet" else []
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    if "tokenizer.json" in files:
        names = {"mpnet": "MPNetTokenizerFast"}
        made = getattr(transformers, names.get(kind, "BertTokenizerFast"))(
            vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=kind != "cased"
        )
        if padded is not None:
            made.backend_tokenizer.enable_truncation(padded)
            made.backend_tokenizer.enable_padding(length=padded)
        made.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return len(tokens)


def _byte_bpe(kind: str, files: list[str], folder: Path, padded: int | None) -> int:
    import tokenizers
    from tokenizers import normalizers, processors

    special = {
        "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        "gpt2": ["<|endoftext|>"],
        "modernbert": ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"],
    }[kind]
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(TEXTS, 320, min_frequency=1, special_tokens=special)
    ids = {token: made.token_to_id(token) for token in special}
    if kind == "roberta":
        ends = ("</s>", ids["</s>"]), ("<s>", ids["<s>"])
        made._tokenizer.post_processor = processors.RobertaProcessing(*ends)
    if kind == "modernbert":
        made._tokenizer.normalizer = normalizers.NFC()
        made._tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
        )
    if "vocab.json" in files:
        made.save_model(str(folder))
    if "tokenizer.json" in files:
        made.save(str(folder / "tokenizer.json"))
    return int(made.get_vocab_size())


def _unigram(kind: str, files: list[str], folder: Path, padded: int | None) -> int:
    import io

    import sentencepiece
    import transformers

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=70,
        hard_vocab_limit=False,
        pad_id=0 if kind != "xlm-roberta" else -1,
        unk_id=2 if kind == "t5" else 3 if kind == "deberta-v3" else 0,
        bos_id=-1 if kind == "t5" else 1,
        eos_id=1 if kind == "t5" else 2,
        minloglevel=2,
    )
    name = next(name for name in files if name.endswith(".model"))
    (folder / name).write_bytes(model.getvalue())
    names = {
        "xlm-roberta": "XLMRobertaTokenizer",
        "deberta-v3": "DebertaV2Tokenizer",
        "t5": "T5Tokenizer",
    }
    made = getattr(transformers, names[kind]).from_pretrained(str(folder))
    if "tokenizer.json" in files:
        made.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return max(made.get_vocab().values()) + 1


def _clip(kind: str, files: list[str], folder: Path, padded: int | None) -> int:
    import transformers

    from tests.runtime import tokenizer_families as families

    document = families.clip()["model"]
    merges = [tuple(pair) for pair in document["merges"]]
    made = transformers.CLIPTokenizer(document["vocab"], merges)
    made.backend_tokenizer.model.save(str(folder))
    made.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return len(document["vocab"])
