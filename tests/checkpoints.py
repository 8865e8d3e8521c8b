# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints with random (seeded) weights, saved as transformers saves real ones."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.model import MAIN, Model, OnnxSource
from edgeopt.model.onnx_call import Feed, OnnxFile
from edgeopt.quiet import quiet

WORDS = ["the", "a", "library", "for", "python", "text", "data", "and", "of", "to", "in", "tool"]
LABELS = ("games", "libs", "net")
IMAGE_SIDE = 32
_KINDS = ("distilbert", "roberta", "bert", "vit", "deit")
PREPARATIONS: dict[str, dict[str, Any]] = {
    "vit": {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "deit": {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "do_resize": True,
        "size": 38,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": IMAGE_SIDE,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
}
"""What preprocessor_config.json says, as a checkpoint of today and as one of before 2023."""

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_PIECES = list(string.ascii_lowercase) + [f"##{c}" for c in string.ascii_lowercase]
# Each once: "a" is a word and a piece, and a vocabulary numbers its tokens without a gap.
VOCABULARY = list(dict.fromkeys([*_SPECIAL, *WORDS, *_PIECES, *string.digits, ".", ","]))


def config(kind: str, **changes: Any) -> Any:
    """Return the transformers configuration of a network of two layers, hidden size 32."""
    import transformers

    named = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
    sizes = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "initializer_range": 0.3,  # so that outputs differ from input to input
    }
    if kind == "distilbert":
        sizes = {
            "vocab_size": len(VOCABULARY),
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 40,
            "pad_token_id": 0,
            "initializer_range": 0.3,
        }
    elif kind in ("vit", "deit"):
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "image_size": IMAGE_SIDE,
            "patch_size": 8,
            "initializer_range": 0.3,
        }
    elif kind == "roberta":
        sizes |= {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    names = {
        "bert": "BertConfig",
        "roberta": "RobertaConfig",
        "distilbert": "DistilBertConfig",
        "vit": "ViTConfig",
        "deit": "DeiTConfig",
    }
    return getattr(transformers, names[kind])(**sizes | named | changes)


def write(
    folder: Path, architecture: str = "BertForSequenceClassification", **changes: Any
) -> Path:
    """Save a checkpoint of ``architecture`` into ``folder``.

    It has a WordPiece tokenizer, or for images their preparation.
    """
    kind = next(k for k in _KINDS if architecture.lower().startswith(k))
    if architecture.endswith("ForQuestionAnswering"):
        changes |= {"id2label": {0: "start", 1: "end"}, "label2id": {"start": 0, "end": 1}}
    with quiet():  # torchao, which transformers imports, warns
        import torch
        import transformers

        torch.manual_seed(0)
        network = getattr(transformers, architecture)(config(kind, **changes))
        network.save_pretrained(folder)
    if kind in PREPARATIONS:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATIONS[kind]))
    else:
        _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(VOCABULARY)})
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 38}
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    settings |= dict(zip(names, _SPECIAL, strict=True))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def as_file(model: Model, path: Path) -> Model:
    """Return ``model`` as if it had come as the .onnx file ``path`` with its own names."""
    graph = model.main
    given = OnnxFile(
        path=path,
        feeds=tuple(Feed(name=t.name, ours=t.name, dtype=t.dtype) for t in graph.signature.inputs),
        outputs=tuple(t.name for t in graph.signature.outputs),
    )
    return replace(model, graphs={MAIN: replace(graph, source=OnnxSource(path=path, given=given))})
