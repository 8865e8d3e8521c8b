# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A bundle of CLIP, and one of SigLIP: compiled, verified, run and compared with transformers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.manifest import _digest
from edgeopt.bundle.pack import pack
from edgeopt.errors import BundleError, InputError
from edgeopt.measure.session import profile
from edgeopt.model.images import make_images
from edgeopt.pipeline import compile
from edgeopt.quiet import quiet
from edgeopt.recipe import load_recipe
from edgeopt.runtime.build import build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests import dual_encoders

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

TARGET = "intel-n100"  # whose code this machine runs too
TEXTS = ("a photo of a cat", "two dogs run", "the house's door")
KINDS = {"clip": dual_encoders.clip, "siglip": dual_encoders.siglip}


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Bundle]:
    """Return the checkpoint and its bundle."""
    home = tmp_path_factory.mktemp(request.param)
    model = KINDS[request.param](home / "model")
    bundle = compile(model, TARGET, engines=("onnx",), output=home / "made.edgeopt")
    return model, bundle


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(make_images(2)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def pipeline(model: Path, photo: Path) -> dict[str, float]:
    """Return the score of each text by transformers' own pipeline."""
    with quiet():
        tool = transformers.pipeline("zero-shot-image-classification", model=str(model))
        found = tool(str(photo), candidate_labels=list(TEXTS), hypothesis_template="{}")
    return {item["label"]: item["score"] for item in found}


def test_each_graph_has_artifacts_that_were_held_against_transformers(
    made: tuple[Path, Bundle],
) -> None:
    manifest = made[1].manifest
    assert manifest.task.name == "zero-shot-image-classification"
    assert manifest.skipped == ()
    found = {(a.graph, a.engine, a.precision) for a in manifest.artifacts}
    assert found == {(g, "onnx", p) for g in ("text", "image") for p in ("fp32", "int8")}
    assert all(a.judged and a.judged["decisions"] is None for a in manifest.artifacts)
    assert "normalised features" in manifest.original


def test_every_artifact_verifies(made: tuple[Path, Bundle]) -> None:
    found = edgeopt.verify(made[1])
    assert found.ok
    assert [(a.graph, a.agrees, a.runtime) for a in found.artifacts] == [
        (graph, True, True) for graph in ("text", "text", "image", "image")
    ]


def test_scores_are_those_of_the_pipeline(made: tuple[Path, Bundle], photos: list[Path]) -> None:
    model, bundle = made
    found = edgeopt.compare(bundle, photos, TEXTS, precision="fp32")
    for photo, matches in zip(photos, found.matches, strict=True):
        wanted = pipeline(model, photo)
        got = {match.text: match.score for match in matches}
        assert got == pytest.approx(wanted, abs=1e-4)
        assert [m.text for m in matches] == sorted(wanted, key=lambda t: -wanted[t])


def test_logits_are_those_of_the_network(made: tuple[Path, Bundle], photos: list[Path]) -> None:
    import torch
    from PIL import Image

    model, bundle = made
    with quiet():
        network = transformers.AutoModel.from_pretrained(str(model)).eval()
        processor = transformers.AutoProcessor.from_pretrained(str(model))
        given = processor(
            text=list(TEXTS),
            images=[Image.open(photo) for photo in photos],
            padding="max_length",
            max_length=64,
            return_tensors="pt",
        )
    with torch.inference_mode():
        wanted = network(**given).logits_per_image
    found = edgeopt.compare(bundle, photos, TEXTS, precision="fp32")
    got = [[next(m.logit for m in row if m.text == t) for t in TEXTS] for row in found.matches]
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_the_command_line_prints_scores(made: tuple[Path, Bundle], photos: list[Path]) -> None:
    model, bundle = made
    words = [sys.executable, "-m", "edgeopt", "run", str(bundle.path), "--image", str(photos[0])]
    words += ["-p", "fp32", *(word for text in TEXTS for word in ("--text", text))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    wanted = sorted(pipeline(model, photos[0]).items(), key=lambda item: -item[1])
    for line, (text, score) in zip(lines[1:], wanted, strict=False):
        shown, _, name = line.partition("  ")
        assert name == text
        assert float(shown) == pytest.approx(score, abs=2e-4)


def test_texts_and_images_are_embedded_by_themselves(
    made: tuple[Path, Bundle], photos: list[Path]
) -> None:
    bundle = made[1]
    texts = edgeopt.read(bundle, TEXTS, precision="fp32").results
    seen = edgeopt.read_images(bundle, photos, precision="fp32").results
    for result in (*texts, *seen):
        assert result.vector is not None
        assert np.linalg.norm(result.vector) == pytest.approx(1, abs=1e-5)


def test_one_packed_file_runs_too(
    made: tuple[Path, Bundle], photos: list[Path], tmp_path: Path
) -> None:
    packed = pack(made[1], tmp_path / "made.zip")
    whole = edgeopt.compare(made[1], photos, TEXTS)
    assert edgeopt.compare(packed, photos, TEXTS).matches == whole.matches


def test_a_session_needs_the_graph_if_there_are_two(made: tuple[Path, Bundle]) -> None:
    library = str(build_for_host().library)
    with edgeopt_rt.Bundle(made[1].path, library=library) as opened:
        assert opened.graphs == ["text", "image"]
        assert {artifact.graph for artifact in opened.artifacts} == {"text", "image"}
        with pytest.raises(edgeopt_rt.Failure) as caught:
            edgeopt_rt.Session(opened)
        assert caught.value.code == edgeopt_rt.INPUT
        assert "has 2 graphs, such as text: name the one to open (graph)" in str(caught.value)
        with pytest.raises(edgeopt_rt.Failure, match="has no graph sound"):
            edgeopt_rt.Session(opened, graph="sound")


def test_each_graph_is_measured(
    made: tuple[Path, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = profile(
        made[1], "host", precisions=("fp32",), runs=3, output=tmp_path / "m.json", activate=False
    )
    runs = [(run.run.graph, run.run.seq_len > 0, len(run.run.wall_ns)) for run in found.runs]
    assert runs == [("text", True, 3), ("image", False, 3)]
    assert [run["graph"] for run in found.document()["runs"]] == ["text", "image"]


Change = Callable[[dict[str, Any]], object]


def changed(bundle: Bundle, folder: Path, change: Change) -> Path:
    """Copy the bundle with its manifest changed, and its digest made right again."""
    shutil.copytree(bundle.path, folder, copy_function=os.link)
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    document["digest"] = _digest(document)
    path.unlink()
    path.write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("similarity"),
        lambda m: m["graphs"].pop("image"),
        lambda m: m["graphs"]["text"].pop("task"),
        lambda m: m["graphs"]["text"].pop("input"),
        lambda m: m["graphs"]["text"].update(task="zero-shot-image-classification"),
        lambda m: m["artifacts"][0]["artifact"].update(graphs={}),
        lambda m: m["artifacts"][0]["artifact"]["graphs"].update(
            sound=m["artifacts"][0]["artifact"]["graphs"]["text"]
        ),
        lambda m: m.update(task="image-classification"),
    ],
)
def test_graphs_that_do_not_go_together_are_refused_by_both_readers(
    made: tuple[Path, Bundle], tmp_path: Path, change: Change
) -> None:
    folder = changed(made[1], tmp_path / "changed.edgeopt", change)
    with pytest.raises(BundleError):
        open_bundle(folder)
    with pytest.raises(edgeopt_rt.Failure) as caught:
        open_both(folder)
    assert caught.value.code in (edgeopt_rt.BUNDLE, edgeopt_rt.UNSUPPORTED, edgeopt_rt.INPUT)


def open_both(folder: Path) -> None:
    """Open both graphs in the runtime."""
    with edgeopt_rt.Bundle(folder, library=str(build_for_host().library)) as opened:
        for graph in ("text", "image"):
            edgeopt_rt.Session(opened, graph=graph, precision="fp32").close()


def test_a_folder_of_images_is_for_the_graph_of_images(
    made: tuple[Path, Bundle], photos: list[Path], tmp_path: Path
) -> None:
    model, bundle = made
    own = compile(
        model,
        TARGET,
        engines=("onnx",),
        precisions=("fp32",),
        data=photos[0].parent,
        output=tmp_path / "own.edgeopt",
    )
    before, after = bundle.manifest.origin, own.manifest.origin
    assert after["images_sha256"] != before["images_sha256"]
    assert after["texts_sha256"] == before["texts_sha256"]


def test_a_recipe_that_bounds_a_loss_is_refused(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\na dog\n")
    plain = load_recipe("default")
    recipe = replace(plain, quantize=replace(plain.quantize, max_drop=0.01))
    with pytest.raises(InputError, match="has two networks"):
        compile(made[0], TARGET, recipe=recipe, data=texts, output=tmp_path / "no.edgeopt")
