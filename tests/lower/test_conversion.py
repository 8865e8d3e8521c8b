# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A network is converted once, and what precisions are made of is what it would be alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import cache
from edgeopt.backends import backend
from edgeopt.lower.lowering import Lowered, lower, prepare
from edgeopt.model import Model, texts
from edgeopt.model.importer import import_model
from edgeopt.model.network.first_token import narrowed
from edgeopt.target import Target, load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def host() -> Target:
    return replace(load_target("host"), seq_lens=(16,))


@pytest.fixture
def model(own_cache: Path, tmp_path: Path) -> Model:
    return import_model(checkpoints.write(tmp_path / "tiny", "BertForSequenceClassification"))


def lowered(model: Model, target: Target, engine: str, precision: str) -> Lowered:
    spec = next(s for s in target.engines if s.engine == engine)
    prepared = prepare(model, (16,), texts.read_texts(None, 4))
    return lower(model, target, spec, precision, prepared)


def conversions(place: Path) -> list[Path]:
    return sorted((place / "conversion").glob("[0-9a-f]*/*"))


@pytest.mark.parametrize(
    ("engine", "package"), [("onnx", "onnxruntime"), ("tflite", "litert_torch")]
)
def test_precisions_start_from_one_conversion(
    engine: str, package: str, model: Model, host: Target, own_cache: Path, tmp_path: Path
) -> None:
    pytest.importorskip(package, reason=f"needs edgeopt[{engine}]")
    lowered(model, host, engine, "fp32")
    (kept,) = conversions(own_cache)
    before = cache.file_sha256(kept)
    second = lowered(model, host, engine, "int8")
    assert conversions(own_cache) == [kept]
    assert cache.file_sha256(kept) == before

    spec = next(s for s in host.engines if s.engine == engine)
    alone = tmp_path / "alone"
    alone.mkdir()
    backend(engine).lower(narrowed(model), host, spec, "int8", [], alone)
    for name in second.artifact.files:
        assert (second.directory / name).read_bytes() == (alone / name).read_bytes()
    assert conversions(own_cache) == [kept]


def test_a_network_that_was_changed_is_converted_by_itself(
    model: Model, host: Target, own_cache: Path
) -> None:
    first = lowered(model, host, "onnx", "fp32")
    changed = replace(model, digest="of other weights")
    changed.module.network.bert.pooler.dense.weight.data[0] += 1
    second = lowered(changed, host, "onnx", "fp32")
    assert len(conversions(own_cache)) == 2
    files = [(made.directory / made.artifact.files[0]).read_bytes() for made in (first, second)]
    assert files[0] != files[1]
