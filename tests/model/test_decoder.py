# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import InputError
from tests import generators

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

from edgeopt.model.decoder import import_decoder
from edgeopt.model.importer import import_model, import_whole
from edgeopt.model.tasks import TEXT_GENERATION

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder") / "tiny"
    generators.write(folder, "llama")
    return folder


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **changes}))


def test_a_decoder_is_a_model_with_states(checkpoint: Path) -> None:
    model = import_whole(checkpoint)
    assert not hasattr(model, "towers")
    assert (model.task, model.stops) == (TEXT_GENERATION, (0,))
    (key, value) = model.main.states
    assert key.names("input") == ("past.0.key", "past.1.key")
    assert value.names("output") == ("present.0.value", "present.1.value")
    assert key.dims == value.dims == (1, 2, "past", 16)
    assert model.text.max_seq_len == 160
    assert import_whole(checkpoint, context=32).text.max_seq_len == 32


def test_a_model_of_one_call_is_still_no_decoder(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="LlamaForCausalLM generates text, or has a decoder"):
        import_model(checkpoint)


def copied(checkpoint: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


WRONG: dict[str, Callable[[Path], None]] = {
    "model_type 'falcon' is not one that edgeopt makes a generator of": lambda f: edit(
        f, "config.json", model_type="falcon", architectures=["FalconForCausalLM"]
    ),
    "has no tokenizer, without which no text is generated": lambda f: (
        f / "tokenizer.json"
    ).unlink(),
    "has rotary positions of type 'dynamic', expected one of default, linear, llama3, yarn, which "
    "is not carried": lambda f: edit(
        f,
        "config.json",
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    ),
    "eos_token_id: no token of the vocabulary: 5000": lambda f: edit(
        f, "generation_config.json", eos_token_id=[0, 5000]
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_not_carried_is_refused(message: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "changed")
    WRONG[message](folder)
    if "tokenizer" in message:
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError) as caught:
        import_whole(folder)
    assert caught.value.message == message


def test_a_context_beyond_the_networks_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="takes up to 160 tokens, and was asked for 161"):
        import_decoder(checkpoint, "tiny", 161)
    with pytest.raises(InputError, match="has no prompts, and was asked for 'query'"):
        import_whole(checkpoint, prompt="query")
