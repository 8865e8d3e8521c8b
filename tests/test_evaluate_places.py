# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A detector and a segmentation network in ``edgeopt evaluate``, from folders to figures.

The judges are transformers' post-processing with pycocotools, and with scikit-learn, called
directly. What is expected is made of what transformers itself finds, so that some of it is right.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle import Bundle
from edgeopt.errors import InputError
from edgeopt.model.images import make_images
from edgeopt.quiet import quiet
from tests import vision_networks
from tests.lazily import lazily

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
metrics = lazily("sklearn.metrics", reason="needs edgeopt[evaluate]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

TARGET = "intel-n100"  # whose code this machine runs too
PHOTOS = 8
LABELS = vision_networks.LABELS


def made(home: Path, name: str) -> tuple[Path, Bundle]:
    folder = vision_networks.write(home / "model", name)
    options: dict[str, Any] = {"engines": ["onnx"], "precisions": ["fp32"]}
    return folder, edgeopt.compile(folder, TARGET, output=home / "made.edgeopt", **options)


def outputs(folder: Path, loader: str, photo: Path) -> tuple[Any, Any, tuple[int, int]]:
    """Return what transformers' network gives for a photo, its processor, and (height, width)."""
    import torch

    with quiet():
        network = getattr(transformers, loader).from_pretrained(folder).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        with pillow.open(photo) as image, torch.inference_mode():
            size = (image.height, image.width)
            return network(processor(image, return_tensors="pt")["pixel_values"]), processor, size


def photos(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    for i, pixels in enumerate(make_images(PHOTOS)):
        pillow.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def test_objects_are_scored_as_by_transformers_and_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="needs edgeopt[detection]")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    folder, bundle = made(tmp_path, "YolosForObjectDetection")
    draw = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    images = []
    for number, photo in enumerate(photos(tmp_path / "data" / "images"), 1):
        images.append({"id": number, "file_name": photo.name})
        found, processor, size = outputs(folder, "AutoModelForObjectDetection", photo)
        (one,) = processor.post_process_object_detection(found, threshold=0, target_sizes=[size])
        for label, score, box in zip(one["labels"], one["scores"], one["boxes"], strict=True):
            x_min, y_min, x_max, y_max = map(float, box)
            sides = [x_min, y_min, x_max - x_min, y_max - y_min]
            of = {"image_id": number, "category_id": int(label) + 5}
            results.append(of | {"bbox": sides, "score": float(score)})
            if draw.random() < 0.4:  # expected, not quite there
                moved = (np.array(sides) + draw.normal(0, 0.03, 4) * max(sides[2:])).tolist()
                own = {"id": len(annotations) + 1, "bbox": moved, "area": moved[2] * moved[3]}
                annotations.append(of | own | {"iscrowd": 0})
    data = tmp_path / "data" / "_annotations.coco.json"
    categories = [{"id": i + 5, "name": name} for i, name in enumerate(LABELS)]
    data.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(data))
        judge = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    found = edgeopt.evaluate_bundle(bundle, data.parent, original=folder)
    assert (found.noun, found.units, found.main) == ("images", PHOTOS, "ap")
    assert found.original is not None
    values = [figure.value for figure in found.original.figures.values()]
    assert values == pytest.approx([None if v < 0 else v for v in judge.stats.tolist()], abs=1e-12)
    assert 0.05 < values[0] < 0.95  # type: ignore[operator]
    (artifact,) = found.artifacts
    assert artifact.figures["ap"].value == pytest.approx(values[0], abs=0.02)
    assert {one.name for one in found.slices} <= set(LABELS)
    assert found.slices
    assert artifact.worst[0].got.endswith("made up)")
    there = edgeopt.evaluate_bundle(bundle, data, board="host", metric="ap_50", limit=3)
    assert (there.board, there.units, there.main) == ("host", 3, "ap_50")


def test_labels_of_pixels_are_scored_as_by_transformers_and_scikit_learn(tmp_path: Path) -> None:
    folder, bundle = made(tmp_path, "SegformerForSemanticSegmentation")
    files = photos(tmp_path / "data" / "images")
    (tmp_path / "data" / "masks").mkdir()
    draw = np.random.default_rng(0)
    maps, masks = [], []
    for photo in files:
        found, processor, size = outputs(folder, "AutoModelForSemanticSegmentation", photo)
        (one,) = processor.post_process_semantic_segmentation(found, target_sizes=[size])
        maps.append(one.numpy())
        other = draw.integers(0, len(LABELS), size)
        mask = np.where(draw.random(size) < 0.7, maps[-1], other)
        masks.append(np.where(draw.random(size) < 0.1, 255, mask))
        raw = np.where(masks[-1] == 255, 0, masks[-1] + 1)  # as ADE20K: 0 is no label
        pillow.fromarray(raw.astype(np.uint8)).save(tmp_path / "data" / "masks" / photo.name)
    # transformers' own reading of such a mask.
    reduced = transformers.SegformerImageProcessorPil(do_reduce_labels=True, do_resize=False)
    given = reduced(pillow.open(files[0]), segmentation_maps=raw_of(tmp_path, files[0]))
    assert (np.array(given["labels"][0]) == masks[0]).all()
    wanted, got = (
        np.concatenate([side[mask != 255] for side, mask in zip(sides, masks, strict=True)])
        for sides in (masks, maps)
    )
    found = edgeopt.evaluate_bundle(
        bundle, tmp_path / "data", original=folder, reduce_labels=True, worst=1
    )
    assert (found.noun, found.units, found.main) == ("images", PHOTOS, "mean_iou")
    for system in found.systems:
        values = {name: figure.value for name, figure in system.figures.items()}
        exact = system is found.original
        assert values == pytest.approx(
            {
                "mean_iou": metrics.jaccard_score(wanted, got, average="macro"),
                "mean_accuracy": metrics.recall_score(wanted, got, average="macro"),
                "pixel_accuracy": metrics.accuracy_score(wanted, got),
            },
            abs=1e-12 if exact else 1e-4,
        )
    assert [one.name for one in found.slices if one.family == "label"] == sorted(LABELS)
    # The agent sends the same labels as are made here.
    there = edgeopt.evaluate_bundle(bundle, tmp_path / "data", board="host", reduce_labels=True)
    assert there.artifacts[0].figures == edgeopt.evaluate_bundle(
        bundle, tmp_path / "data", reduce_labels=True
    ).artifacts[0].figures  # fmt: skip
    seen = [edgeopt.segment(bundle, files[:2], board=board) for board in (None, "host")]
    for here, other in zip(seen[0].maps, seen[1].maps, strict=True):
        assert (here.dtype, other.dtype) == (np.uint16, np.uint16)
        assert (here == other).all()
        assert len(np.unique(here)) > 1
    assert seen[1].reading.board == "host"
    with pytest.raises(InputError, match=r"has pixels of label 3, and the model has 3 labels"):
        edgeopt.evaluate_bundle(bundle, tmp_path / "data", original=folder)
    # A processor that says so needs no option.
    settings = folder / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"do_reduce_labels": True}))
    alone = edgeopt.evaluate_bundle(folder, tmp_path / "data", limit=2)
    assert (alone.artifacts, alone.units) == ((), 2)
    assert alone.systems[0].figures["mean_iou"].value > 0.3  # type: ignore[operator]


def raw_of(home: Path, photo: Path) -> Any:
    return np.array(pillow.open(home / "data" / "masks" / photo.name))
