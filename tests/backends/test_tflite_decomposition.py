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

CASES = {
    "google/mobilebert-uncased": (19,),
    "microsoft/deberta-v3-base": (19,),
    "answerdotai/ModernBERT-base": (19,),
    "sentence-transformers/all-mpnet-base-v2": (19, 32),
}
"""The lengths of each: a further one is traced and lowered by itself, as the first."""


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = next(one for one in build.layouts() if one.name == name)
    model = as_lowered(import_model(build.write(layout, tmp_path / "checkpoint")))
    once, twice = tmp_path / "once.tflite", tmp_path / "twice.tflite"
    tflite._convert(model, CASES[name], once)
    monkeypatch.setattr(tflite, "_decomposed_once", lambda model: contextlib.nullcontext())
    tflite._convert(model, CASES[name], twice)
    assert once.read_bytes() == twice.read_bytes()
