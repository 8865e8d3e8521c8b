# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The device's tokenizer against transformers' own, before anything ships."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.errors import CompileError
from edgeopt.lower import tokenization
from edgeopt.model import Model
from edgeopt.model.answer import Original
from edgeopt.model.importer import import_model
from edgeopt.model.original import open_original
from edgeopt.target import load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tokens") / "tiny"
    return import_model(checkpoints.write(folder, "BertForTokenClassification"))


def changed(model: Model, place: Path, **settings: object) -> Model:
    """Return the model with other settings in the tokenizer that ships."""
    assert model.text.tokenizer is not None
    folder = Path(shutil.copytree(model.text.tokenizer, place / "changed"))
    file = json.loads((folder / "tokenizer.json").read_text())
    for key, value in settings.items():
        file[key] = value(file[key]) if callable(value) else value
    (folder / "tokenizer.json").write_text(json.dumps(file))
    return replace(model, input=replace(model.text, tokenizer=folder), digest=str(settings))


def original_of(model: Model) -> Original:
    found = open_original(model)
    assert isinstance(found, Original)
    return found


def test_hard_texts_have_the_same_tokens_and_places(model: Model) -> None:
    tokenization.check(model, load_target("host"), original_of(model), None, None)


def test_the_first_token_that_differs_is_told_with_the_line(model: Model, tmp_path: Path) -> None:
    cased = changed(model, tmp_path, normalizer=lambda old: old | {"lowercase": False})
    data = tmp_path / "texts.txt"
    data.write_text("a tool\n\n\na Tool\n")
    with pytest.raises(CompileError) as caught:
        tokenization.check(
            cased, load_target("host"), original_of(model), ("a tool", "a Tool"), data
        )
    tool = checkpoints.VOCABULARY.index("tool")
    unknown = checkpoints.VOCABULARY.index("[UNK]")
    assert caught.value.message == (
        f"the device would read other tokens than {original_of(model).name}: "
        f"{data}: line 4, 'a Tool': token 2 has id {tool}, on the device {unknown}"
    )


def test_a_tokenizer_that_the_runtime_lacks_is_refused(model: Model, tmp_path: Path) -> None:
    kinds = [{"type": "Replace", "pattern": {"Regex": "a+b"}, "content": ""}]
    other = changed(model, tmp_path, normalizer={"type": "Sequence", "normalizers": kinds})
    with pytest.raises(CompileError, match="does not read this tokenizer"):
        tokenization.check(other, load_target("host"), original_of(model), None, None)
