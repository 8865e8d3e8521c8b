# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with SentencePiece's tokenizers, from folder to answer, held against transformers.

They are saved by the classes of transformers, with small random weights and our own vocabulary.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.quiet import quiet
from edgeopt.run.reading import read
from edgeopt.runtime.host import open_session
from tests.runtime import tokenizer_families as families
from tests.runtime import tokenizer_texts as texts

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = pytest.mark.heavy

SAME = 1e-4  # float32 sums of another order, over two layers
LENGTH = 48
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": LENGTH + 2,  # those of RoBERTa's kind count from 2
    "initializer_range": 0.3,  # so that outputs differ from input to input
    "num_labels": 3,
}
TEXTS = [
    *texts.SHIPPED[:12],
    *(word for word in texts.WORDS if word.strip()),
    "ﬁ ﬂ Ａｂｃ ﾊﾛｰ ㎏ ℌ  two  blanks <mask> [MASK] <extra_id_7>",
    "``quoted'' I'LL  İstanbul e\u0301 n\u0303 \uac00\u11a8 \u00a0 \u200b.",
    "the library " * 60,
]


def _pieces(*heads: str) -> list[tuple[str, float]]:
    return [*((head, 0.0) for head in heads), *map(tuple, families.pieces())]


def _charsmap() -> bytes:
    return base64.b64decode(families.precompiled()["precompiled_charsmap"])


def _xlm_roberta() -> tuple[Any, Any]:
    vocabulary = [*_pieces("<s>", "<pad>", "</s>", "<unk>"), ("<mask>", 0.0)]
    tokens = transformers.XLMRobertaTokenizer(
        vocab=vocabulary, _spm_precompiled_charsmap=_charsmap(), model_max_length=LENGTH
    )
    config = transformers.XLMRobertaConfig(vocab_size=len(vocabulary), **SIZES)
    return tokens, transformers.XLMRobertaForSequenceClassification(config)


def _albert() -> tuple[Any, Any]:
    vocabulary = _pieces("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    tokens = transformers.AlbertTokenizer(
        vocab=vocabulary, _spm_precompiled_charsmap=_charsmap(), model_max_length=LENGTH
    )
    config = transformers.AlbertConfig(
        vocab_size=len(vocabulary), embedding_size=16, pad_token_id=0, **SIZES
    )
    return tokens, transformers.AlbertForSequenceClassification(config)


def _deberta_v2() -> tuple[Any, Any]:
    vocabulary = [*_pieces("[PAD]", "[CLS]", "[SEP]", "[UNK]"), ("[MASK]", 0.0)]
    tokens = transformers.DebertaV2Tokenizer(
        vocab=vocabulary, do_lower_case=True, unk_id=3, model_max_length=LENGTH
    )
    config = transformers.DebertaV2Config(
        vocab_size=len(vocabulary),
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pooler_hidden_size=SIZES["hidden_size"],
        **SIZES,
    )
    return tokens, transformers.DebertaV2ForSequenceClassification(config)


def _camembert() -> tuple[Any, Any]:
    vocabulary = _pieces("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>")
    vocabulary = [*vocabulary, ("</s>", 0.0), ("<mask>", 0.0)]
    tokens = transformers.CamembertTokenizer(
        vocab=vocabulary, _spm_precompiled_charsmap=_charsmap(), model_max_length=LENGTH
    )
    config = transformers.CamembertConfig(vocab_size=len(tokens), **SIZES)
    return tokens, transformers.CamembertForSequenceClassification(config)


CLASSIFIERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "xlm-roberta": _xlm_roberta,
    "albert": _albert,
    "deberta-v2": _deberta_v2,
    "camembert": _camembert,
}


def _compiled(folder: Path, tokens: Any, network: Any) -> edgeopt.Bundle:
    with quiet():
        tokens.save_pretrained(str(folder))
        network.eval().save_pretrained(str(folder))
    return edgeopt.compile(
        folder,
        "host",
        output=folder.with_name("bundle"),
        engines=["onnx"],
        precisions=["fp32"],
    )


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_answers_as_transformers(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with quiet():
        tokens, network = CLASSIFIERS[kind]()
    bundle = _compiled(tmp_path / kind, tokens, network)
    with quiet():
        judge = transformers.pipeline(
            "text-classification", model=str(tmp_path / kind), device="cpu", top_k=None
        )
        wanted = judge(TEXTS, truncation=True, max_length=LENGTH)
    found = read(bundle.path, TEXTS)
    for text, result, one in zip(TEXTS, found.results, wanted, strict=True):
        scores = {item.label: item.score for item in result.items}
        assert scores == pytest.approx({w["label"]: w["score"] for w in one}, abs=SAME), text
    with open_session(bundle.path) as session:
        _same_ids(session, tmp_path / kind)


def test_the_encoder_of_t5_answers_as_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads = _pieces("<pad>", "</s>", "<unk>")
    vocabulary = [*heads, *((f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1))]
    sizes = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
    with quiet():
        tokens = transformers.T5Tokenizer(
            vocab=vocabulary, _spm_precompiled_charsmap=_charsmap(), model_max_length=LENGTH
        )
        config = transformers.T5Config(vocab_size=len(tokens), **sizes)
        network = transformers.T5EncoderModel(config)
    bundle = _compiled(tmp_path / "t5", tokens, network)
    with open_session(bundle.path) as session:
        _same_ids(session, tmp_path / "t5")
        for text in TEXTS:
            encoded = tokens(text, truncation=True, max_length=LENGTH, return_tensors="pt")
            with torch.inference_mode():
                wanted = network(**encoded).last_hidden_state.numpy()
            session.run(text)
            (found,) = session.outputs().values()
            assert np.abs(found[:, : wanted.shape[1]] - wanted).max() < SAME, text


def _same_ids(session: Any, folder: Path) -> None:
    """Hold the ids that the network gets, those of padding included."""
    with quiet():
        tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
    for text in TEXTS:
        session.run(text)
        ids = session.inputs()["input_ids"][0]
        cut = tokens(
            text, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="np"
        )
        assert ids.tolist() == cut["input_ids"][0, : len(ids)].tolist(), text
        assert not cut["attention_mask"][0, len(ids) :].any()
