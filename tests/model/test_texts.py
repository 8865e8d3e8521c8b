# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import gzip
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.lower.lowering import FIDELITY_SAMPLES
from edgeopt.model import texts as texts_module
from edgeopt.model.importer import import_model
from edgeopt.model.texts import read_labelled, read_texts
from edgeopt.recipe import load_recipe
from tests import checkpoints


def scripts(texts: Sequence[str]) -> set[str]:
    """The scripts of all letters, by the first word of their Unicode names."""
    letters = {c for text in texts for c in text if unicodedata.category(c) in ("Ll", "Lu", "Lo")}
    return {unicodedata.name(c).split()[0] for c in letters}


SHIPPED = read_texts(None, 1000)
CHECKED = SHIPPED[:FIDELITY_SAMPLES]
CALIBRATED = SHIPPED[FIDELITY_SAMPLES:][: load_recipe("default").calibration_texts]


def test_the_shipped_texts_are_many_and_of_several_scripts() -> None:
    assert len(SHIPPED) == len(set(SHIPPED)) == 256
    assert read_texts(None, 32) == SHIPPED[:32]
    nine = {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "CJK", "HANGUL", "THAI"}
    assert scripts(SHIPPED) >= nine | {"HIRAGANA", "KATAKANA"}
    assert scripts(CALIBRATED) >= nine
    assert len(scripts(CHECKED)) >= 4


@pytest.mark.parametrize("texts", [CHECKED, CALIBRATED], ids=["checked", "calibrated"])
def test_each_part_has_short_and_long_texts_of_each_kind(texts: Sequence[str]) -> None:
    words = sorted(len(text.split()) for text in texts)
    assert words[0] == 1
    assert words[-1] > 250
    assert 5 < words[len(words) // 4] < 20 < words[len(words) * 3 // 4] < 60
    share = len(texts) // 32
    assert sum(text.endswith("?") for text in texts) >= 3 * share
    assert sum(not text.isascii() for text in texts) >= 3 * share
    assert sum(any(c.isdigit() for c in text) for text in texts) >= 3 * share
    assert sum(any(c in text for c in "{}[]();=") for text in texts) >= 2 * share


def test_no_sentence_is_calibrated_on_and_checked_as_well() -> None:
    checked, calibrated = (
        {sentence for text in texts for sentence in re.split(r"(?<=[.?!]) ", text)}
        for texts in (CHECKED, CALIBRATED)
    )
    assert not checked & calibrated


def test_they_are_what_the_tool_makes_of_our_sentences(tmp_path: Path) -> None:
    tool = Path(__file__).parents[2] / "tools" / "make-texts.py"
    subprocess.run([sys.executable, str(tool), str(tmp_path / "texts.jsonl")], check=True)
    shipped = Path(texts_module.__file__).with_name("texts.jsonl")
    assert (tmp_path / "texts.jsonl").read_bytes() == shipped.read_bytes()


def test_lines_and_jsonl_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n  two \nthree\n")
    assert read_texts(tmp_path / "a.txt", 2) == ("one", "two")
    (tmp_path / "a.jsonl").write_text('{"text": "eins", "label": 3}\n{"text": "zwei"}\n')
    assert read_texts(tmp_path / "a.jsonl", 9) == ("eins", "zwei")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"label": 1}\n', '{}: line 2: expected an object with a "text"'),
        ('{"text": "a"}\n{"text": \n', "{}: line 2: is not JSON"),
        ("[1]\n", '{}: line 1: expected an object with a "text"'),
        ("\n\n", "{}: has no texts"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_texts(path, 9)
    assert str(caught.value).startswith(message.replace("{}", str(path)))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "nosuch.txt", 9)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_texts(tmp_path / "a.txt", 9)


def test_packed_files_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress(b'{"text": "eins", "label": "a"}\n\n{"text": "zwei", "label": 1}\n')
    )
    assert read_texts(path, 9) == ("eins", "zwei")
    assert read_labelled(path) == (("eins", "zwei"), ("a", 1))
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    assert read_labelled(tmp_path / "b.txt") == (("one", "two"), None)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is damaged, or not packed by gzip"):
        read_texts(path, 9)
    path.write_bytes(gzip.compress(b'{"text": "eins", "label": 0.5}\n'))
    with pytest.raises(InputError, match='line 1: expected a "label" that is a name or an index'):
        read_labelled(path)


@pytest.mark.heavy  # transformers
def test_a_length_that_the_tokenizer_alone_fills_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    folder = checkpoints.write(tmp_path / "model")
    settings = folder / "tokenizer_config.json"
    settings.write_text(
        settings.read_text().replace('"model_max_length": 38', '"model_max_length": 1')
    )
    model = import_model(folder)
    assert model.text.max_seq_len == 1
    with pytest.raises(
        InputError, match="takes 1 tokens of a text at most, and its tokenizer adds 2"
    ):
        texts_module.tokenize(model, ["a tool"], 1)
