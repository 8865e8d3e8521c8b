# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The first SigLIP's tokenizer, held against transformers' own and run in C."""

from __future__ import annotations

import math
import random
import string
from pathlib import Path
from typing import Any

import pytest

import edgeopt
from edgeopt.model import siglip_tokenizer, tokenizer
from tests import dual_encoders
from tests.runtime import tokenizer_runs as runs
from tests.runtime import tokenizer_texts as texts

pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

TEXTS = 20_000
LETTERS = (
    *(string.ascii_letters + string.digits + string.punctuation + " " * 20),
    *("é", "Ö", "ß", "İ", "Σ", "ΑΣ ", "ς", "中", "文", "ﬁ", "½", "e\u0301", "😀", "▁"),
    *("\u00a0", "\t", "\n", "\u3000", "\u2028", "\u200b", "\ufeff", "\x00", "\x1c", "\x85"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sentences = [text.lower() for text in texts.SHIPPED if not set("σς") & set(text.lower())]
    return dual_encoders.siglip_of_sentencepiece(
        tmp_path_factory.mktemp("siglip"), sentences, vocab_size=900
    )


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def some_texts() -> list[str]:
    """Return real texts, shuffled ones, and letters, blanks and punctuation at random."""
    rng = random.Random(4)
    found = ["", " ", "!", "▁", *texts.SHIPPED]
    while len(found) < TEXTS:
        if len(found) % 2:
            words = rng.choice(texts.SHIPPED).split()
            rng.shuffle(words)
            found.append(rng.choice((" ", "  ", ", ", "\t")).join(words))
        else:
            found.append("".join(rng.choices(LETTERS, k=rng.randint(0, 40))))
    return found


def differing(theirs: Any, given: list[str], found: list[list[int]]) -> tuple[int, list[str]]:
    """Return how many texts have other ids of the same score, and those with others else.

    sentencepiece adds scores up in float32 and tokenizers in float64, so that rounding alone
    chooses between 00 0 and 0 00.
    """
    wanted = theirs(given)["input_ids"]
    pairs = [(t, a, b) for t, a, b in zip(given, wanted, found, strict=True) if a != b]

    def score(ids: list[int]) -> float:
        return math.fsum(map(theirs.sp_model.get_score, ids))

    other = [t for t, a, b in pairs if not math.isclose(score(a), score(b), rel_tol=1e-12)]
    return len(pairs) - len(other), other


def test_ids_are_those_of_transformers(theirs: Any) -> None:
    assert type(theirs).__name__ == "SiglipTokenizer"
    given = some_texts()
    found = [encoding.ids for encoding in siglip_tokenizer.converted(theirs).encode_batch(given)]
    tied, other = differing(theirs, given, found)
    assert other == []
    assert tied <= 2


def test_the_runtime_gives_the_same(folder: Path, theirs: Any) -> None:
    path = tokenizer.collect(folder)
    assert path is not None
    driver = runs.build(runs.DRIVER)
    given = some_texts()[:: TEXTS // 1000]
    cases = [runs.Case(text.encode()) for text in given]
    found = runs.encode(driver, path / "tokenizer.json", cases)
    ids = [[token[0] for token in encoded.tokens] for encoded in found]
    assert differing(theirs, given, ids) == (0, [])


@pytest.mark.parametrize(
    "settings",
    [
        {"byte_fallback": True, "vocab_size": 320},
        {"remove_extra_whitespaces": False},
        {"normalization_rule_name": "identity"},
        {"model_type": "bpe", "vocab_size": 50},
        {"user_defined_symbols": ["σ"]},
    ],
)
def test_what_no_tokenizer_json_holds_stays_transformers_own(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = dual_encoders.siglip_of_sentencepiece(tmp_path, **settings)
    own = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.of_library(own) is None


def test_texts_go_through_a_bundle_as_through_transformers(tmp_path: Path) -> None:
    import torch

    folder = dual_encoders.siglip_of_sentencepiece(tmp_path / "model")
    bundle = edgeopt.compile(
        folder, "host", output=tmp_path / "b", engines=["onnx"], precisions=["fp32"]
    )
    own = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    given = ["A photo, of a CAT!", "  two dogs\trun."]
    tokens = own(given, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    with torch.no_grad():
        features = network.get_text_features(input_ids=tokens["input_ids"]).pooler_output
    wanted = torch.nn.functional.normalize(features).numpy()
    for ours, theirs in zip(edgeopt.read(bundle, given).results, wanted, strict=True):
        assert ours.vector == pytest.approx(theirs, abs=1e-5)
