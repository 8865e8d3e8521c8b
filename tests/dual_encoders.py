# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Small dual encoders with random weights, saved with tokenizer and image processor."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeopt.quiet import quiet
from tests.runtime import tokenizer_families as families

SIDE = 32
LAYERS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}


def clip(folder: Path, **text: Any) -> Path:
    """Save a CLIPModel with CLIP's tokenizer; ``text`` are settings of its text encoder."""
    import torch
    import transformers

    document = families.clip()
    vocabulary = document["model"]["vocab"]
    start, end = (vocabulary[token] for token in families.CLIP_ENDS)
    ends = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        text_config=LAYERS
        | {"vocab_size": len(vocabulary), "max_position_embeddings": 77, "initializer_factor": 2.0}
        | ends
        | text,
        vision_config=LAYERS | {"image_size": SIDE, "patch_size": 8, "initializer_factor": 2.0},
        projection_dim=24,
        initializer_factor=2.0,
    )
    torch.manual_seed(0)
    with quiet():
        transformers.CLIPModel(config).save_pretrained(folder)
        merges = [tuple(pair) for pair in document["model"]["merges"]]
        transformers.CLIPTokenizer(vocabulary, merges, model_max_length=77).save_pretrained(folder)
        transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 38}, crop_size={"height": SIDE, "width": SIDE}
        ).save_pretrained(folder)
    return folder


def siglip(folder: Path, *, masked: bool = False, padding_side: str = "right") -> Path:
    """Save a SiglipModel with a tokenizer as SigLIP 2 has it."""
    import torch
    import transformers

    document = families.gemma()
    document["normalizer"] = families.sequence(
        "normalizers", {"type": "Lowercase"}, document["normalizer"]
    )
    document["post_processor"] = families.template("$A </s>", "$A </s> $B </s>", {"</s>": 2})
    rows = 1 + max(document["model"]["vocab"].values(), default=0)
    rows = max(rows, 1 + max(token["id"] for token in document["added_tokens"]))
    config = transformers.SiglipConfig(
        text_config=LAYERS
        | {"vocab_size": rows, "max_position_embeddings": 64}
        | {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=LAYERS | {"image_size": SIDE, "patch_size": 8},
    )
    torch.manual_seed(0)
    with quiet():
        network = transformers.SiglipModel(config)
        with torch.no_grad():  # as after training; it begins with 0
            network.text_model.embeddings.token_embedding.weight *= 20
            network.logit_scale.fill_(2.0)
            network.logit_bias.fill_(-3.0)
        network.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 64,
            "model_input_names": ["input_ids", "attention_mask"] if masked else ["input_ids"],
            "padding_side": padding_side,
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        transformers.SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(
            folder
        )
    return folder


SENTENCES = ("a photo of a cat", "two dogs run", "the house's door")


def siglip_of_sentencepiece(
    folder: Path, sentences: Iterable[str] = SENTENCES, **settings: Any
) -> Path:
    """Save a SiglipModel with the tokenizer of the first SigLIP; ``settings`` are its trainer's."""
    import sentencepiece
    import transformers

    siglip(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    made = io.BytesIO()
    asked = {"model_type": "unigram", "vocab_size": 60} | settings
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences] * 20),
        model_writer=made,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        **asked,
    )
    with tempfile.TemporaryDirectory() as scratch, quiet():
        model = Path(scratch) / "spiece.model"
        model.write_bytes(made.getvalue())
        names = ["input_ids"]
        transformers.SiglipTokenizer(str(model), model_input_names=names).save_pretrained(folder)
    return folder
