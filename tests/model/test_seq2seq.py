# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import InputError
from tests import generators

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

from edgeopt import progress
from edgeopt.model import Forced
from edgeopt.model.importer import import_model, import_whole
from edgeopt.model.search import Search
from edgeopt.model.tasks import TEXT_GENERATION

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seq2seq") / "tiny"
    generators.write_encoder_decoder(folder, "marian")
    return folder


def test_an_encoder_decoder_is_a_model_with_states_of_both(checkpoint: Path) -> None:
    model = import_whole(checkpoint)
    assert not hasattr(model, "towers")
    assert (model.task, model.stops) == (TEXT_GENERATION, (1,))
    assert model.forced == Forced(start=(0,), last=(1,), never=(0,))
    dims = {state.input: state.dims for state in model.main.states}
    assert dims == {
        f"past.{{}}.{kind}{part}": (1, 4, along, 16)
        for kind, along in (("", "past"), ("cross_", "source"))
        for part in ("key", "value")
    }
    assert model.text.max_seq_len == 160
    assert import_whole(checkpoint, context=32).text.max_seq_len == 32
    with pytest.raises(InputError, match="MarianMTModel generates text, or has a decoder"):
        import_model(checkpoint)


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "model_type 'mbart' is not one that edgeopt makes a generator of": (
        "config.json",
        {"model_type": "mbart", "architectures": ["MBartForConditionalGeneration"]},
    ),
    "has one vocabulary for sources and another for answers, which is not carried": (
        "config.json",
        {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False},
    ),
    "has no decoder_start_token_id, with which an answer begins": (
        "generation_config.json",
        {"decoder_start_token_id": None},
    ),
    "bad_words_ids: [3, 4] is of 2 tokens; single ones are carried": (
        "generation_config.json",
        {"bad_words_ids": [[3, 4]]},
    ),
    "generation_config.json: no token of the vocabulary: 404": (
        "generation_config.json",
        {"forced_bos_token_id": 404},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_not_carried_is_refused(message: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(checkpoint, folder)
    name, changes = WRONG[message]
    document = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    if "share_encoder_decoder_embeddings" in changes:
        _untie(folder)
    with pytest.raises(InputError) as caught:
        import_whole(folder)
    assert caught.value.message == message


def _untie(folder: Path) -> None:
    """Give both parts a table of their own, as such a checkpoint has."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    table = tensors.pop("model.shared.weight")
    for name in ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):
        tensors[f"{name}.weight"] = table.copy()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_how_an_answer_is_searched_is_kept_and_wishes_that_are_not_carried_are_told(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(checkpoint, folder)
    path = folder / "generation_config.json"
    more = {
        "num_beams": 4,
        "length_penalty": 0.8,
        "early_stopping": True,
        "no_repeat_ngram_size": 3,
        "min_length": 12,
        "repetition_penalty": 1.2,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    with progress.noted() as told:
        model = import_whole(folder)
    assert any("has repetition_penalty 1.2, which a bundle" in line for line in told)
    assert model.search == Search(
        num_beams=4,
        length_penalty=0.8,
        early_stopping="yes",
        no_repeat_ngram_size=3,
        min_tokens=11,  # after what an answer begins with
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 17}))
    with pytest.raises(InputError, match="num_beams is 17, expected 1 to 16"):
        import_whole(folder)
