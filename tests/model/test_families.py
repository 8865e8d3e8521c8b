# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Families of networks: each gives what transformers gives on a text alone, or is refused in words.

What is asked is transformers' own class on the folder as it came; what answers is the imported
module, called as the runtime calls it, with padding behind the text.
"""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.model import reference
from edgeopt.model.importer import import_model
from edgeopt.pipeline import compile
from edgeopt.quiet import quiet
from edgeopt.target import load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

MOST = 96
LENGTHS = (3, 20, 61, MOST)
SIZES = {
    "vocab_size": len(checkpoints.VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MOST + 4,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_range": 0.3,
}
FROM_1 = {"pad_token_id": 1, "type_vocab_size": 1}
DECODER = {"num_key_value_heads": 2, "head_dim": 8}
WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
SLIDING = DECODER | WINDOW
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
MODERN = {"local_attention": 16, "cls_token_id": 2, "sep_token_id": 3, "num_hidden_layers": 4}

SAME: list[tuple[str, dict[str, Any]]] = [
    ("BertModel", {}),
    ("RobertaForSequenceClassification", FROM_1),
    ("XLMRobertaModel", FROM_1),
    ("CamembertForTokenClassification", FROM_1),
    ("Data2VecTextModel", FROM_1),
    ("IBertForSequenceClassification", FROM_1),
    ("XLMRobertaXLModel", FROM_1),
    (
        "DistilBertForTokenClassification",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    ("AlbertForQuestionAnswering", {"embedding_size": 16}),
    ("ElectraForSequenceClassification", {"embedding_size": 16}),
    ("MobileBertForSequenceClassification", {"embedding_size": 32, "intra_bottleneck_size": 32}),
    ("MPNetModel", FROM_1),
    ("DebertaV2Model", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    ("DebertaForSequenceClassification", {"relative_attention": True, "pos_att_type": ["p2c"]}),
    ("ModernBertModel", MODERN),
    ("ModernBertForSequenceClassification", MODERN | {"classifier_pooling": "mean"}),
    ("ModernBertForTokenClassification", MODERN),
    ("RoFormerForSequenceClassification", {"embedding_size": 32}),
    ("XLMForSequenceClassification", XLM),
    ("FlaubertModel", XLM),
    ("SqueezeBertModel", {"embedding_size": 32}),
    ("ErnieForSequenceClassification", {}),
    ("MegatronBertModel", {}),
    ("RemBertModel", {"input_embedding_size": 16}),
    ("SplinterModel", {}),
    ("LayoutLMModel", {}),
    ("T5EncoderModel", T5),
    ("EuroBertModel", DECODER),
    ("NomicBertModel", {}),
    ("LlamaForSequenceClassification", DECODER),
    ("MistralForSequenceClassification", DECODER | {"sliding_window": 16}),
    (
        "Qwen2Model",
        {"vocab_size": 90, "use_sliding_window": True, "num_key_value_heads": 2} | WINDOW,
    ),
    ("Qwen3ForSequenceClassification", DECODER),
    ("Gemma2Model", SLIDING),
    ("Gemma3TextModel", SLIDING | {"use_bidirectional_attention": True}),
    (
        "GPT2ForSequenceClassification",
        {"n_positions": 100, "n_embd": 32, "n_layer": 2, "n_head": 4},
    ),
    ("GPT2Model", {"n_positions": 100, "n_embd": 32, "n_layer": 2, "n_head": 4}),
    ("LongformerModel", {"attention_window": [8, 8]}),
    ("BigBirdForSequenceClassification", {"block_size": 4, "num_random_blocks": 1}),
]

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
PICTURE = SMALL | {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
TWO = {"text_config": SMALL | {"vocab_size": 99}, "vision_config": PICTURE}
SOUND = SMALL | {
    "conv_dim": [32, 32],
    "conv_stride": [5, 2],
    "conv_kernel": [10, 3],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
PADDING = "its answers depend on the padding that a device adds: texts padded to 96 tokens"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ConvBertModel", {"embedding_size": 16}, PADDING),
    ("FNetModel", {}, PADDING),
    ("NystromformerModel", {"num_landmarks": 8, "segment_means_seq_len": 8}, PADDING),
    ("T5Model", T5, "T5Model generates text, or has a decoder"),
    ("BartForSequenceClassification", BART, "generates text, or has a decoder"),
    ("GPT2LMHeadModel", {}, "GPT2LMHeadModel generates text"),
    ("CanineModel", {}, "CanineModel looks its tokens up in no embedding table"),
    (
        "PoolFormerForImageClassification",
        PICTURE,
        "image_processor_type: 'PoolFormerImageProcessorPil' prep",
    ),
    ("CLIPModel", TWO, "CLIPModel has two networks, of texts and of images, and one is expected"),
    ("SiglipModel", TWO, "SiglipModel has two networks, of texts and of images, and one is"),
    ("Wav2Vec2Model", SOUND, "Wav2Vec2Model takes input_values, not texts"),
    ("Wav2Vec2ForSequenceClassification", SOUND, "transformers cannot load it"),
    ("LxmertModel", {}, "`visual_feats` cannot be `None`"),
]


def write(folder: Path, architecture: str, changes: dict[str, Any]) -> None:
    checkpoints.write(folder, "BertModel")
    (folder / "model.safetensors").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": MOST}))
    with quiet():
        import torch
        import transformers

        kind = getattr(transformers, architecture)
        config = kind.config_class(**SIZES | changes)
        if "Classification" in architecture:
            config.num_labels = 3
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)


@pytest.mark.parametrize(("architecture", "changes"), SAME, ids=[name for name, _ in SAME])
def test_answers_are_those_of_transformers(
    architecture: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    import torch
    import transformers

    write(tmp_path / "model", architecture, changes)
    model = import_model(tmp_path / "model")
    kind = getattr(transformers, architecture)
    generator = torch.Generator().manual_seed(1)
    for n in (n for n in LENGTHS if n <= model.text.max_seq_len):
        ids = torch.randint(5, 70, (1, n), generator=generator)
        with quiet(), torch.inference_mode():
            network = kind.from_pretrained(tmp_path / "model").eval()  # BigBird keeps what it read
            expected = network(input_ids=ids, attention_mask=torch.ones_like(ids))
        padded = {
            "input_ids": np.full((1, MOST), model.text.pad_id),
            "attention_mask": np.zeros((1, MOST), np.int64),
            "token_type_ids": np.zeros((1, MOST), np.int64),
        }
        padded["input_ids"][0, :n] = ids
        padded["attention_mask"][0, :n] = 1
        call = {spec.name: padded[spec.name] for spec in model.main.signature.inputs}
        for name, got in reference.run(model, [call])[0].items():
            kept = got if model.task.name == "sequence-classification" else got[:, :n]
            np.testing.assert_allclose(kept, expected[name].numpy(), atol=2e-4, rtol=2e-4)


def test_half_precision_answers_as_the_pipeline(tmp_path: Path) -> None:
    """In the C runtime, as it is built for a board whose cores compute in it."""
    for module in ("litert_torch", "openvino"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    write(tmp_path / "model", "LlamaForSequenceClassification", DECODER)
    made = compile(
        tmp_path / "model",
        replace(load_target("raspberry-pi-5"), seq_lens=(MOST,), longest=0),
        output=tmp_path / "b.edgeopt",
        engines=["tflite", "openvino"],
        precisions=["fp16"],
    )
    assert made.manifest.skipped == ()
    found = {a.engine: a.judged for a in made.manifest.artifacts}
    assert sorted(found) == ["openvino", "tflite"]
    for engine, judged in found.items():
        assert judged is not None
        assert (judged["samples"] >= 32, judged["error"] < 0.01) == (True, True), (engine, judged)


@pytest.mark.parametrize(
    ("architecture", "changes", "message"), REFUSED, ids=[name for name, *_ in REFUSED]
)
def test_what_cannot_be_carried_is_refused(
    architecture: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "model", architecture, changes)
    (tmp_path / "model/preprocessor_config.json").write_text('{"image_mean": 0.5}')
    with pytest.raises(InputError) as caught:
        import_model(tmp_path / "model")
    assert message in str(caught.value)
