# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.compression import vocabulary
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data
from edgeopt.evaluate.score import answers
from edgeopt.model import Model, tokenizer
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.steps.vocabulary import Vocabulary
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

SEEN = (
    "a library for games, and the tool of the server",
    "play the game: playing with data 42 times",
    "Größe, naïve café; 東京 🚀 tabs\tand  spaces",
) * 8
UNSEEN = ("zxq wyvern jukebox 977", "кириллица ☃", "\x07 \u200b ﷺ", "", "!!!???")
CORPUS = [
    *SEEN,
    "the quick brown fox jumps over the lazy dog",
    "playing gaming serving tooling",
] * 4


def learn(folder: Path, kind: str) -> int:
    """Write a tokenizer that was learnt from CORPUS into ``folder``; return its size."""
    import tokenizers

    if kind == "wordpiece":
        learnt = tokenizers.BertWordPieceTokenizer(lowercase=False, strip_accents=False)
        learnt.train_from_iterator([*CORPUS, *UNSEEN], vocab_size=300, show_progress=False)
        # As in BERT's own, single pieces for all characters, and specials not all at the start.
        names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    else:
        learnt = tokenizers.ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        learnt.train_from_iterator(CORPUS, 400, special_tokens=special, show_progress=False)
        learnt.add_special_tokens(["<mask>"])
        learnt._tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0)
        )
        names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    learnt.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {"model_max_length": 38} | {f"{k}_token": v for k, v in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(learnt.get_vocab_size())


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("vocabulary") / "model"
    folder.mkdir()
    rows = learn(folder, request.param)
    saved = (folder / "tokenizer.json").read_text(), (folder / "tokenizer_config.json").read_text()
    kind = "Bert" if request.param == "wordpiece" else "Roberta"
    checkpoints.write(folder, f"{kind}ForSequenceClassification", vocab_size=rows + 3)
    (folder / "tokenizer.json").write_text(saved[0])
    (folder / "tokenizer_config.json").write_text(saved[1])
    return import_model(folder)


def pieces(model: Model, text: str) -> list[str]:
    assert model.text.tokenizer is not None
    tokens = tokenizer.load(model.text.tokenizer)
    found: list[str] = tokens.convert_ids_to_tokens(tokens(text)["input_ids"])
    return found


def test_seen_texts_have_the_same_pieces_and_outputs(model: Model) -> None:
    data = Data(inputs=SEEN)
    small, text, _ = vocabulary.apply(model, Vocabulary(), data)
    rows = network(small).get_input_embeddings().weight.shape[0]
    whole = network(model).config.vocab_size
    assert text == f"{rows} of {whole} tokens kept"
    assert rows == network(small).config.vocab_size < whole - 10
    for seen in SEEN[:3]:
        assert pieces(small, seen) == pieces(model, seen)
    np.testing.assert_array_equal(answers(small, data, "small"), answers(model, data, "whole"))


def test_unseen_texts_still_tokenise(model: Model) -> None:
    small, _, _ = vocabulary.apply(model, Vocabulary(), Data(inputs=SEEN))
    for text in UNSEEN:
        before, after = pieces(model, text), pieces(small, text)
        unknown = ("[UNK]", "<unk>")
        # Nothing becomes unknown that was not; words only fall into more pieces.
        assert sum(p in unknown for p in after) == sum(p in unknown for p in before)
        assert len(after) >= len(before)
        spelt = ["".join(p.removeprefix("##") for p in found) for found in (before, after)]
        assert spelt[0] == spelt[1]
    answers(small, Data(inputs=UNSEEN), "no number is outside the table")


def test_a_size_keeps_the_most_frequent(model: Model) -> None:
    must = vocabulary._must(model, vocabulary._state(model), 0)
    size = len(must) + 6
    small, _, _ = vocabulary.apply(model, Vocabulary(size=size), Data(inputs=SEEN))
    assert size - 2 <= network(small).config.vocab_size <= size
    for seen in SEEN[:3]:
        assert "".join(p.removeprefix("##") for p in pieces(small, seen)) == "".join(
            p.removeprefix("##") for p in pieces(model, seen)
        )
    with pytest.raises(InputError, match=f"vocabulary: size: 9 is below the {len(must)} tokens"):
        vocabulary.apply(model, Vocabulary(size=9), Data(inputs=SEEN))


def test_the_first_of_the_original_order_can_stay(model: Model) -> None:
    assert model.text.tokenizer is not None
    small, _, _ = vocabulary.apply(model, Vocabulary(first=200), Data(inputs=SEEN[:1]))
    old = json.loads((model.text.tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    assert small.text.tokenizer is not None
    new = json.loads((small.text.tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    assert {token for token, number in old.items() if number < 200} <= new.keys()


def test_the_folder_loads_with_transformers(model: Model, tmp_path: Path) -> None:
    import transformers

    small, _, _ = vocabulary.apply(model, Vocabulary(), Data(inputs=SEEN))
    save(small, tmp_path / "small", tmp_path)
    plain, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "small", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "small")
    for name in ("pad", "cls", "sep", "unk", "mask"):
        whole = tokenizer.load(model.text.tokenizer)
        number = getattr(tokens, f"{name}_token_id")
        assert tokens.convert_ids_to_tokens(number) == getattr(whole, f"{name}_token")
    data = Data(inputs=SEEN[:1])
    logits = plain.eval()(**tokens(SEEN[0], return_tensors="pt")).logits
    np.testing.assert_allclose(logits.detach(), answers(model, data, "whole"), atol=1e-5)
    assert plain.config.pad_token_id == tokens.pad_token_id
    again = import_model(tmp_path / "small")
    expected = answers(small, data, "small")
    np.testing.assert_allclose(answers(again, data, "again"), expected, atol=1e-5)


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    state = json.loads((folder / "tokenizer.json").read_text())
    words = {w: i for i, w in enumerate(checkpoints.VOCABULARY)}
    state["model"] = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="has a tokenizer of the kind WordLevel") as caught:
        vocabulary.apply(import_model(folder), Vocabulary(), Data(inputs=SEEN))
    assert caught.value.hint == "Supported: WordPiece, byte-level BPE"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        vocabulary.apply(import_model(folder), Vocabulary(), Data(inputs=SEEN))
