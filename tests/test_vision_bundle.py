# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles of a backbone, a detector and a segmentation network: run, and held against transformers.

From the file of a photo, by the runtime here and by transformers called directly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle import Bundle
from edgeopt.errors import InputError
from edgeopt.model.images import make_images
from edgeopt.pipeline import compile
from edgeopt.quiet import quiet
from edgeopt.runtime.build import build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests import vision_networks

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

TARGET = "intel-n100"  # whose code this machine runs too
BACKBONE, DETECTOR = "Dinov2Model", "YolosForObjectDetection"
SEGMENTER = "SegformerForSemanticSegmentation"
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Bundle]]:
    """Return the checkpoints and their bundles, by the networks' names."""
    found = {}
    for name in (BACKBONE, DETECTOR, SEGMENTER):
        home = tmp_path_factory.mktemp(name)
        model = vision_networks.write(home / "model", name)
        bundle = compile(
            model, TARGET, engines=("onnx",), precisions=("fp32",), output=home / "made.edgeopt"
        )
        found[name] = (model, bundle)
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(make_images(3)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def outputs(model: Path, loader: str, photo: Path) -> tuple[Any, Any, tuple[int, int]]:
    """Return what transformers' network gives for a photo, its processor, and (height, width)."""
    import torch
    from PIL import Image

    with quiet():
        network = getattr(transformers, loader).from_pretrained(model).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(model)
        image = Image.open(photo)
        with torch.inference_mode():
            found = network(processor(image, return_tensors="pt")["pixel_values"])
    return found, processor, (image.height, image.width)


def test_every_artifact_was_held_against_transformers(
    made: dict[str, tuple[Path, Bundle]],
) -> None:
    for _, bundle in made.values():
        manifest = bundle.manifest
        assert manifest.skipped == ()
        assert manifest.original.startswith("transformers ")
        (artifact,) = manifest.artifacts
        assert artifact.judged is not None
        assert artifact.judged["samples"] == 16
        assert artifact.judged["error"] < 1e-4
        assert edgeopt.verify(bundle).ok


def test_an_embedding_is_the_pooler_s(
    made: dict[str, tuple[Path, Bundle]], photos: list[Path]
) -> None:
    model, bundle = made[BACKBONE]
    for photo, result in zip(photos, edgeopt.read_images(bundle, photos).results, strict=True):
        wanted, _, _ = outputs(model, "AutoModel", photo)
        np.testing.assert_allclose(result.vector, wanted.pooler_output[0].numpy(), atol=1e-5)


def test_objects_are_those_of_the_processor(
    made: dict[str, tuple[Path, Bundle]], photos: list[Path]
) -> None:
    model, bundle = made[DETECTOR]
    reading = edgeopt.read_images(bundle, photos, threshold=THRESHOLD)
    some = 0
    for photo, result in zip(photos, reading.results, strict=True):
        found, processor, size = outputs(model, "AutoModelForObjectDetection", photo)
        (wanted,) = processor.post_process_object_detection(
            found, threshold=THRESHOLD, target_sizes=[size]
        )
        order = np.argsort(-wanted["scores"].numpy())
        labels = [vision_networks.LABELS[i] for i in wanted["labels"][order.copy()].tolist()]
        assert [item.label for item in result.items] == labels
        np.testing.assert_allclose(
            [item.score for item in result.items], wanted["scores"].numpy()[order], atol=1e-5
        )
        np.testing.assert_allclose(
            np.array([item.box for item in result.items]),
            wanted["boxes"].numpy()[order],
            atol=1e-3 * max(size),
        )
        some += len(labels)
    assert some > len(photos)


def test_a_board_finds_the_same_objects(
    made: dict[str, tuple[Path, Bundle]], photos: list[Path]
) -> None:
    bundle = made[DETECTOR][1]
    here, there = (
        edgeopt.read_images(bundle, photos, board=b, threshold=0) for b in (None, "host")
    )
    for one, other in zip(here.results, there.results, strict=True):
        assert len(one.items) > 5
        assert [i.label for i in other.items] == [i.label for i in one.items]
        for a, b in zip(one.items, other.items, strict=True):
            assert (b.score, b.box) == (
                pytest.approx(a.score, abs=1e-5),
                pytest.approx(a.box, abs=1e-2),
            )


def test_labels_of_pixels_are_those_of_the_processor(
    made: dict[str, tuple[Path, Bundle]], photos: list[Path]
) -> None:
    model, bundle = made[SEGMENTER]
    found = edgeopt.segment(bundle, photos)
    assert found.labels == vision_networks.LABELS
    for photo, labels, result in zip(photos, found.maps, found.reading.results, strict=True):
        raw, processor, size = outputs(model, "AutoModelForSemanticSegmentation", photo)
        (wanted,) = processor.post_process_semantic_segmentation(raw, target_sizes=[size])
        assert labels.shape == size
        # The rest is where two labels are as near as float32 is exact.
        assert (labels == wanted.numpy()).mean() > 0.9995
        assert sum(item.score for item in result.items) == pytest.approx(1)


def test_images_in_a_batch_have_results_of_their_own(
    made: dict[str, tuple[Path, Bundle]], photos: list[Path]
) -> None:
    from edgeopt.runtime.host import open_session

    given = [(i.shape[1], i.shape[0], i.tobytes()) for i in make_images(3)]
    for name in (DETECTOR, SEGMENTER):
        with open_session(made[name][1].path, batch=3) as session:
            together = session.run_images(given)
            maps = [session.class_map(40, 30, i) for i in range(3)] if name == SEGMENTER else []
            for i, image in enumerate(given):
                alone = session.run(image=image)
                for one, two in zip(together[i].items, alone.items, strict=True):
                    assert one.label == two.label
                    assert one.score == pytest.approx(two.score, abs=1e-5)
                    assert one.box is None or one.box == pytest.approx(two.box, abs=1e-2)
                if maps:
                    assert np.mean(maps[i] == session.class_map(40, 30)) > 0.99


def test_a_map_that_cannot_be_is_refused(made: dict[str, tuple[Path, Bundle]]) -> None:
    from edgeopt.runtime.host import open_session

    image = (8, 8, bytes(8 * 8 * 3))
    with open_session(made[SEGMENTER][1].path, max_image_side=64) as session:
        with pytest.raises(edgeopt_rt.Failure, match="the last run had 0 images"):
            session.class_map(8, 8)
        session.run(image=image)
        with pytest.raises(edgeopt_rt.Failure, match="1, the last run had 1 images"):
            session.class_map(8, 8, 1)
        with pytest.raises(edgeopt_rt.Failure, match="at most 64 wide was made room for"):
            session.class_map(65, 8)
    with open_session(made[DETECTOR][1].path) as session:
        session.run(image=image)
        with pytest.raises(edgeopt_rt.Failure, match="object-detection: it labels no pixels"):
            session.class_map(8, 8)
    with pytest.raises(InputError, match="only semantic-segmentation has maps of labels"):
        edgeopt.segment(made[BACKBONE][1], [make_images(1)[0]])


def test_the_command_prints_objects_and_writes_maps(
    made: dict[str, tuple[Path, Bundle]], photos: list[Path], tmp_path: Path
) -> None:
    from PIL import Image

    environment = os.environ | {"EDGEOPT_RT": str(build_for_host().library)}

    def words_of(name: str) -> list[str]:
        return [sys.executable, "-m", "edgeopt", "run", str(made[name][1].path)]

    def run(name: str, *words: str) -> str:
        command = [*words_of(name), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run(DETECTOR, "--image", str(photos[0]), "--threshold", str(THRESHOLD))
    told = json.loads(run(DETECTOR, "--image", str(photos[0]), "--threshold", "0.3", "--json"))
    first = told["results"][0]["items"][0]
    places = " ".join(f"{value:.1f}" for value in first["box"])
    assert shown.splitlines()[0] == f"{first['label']} {first['score']:.3f}  {places}"
    assert "nothing found" in run(DETECTOR, "--image", str(photos[0]), "--threshold", "1")
    run(SEGMENTER, "--image", str(photos[1]), "--maps", str(tmp_path / "maps"))
    over = [*words_of(SEGMENTER), "--image", str(photos[1]), "--maps", str(photos[1].parent)]
    refused = subprocess.run(over, capture_output=True, text=True, env=environment)
    assert refused.returncode != 0
    assert "would be written over the image" in refused.stderr
    written = np.array(Image.open(tmp_path / "maps" / "1.png"))
    np.testing.assert_array_equal(written, edgeopt.segment(made[SEGMENTER][1], photos[1:2]).maps[0])


@pytest.mark.parametrize("name", [DETECTOR, SEGMENTER])
def test_every_engine_answers_as_transformers(name: str, tmp_path: Path) -> None:
    for module in ("onnxruntime", "litert_torch", "openvino", "tvm"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    folder = vision_networks.write(tmp_path / "model", name)
    bundle = compile(folder, "host", output=tmp_path / "b.edgeopt", precisions=["fp32"])
    assert bundle.manifest.skipped == ()
    found = {a.engine: a.judged for a in bundle.manifest.artifacts}
    assert sorted(found) == ["onnx", "openvino", "tflite", "tvm"]
    for engine, judged in found.items():
        assert judged is not None
        assert (judged["samples"], judged["error"] < 1e-3) == (16, True), engine
