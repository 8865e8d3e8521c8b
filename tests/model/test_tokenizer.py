# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that is kept gives the ids of transformers on the folder as it came."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.model import tokenizer
from edgeopt.model.importer import fingerprint, import_model
from edgeopt.model.texts import tokenize
from edgeopt.quiet import quiet
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TEXTS = (
    "the library, a TOOL for Python data",
    "Café näive 中文 text",
    "two <gene> of the [MASK] in it [PAD]",
    " ".join(["data"] * 60),
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write(tmp_path_factory.mktemp("models") / "sections", vocab_size=140)


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "model"))


def settings(folder: Path, **values: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


def without_file(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def vocabulary_alone(folder: Path) -> None:
    without_file(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(checkpoints.VOCABULARY) + "\n")


def names_in_another_file(folder: Path) -> None:
    settings(folder, model_max_length=38, added_tokens_decoder={"111": ADDED})
    names = {"sep_token": "[CLS]", "additional_special_tokens": ["<gene>"]}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))


def byte_pairs(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    pairs.train_from_iterator(TEXTS, trainer)
    (folder / "tokenizer.json").unlink()
    pairs.model.save(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    settings(folder, add_prefix_space=True)


ADDED = {
    "content": "<gene>",
    "lstrip": True,
    "rstrip": False,
    "normalized": False,
    "single_word": False,
    "special": False,
}
CHANGES: dict[str, Callable[[Path], None]] = {
    "as saved today": lambda _: None,
    "no class": lambda f: settings(f, model_max_length=38),
    "no file": without_file,
    "vocabulary alone": vocabulary_alone,
    "cased": lambda f: settings(f, tokenizer_class="BertTokenizer", do_lower_case=False),
    "accents": lambda f: settings(f, do_lower_case=False, strip_accents=True),
    "Chinese in one": lambda f: settings(f, tokenize_chinese_chars=False),
    "another network's": lambda f: settings(f, tokenizer_class="DistilBertTokenizerFast"),
    "an added token": lambda f: settings(f, added_tokens_decoder={"111": ADDED}),
    "other special tokens": names_in_another_file,
    "padding on the left": lambda f: settings(f, padding_side="left", pad_token="[PAD]"),
    "bytes": byte_pairs,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_ids_are_those_of_transformers(change: Callable[[Path], None], folder: Path) -> None:
    import tokenizers
    import transformers

    change(folder)
    with quiet():
        expected = transformers.AutoTokenizer.from_pretrained(folder)
    kept = tokenizer.collect(folder)
    assert kept is not None
    assert sorted(p.name for p in kept.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    alone = tokenizers.Tokenizer.from_file(str(kept / "tokenizer.json"))  # as the runtime reads it
    assert alone.truncation is None
    assert alone.padding is None
    again = tokenizer.load(kept)
    assert tokenizer.has_token_types(kept) == ("token_type_ids" in expected.model_input_names)
    for text in TEXTS:
        ids = expected(text)["input_ids"]
        assert alone.encode(text).ids == ids
        assert again(text)["input_ids"] == ids
        cut = {"truncation": True, "max_length": 9}
        assert again(text, **cut)["input_ids"] == expected(text, **cut)["input_ids"]
    pair = expected(TEXTS[0], TEXTS[1], return_token_type_ids=True)
    assert again(TEXTS[0], TEXTS[1], return_token_type_ids=True) == pair
    assert again.model_max_length == expected.model_max_length


def test_texts_are_padded_behind_with_the_networks_own_padding(folder: Path) -> None:
    settings(folder, tokenizer_class="PreTrainedTokenizerFast", padding_side="left")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 7}))
    model = import_model(folder)
    assert model.text.pad_id == 7  # the tokenizer names none
    (call,) = tokenize(model, ["the data"], 6)
    tokens = [checkpoints.VOCABULARY[i] for i in call["input_ids"][0]]
    assert tokens == ["[CLS]", "the", "data", "[SEP]", checkpoints.VOCABULARY[7], tokens[5]]
    assert call["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0]]


def test_tokens_without_a_row_are_refused(folder: Path) -> None:
    numbers = range(len(checkpoints.VOCABULARY), 142)  # the table has 140 rows
    more = {str(n): ADDED | {"content": f"<gene{n}>"} for n in numbers}
    settings(folder, added_tokens_decoder=more)
    with pytest.raises(InputError) as caught:
        import_model(folder)
    assert caught.value.message == (
        "the embedding table has 140 rows, but the tokenizer has ids beyond: "
        "'<gene140>' (140), '<gene141>' (141)"
    )


def test_padding_without_a_row_is_put_elsewhere(folder: Path) -> None:
    numbers = range(len(checkpoints.VOCABULARY), 140)
    more = {str(n): ADDED | {"content": f"<gene{n}>"} for n in numbers}
    settings(folder, added_tokens_decoder=more, pad_token="<fill>")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    assert import_model(folder).text.pad_id == 0


def test_cutting_at_the_left_is_refused(folder: Path) -> None:
    settings(folder, truncation_side="left")
    with pytest.raises(InputError, match="cuts long texts at the left"):
        import_model(folder)


@pytest.mark.parametrize("value", ["", "512", True, [512]])
def test_a_greatest_length_that_is_no_number_is_refused(folder: Path, value: object) -> None:
    settings(folder, model_max_length=value)
    with pytest.raises(InputError) as caught:
        import_model(folder)
    assert caught.value.message == f"model_max_length: expected a number, found {value!r}"


def test_a_tokenizer_without_its_file_is_refused(folder: Path) -> None:
    vocabulary_alone(folder)
    settings(folder, tokenizer_class="BertJapaneseTokenizer", word_tokenizer_type="basic")
    with pytest.raises(InputError, match="BertJapaneseTokenizer"):
        import_model(folder)


def test_a_vocabulary_that_is_missing_is_no_model_without_a_tokenizer(folder: Path) -> None:
    """Else random ids would stand for texts, and the bundle take none."""
    for name in tokenizer.VOCABULARIES:
        (folder / name).unlink(missing_ok=True)
    settings(folder, do_lower_case=True)
    with pytest.raises(InputError, match=r"has tokenizer_config\.json, but no vocabulary: none of"):
        import_model(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"has vocab\.txt, but no vocabulary"):
        import_model(folder)
    for name in tokenizer.FILES:
        (folder / name).unlink(missing_ok=True)
    assert import_model(folder).text.tokenizer is None


def test_a_vocabulary_without_an_unknown_token_is_refused(folder: Path) -> None:
    vocabulary_alone(folder)
    (folder / "vocab.txt").write_text("")
    with pytest.raises(InputError, match=r"cannot read a text .*Missing"):
        import_model(folder)


def test_a_file_that_the_system_cannot_read_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/proc/self/mem")  # opens, and fails to be read
    with pytest.raises(InputError, match=r"cannot be read \(Input/output error\)"):
        import_model(folder)
    with pytest.raises(InputError, match=r"cannot be read \(Input/output error\)"):
        fingerprint(folder)


def test_scores_are_kept_to_the_last_place(tmp_path: Path) -> None:
    """The package reads this one from a file as another number than transformers does."""
    import transformers

    score = -7.7958221435546875
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", score)]
    with quiet():
        saved = transformers.XLMRobertaTokenizer(vocab=pieces)
        saved.save_pretrained(str(tmp_path / "model"))
    kept = tokenizer.collect(tmp_path / "model")
    assert kept is not None
    model = json.loads((kept / "tokenizer.json").read_text())["model"]
    assert model["exact_scores"] is True
    assert model["vocab"][4] == ["▁a", score]
    loaded = json.loads(tokenizer.load(kept).backend_tokenizer.to_str())["model"]
    assert loaded["vocab"][4][1] != score
