# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A graph of texts that is decomposed once becomes the file that it becomes of two times."""

import contextlib
from pathlib import Path

import pytest

from edgeopt.backends import tflite
from edgeopt.lower.lowering import as_lowered
from edgeopt.model.importer import import_model
from tests.layouts import build

pytest.importorskip("litert_torch", reason="needs edgeopt[tflite]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

NAMES = (
    "google/mobilebert-uncased",
    "microsoft/deberta-v3-base",
    "answerdotai/ModernBERT-base",
    "sentence-transformers/all-mpnet-base-v2",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = next(one for one in build.layouts() if one.name == name)
    model = as_lowered(import_model(build.write(layout, tmp_path / "checkpoint")))
    once, twice = tmp_path / "once.tflite", tmp_path / "twice.tflite"
    tflite._convert(model, (19, 32), once)
    monkeypatch.setattr(tflite, "_decomposed_once", lambda model: contextlib.nullcontext())
    tflite._convert(model, (19, 32), twice)
    assert once.read_bytes() == twice.read_bytes()
