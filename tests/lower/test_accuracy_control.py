# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Bounds on what quantising may lose, and layers that stay in floating point until they hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import progress
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.errors import CompileError, InputError
from edgeopt.evaluate.accuracy import Accuracy
from edgeopt.model.checkpoint import save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.pipeline import compile
from edgeopt.quantize import Quantize
from edgeopt.recipe import Bound, Recipe, load_recipe
from edgeopt.target import load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

SPIKES = {f"bert.encoder.layer.{i}.attention.output.dense" for i in (0, 1)}
Make = Callable[..., tuple[Bundle, list[str]]]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts without labels: what FP32 says is right."""
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    words = checkpoints.WORDS
    lines = [" ".join(words[(i * k) % len(words)] for k in range(1, 9)) for i in range(12)]
    path.write_text("".join(f"{line} {i}\n" for i in range(10) for line in lines))
    return path


@pytest.fixture(scope="module")
def spiky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in which two modules do not bear 4 bits (test_qat.py has the same spikes)."""
    folder = checkpoints.write(tmp_path_factory.mktemp("spiky") / "tiny")
    model = import_model(folder)
    for layer in layers(model.module.network):
        value, output = layer.qkv[2], layer.attention_output
        for neuron in range(0, 32, layer.head_dim):
            value.weight.data[neuron] /= 256
            value.bias.data[neuron] /= 256
            output.weight.data[:, neuron] *= 256
    save(model, folder, folder)
    return folder


@pytest.fixture
def make(spiky: Path, tmp_path: Path) -> Make:
    """Return a function that compiles for ONNX in 4 bits, and tells what was told."""

    def call(quantize: Quantize, cosine_min: float, data: Path | None) -> tuple[Bundle, list[str]]:
        plain = load_recipe("default")
        open_ = {"error_max": 1e30, "decisions_min": 0.0, "order_min": 0.0}
        bounds = dict(plain.bounds) | {"int4": Bound(cosine_min=cosine_min, answers=open_)}
        recipe: Recipe = replace(plain, bounds=bounds, quantize=quantize)
        host = replace(load_target("host"), seq_lens=(16,))
        told: list[str] = []
        with progress.listen(lambda event: told.append(event.text)):
            made = compile(
                spiky,
                host,
                output=tmp_path / "a.edgeopt",
                recipe=recipe,
                engines=["onnx"],
                precisions=["int4"],
                data=data,
            )
        return made, told

    return call


FOUR = Quantize(weights="int4")


def test_layers_stay_in_fp32_until_the_bound_holds(make: Make, texts: Path) -> None:
    made, told = make(replace(FOUR, mixed=True, max_drop=1.0), 0.9, texts)
    (artifact,) = open_bundle(made.path).manifest.artifacts
    assert (artifact.engine, artifact.precision) == ("onnx", "int4")
    assert artifact.fidelity.cosine_min >= 0.9
    assert set(artifact.kept) >= SPIKES
    assert len(artifact.kept) in (2, 4)  # their number doubles
    steps = [text for text in told if "linear modules stay in FP32" in text]
    assert steps[0].startswith("onnx int4: cosine ")
    assert steps[0].endswith(
        "below the recipe's bound 0.9 (worst of 32 texts); 1 linear modules stay in FP32"
    )
    found = Accuracy(**(artifact.accuracy or {}))
    assert (found.measure, found.texts, found.reference) == ("same label", 24, 1.0)
    assert found.drop == pytest.approx(1 - found.score)
    assert made.manifest.recipe["quantize"] == {"weights": "int4", "mixed": True, "max_drop": 1.0}


def test_without_mixed_it_is_skipped_with_what_it_lost(make: Make, texts: Path) -> None:
    with pytest.raises(
        CompileError, match=r"onnx int4: cosine .* is below the recipe's bound 0\.9 "
    ):
        make(FOUR, 0.9, None)
    with pytest.raises(
        CompileError,
        match=r"same label falls from 1\.0000 to 0\.\d+ on 24 held-out texts, by more than 0\.01",
    ):
        make(replace(FOUR, max_drop=0.01), -1.0, texts)


def test_a_bound_on_the_loss_needs_texts(make: Make) -> None:
    with pytest.raises(InputError, match=r"\(max_drop\), which is measured on your texts"):
        make(replace(FOUR, max_drop=0.01), 0.0, None)


def test_a_number_of_modules_is_kept_whatever_holds(make: Make) -> None:
    made, _ = make(replace(FOUR, keep=("classifier",), keep_fp=2), 0.0, None)
    (artifact,) = made.manifest.artifacts
    assert set(artifact.kept) == SPIKES | {"classifier"}
    assert artifact.accuracy is None


def test_embeddings_are_held_to_their_cosine(texts: Path, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "tiny", "BertModel")
    recipe = replace(load_recipe("int8"), quantize=Quantize(max_drop=0.01))
    host = replace(load_target("host"), seq_lens=(16,))
    options = {"engines": ["onnx"], "precisions": ["int8"], "data": texts}
    made = compile(folder, host, output=tmp_path / "a.edgeopt", recipe=recipe, **options)
    found = made.manifest.artifacts[0].accuracy
    assert found is not None
    assert (found["measure"], found["texts"]) == ("cosine", 24)
    assert found["reference"] == pytest.approx(1)
    assert 0.99 < found["score"] < 1
    assert 0 < found["drop_se"] < found["drop"]


def test_a_precision_that_the_recipe_does_not_make_is_refused(spiky: Path, tmp_path: Path) -> None:
    host = load_target("host")
    with pytest.raises(InputError) as caught:
        compile(spiky, host, output=tmp_path / "a.edgeopt", precisions=["int4"])
    assert caught.value.message == "recipe default makes no 'int4', only fp32, fp16, int8"
    assert caught.value.hint == 'A recipe with weights = "int4" in [quantize] makes it.'
