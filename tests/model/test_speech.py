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
from edgeopt.model import AudioInput, Forced, Speech
from edgeopt.model.importer import import_whole
from edgeopt.model.tasks import SPEECH_RECOGNITION

pytestmark = pytest.mark.heavy

LANGUAGES = {"en": 401, "de": 402, "fr": 403}
TASKS = {"translate": 404, "transcribe": 405}
SILENT = 407
NEVER = (9, 17, 400, 401, 402, 403, 404, 405, 406, 407)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech") / "tiny"
    generators.write_whisper(folder)
    return folder


def changed(checkpoint: Path, folder: Path, name: str, changes: dict[str, Any]) -> Path:
    shutil.copytree(checkpoint, folder)
    document = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return folder


def test_whisper_is_a_model_that_hears(checkpoint: Path) -> None:
    model = import_whole(checkpoint)
    assert (model.task, model.stops) == (SPEECH_RECOGNITION, (0,))
    assert isinstance(model.input, AudioInput)
    assert (model.input.mel.bins, model.input.mel.frames, model.input.mel.seconds) == (80, 200, 2)
    assert model.text.max_seq_len == 80
    assert import_whole(checkpoint, context=32).text.max_seq_len == 32
    dims = {state.input: state.dims for state in model.main.states}
    assert dims["past.{}.cross_key"] == (1, 4, "source", 16)
    assert model.forced == Forced(
        start=(400, 401, SILENT),
        never=NEVER,
        never_first=(33, 0),
        speech=Speech(languages=LANGUAGES, tasks=TASKS, begin=400, end=(SILENT,), detects=True),
    )


ASKED: dict[str, tuple[dict[str, Any], tuple[int, ...], bool]] = {
    "language": ({"language": "<|de|>"}, (400, 402, 405, SILENT), False),
    "code": ({"language": "de", "task": "translate"}, (400, 402, 404, SILENT), False),
    "task": ({"task": "translate"}, (400, 401, 404, SILENT), True),
    "forced": ({"forced_decoder_ids": [[1, None], [2, 405]]}, (400, 401, 405, SILENT), True),
    "one alone": ({"lang_to_id": None, "task_to_id": None}, (400, SILENT), False),
}


@pytest.mark.parametrize("kind", ASKED)
def test_an_answer_begins_as_the_files_say(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    changes, start, detects = ASKED[kind]
    folder = changed(checkpoint, tmp_path / "b", "generation_config.json", changes)
    forced = import_whole(folder).forced
    assert forced.start == start
    assert detects == (forced.speech is not None and forced.speech.detects)


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "generation_config.json: 'it' is not one of de, en, fr": (
        "generation_config.json",
        {"language": "it"},
    ),
    "generation_config.json: no token of the vocabulary: 999": (
        "generation_config.json",
        {"begin_suppress_tokens": [999]},
    ),
    "hop_length is 80, expected 160: other features are not made on a device": (
        "preprocessor_config.json",
        {"hop_length": 80},
    ),
    "takes features of 80 x 200, and its feature extractor makes 128 x 200": (
        "preprocessor_config.json",
        {"feature_size": 128},
    ),
    "chunk_length is 'x', expected 1 to 600 s": ("preprocessor_config.json", {"chunk_length": "x"}),
    "WhisperForAudioClassification is not carried, of Whisper the whole is": (
        "config.json",
        {"architectures": ["WhisperForAudioClassification"]},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_not_carried_is_refused(message: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = changed(checkpoint, tmp_path / "b", *WRONG[message])
    with pytest.raises(InputError) as caught:
        import_whole(folder)
    assert caught.value.message == message


def test_a_missing_extractor_and_timestamps_are_told(checkpoint: Path, tmp_path: Path) -> None:
    asked = {"return_timestamps": True}
    folder = changed(checkpoint, tmp_path / "b", "generation_config.json", asked)
    with progress.noted() as told:
        import_whole(folder)
    assert any("asks for timestamps; a bundle has none" in line for line in told)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"has no preprocessor_config.json, which says how sound"):
        import_whole(folder)
