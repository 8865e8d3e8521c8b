# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Images in ``edgeopt evaluate``: dual encoders beside transformers, and images on a board.

The judges are transformers' pipeline "zero-shot-image-classification" and, for retrieval, its
``get_text_features`` and ``get_image_features`` ranked by scikit-learn.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle import Bundle
from edgeopt.errors import InputError
from edgeopt.evaluate.evaluation import Evaluation
from edgeopt.model.images import read_image
from edgeopt.quiet import quiet
from edgeopt.target import load_target
from tests import dual_encoders
from tests.compression import pictures
from tests.lazily import lazily

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
metrics = lazily("sklearn.metrics", reason="needs edgeopt[evaluate]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

WRITERS: dict[str, Callable[[Path], Path]] = {
    "clip": dual_encoders.clip,
    "siglip": dual_encoders.siglip,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.write_images(tmp_path_factory.mktemp("photos") / "by-label", 7)


@pytest.fixture(scope="module")
def captioned(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``datasets`` reads it, with two captions of each image."""
    folder = tmp_path_factory.mktemp("captions") / "flat"
    folder.mkdir()
    rows = []
    for number, path in enumerate(sorted(photos.glob("*/*.ppm"))):
        shutil.copyfile(path, folder / f"{number}.ppm")
        name = path.parent.name
        rows += [
            {"file_name": f"{number}.ppm", "text": f"a {name} photo, number {number}"},
            {"file_name": f"{number}.ppm", "text": f"the {number} of {name} in the house"},
        ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module", params=WRITERS)
def dual(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Bundle]:
    home = tmp_path_factory.mktemp(request.param)
    folder = WRITERS[request.param](home / "model")
    made = edgeopt.compile(
        folder, "host", output=home / "b.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    return folder, made


def values(found: Evaluation) -> list[dict[str, float | None]]:
    """Return the figures of the original and of the artifacts."""
    return [{k: f.value for k, f in s.figures.items()} for s in found.systems]


def test_images_are_sorted_as_by_the_pipeline(dual: tuple[Path, Bundle], photos: Path) -> None:
    folder, bundle = dual
    with quiet():
        ask = transformers.pipeline("zero-shot-image-classification", str(folder))
    expected, got = [], []
    for path in sorted(photos.glob("*/*.ppm")):
        scores = ask(pillow.fromarray(read_image(path)), candidate_labels=list(pictures.NAMES))
        expected.append(path.parent.name)
        got.append(max(scores, key=lambda one: one["score"])["label"])
    found = edgeopt.evaluate_bundle(bundle, photos, original=folder)
    assert (found.noun, found.units, found.main) == ("images", 21, "accuracy")
    original, artifact = values(found)
    assert original["accuracy"] == metrics.accuracy_score(expected, got)
    assert original["f1_macro"] == pytest.approx(
        metrics.f1_score(expected, got, average="macro", zero_division=0)
    )
    assert artifact == original
    assert {one.name for one in found.slices if one.family == "label"} == set(pictures.NAMES)


def features(folder: Path, images: list[Path], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return transformers' embeddings of images and texts, of length 1."""
    import torch

    with quiet():
        network = transformers.AutoModel.from_pretrained(folder).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(folder)
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
    padding = "max_length" if network.config.model_type == "siglip" else True
    given = tokens(texts, padding=padding, truncation=True, max_length=64, return_tensors="pt")
    pixels = [processor(pillow.fromarray(read_image(p)), return_tensors="pt") for p in images]
    with torch.inference_mode():
        found = [
            network.get_image_features(pixel_values=torch.cat([p["pixel_values"] for p in pixels])),
            network.get_text_features(**{k: given[k] for k in tokens.model_input_names}),
        ]
    made = [getattr(f, "pooler_output", f).double().numpy() for f in found]
    first, second = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in made)
    return first, second


def test_captions_find_their_images(dual: tuple[Path, Bundle], captioned: Path) -> None:
    folder, bundle = dual
    rows = [json.loads(line) for line in (captioned / "metadata.jsonl").read_text().splitlines()]
    files = list(dict.fromkeys(row["file_name"] for row in rows))
    images, texts = features(
        folder, [captioned / name for name in files], [row["text"] for row in rows]
    )
    near = texts @ images.T
    right = np.array([[name == row["file_name"] for name in files] for row in rows])
    rank = (near > near[right][:, None]).sum(1)  # 0 for an image that is found first
    found = edgeopt.evaluate_bundle(bundle, captioned, original=folder)
    assert (found.noun, found.units, found.main) == ("captions", 42, "recall_at_1")
    for system in values(found):
        for k in (1, 5, 10):
            assert system[f"recall_at_{k}"] == pytest.approx((rank < k).mean())
        assert system["mrr_at_10"] == pytest.approx(np.where(rank < 10, 1 / (rank + 1), 0).mean())
        assert system["ndcg_at_10"] == pytest.approx(metrics.ndcg_score(right, near, k=10))
    few = edgeopt.evaluate_bundle(bundle, captioned, limit=5)
    assert few.units == 5


def test_several_prompts_of_a_label_are_taken_together(
    dual: tuple[Path, Bundle], photos: Path, captioned: Path
) -> None:
    folder, bundle = dual
    prompts = ("a {}", "the house of {}")
    paths = sorted(photos.glob("*/*.ppm"))
    asked = [text.replace("{}", name) for name in pictures.NAMES for text in prompts]
    images, texts = features(folder, paths, asked)
    mean = texts.reshape(3, 2, -1).mean(1)
    got = (images @ (mean / np.linalg.norm(mean, axis=1, keepdims=True)).T).argmax(1)
    wanted = np.array([pictures.NAMES.index(path.parent.name) for path in paths])
    found = edgeopt.evaluate_bundle(bundle, photos, prompts=prompts)
    assert values(found)[0]["accuracy"] == pytest.approx((got == wanted).mean())
    with pytest.raises(InputError, match=r"expected a text with \{\} for the label, found 'a'"):
        edgeopt.evaluate_bundle(bundle, photos, prompts=["a"])
    table = photos.parent / "table.csv"
    table.write_text("image_path,label\nby-label/a/000.ppm,a\nby-label/b/001.ppm,b\n")
    assert edgeopt.evaluate_bundle(bundle, table).units == 2
    table.write_text("image_path,label\nby-label/a/none.ppm,a\n")
    with pytest.raises(InputError, match=r"line 2: names the image 'by-label/a/none.ppm', and"):
        edgeopt.evaluate_bundle(bundle, table)


@pytest.mark.board
@pytest.mark.parametrize("kind", ["classifier", "clip"])
def test_images_on_an_emulated_board_are_read_as_here(
    kind: str, photos: Path, tmp_path: Path, emulated_board: Any
) -> None:
    if kind == "clip":
        folder = dual_encoders.clip(tmp_path / "model")
    else:
        folder = pictures.checkpoint(tmp_path / "model", "Dinov2")
    target = replace(load_target("raspberry-pi-4"), seq_lens=(16,))
    bundle = edgeopt.compile(
        folder, target, output=tmp_path / "pi.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    few = tmp_path / "few"
    for path in sorted(photos.glob("*/00[0-2].ppm")):
        # As PNG, which is decoded here: what is sent are the pixels.
        (few / path.parent.name).mkdir(parents=True, exist_ok=True)
        image = pillow.fromarray(read_image(path))
        image.save(few / path.parent.name / f"{path.stem}.png")
    here = edgeopt.evaluate_bundle(bundle, few, original=folder)
    there = edgeopt.evaluate_bundle(bundle, few, original=folder, board=emulated_board.name)
    assert (there.board, there.emulated, there.not_run) == (emulated_board.name, True, ())
    assert values(there) == values(here)
    assert [m.got for m in there.artifacts[0].worst] == [m.got for m in here.artifacts[0].worst]
    files = sorted(few.glob("*/*.png"))
    if kind == "clip":
        both = [
            edgeopt.compare(bundle, files, ["a", "b"], board=b) for b in (None, emulated_board.name)
        ]
        for one, other in zip(both[0].matches, both[1].matches, strict=True):
            assert [m.text for m in one] == [m.text for m in other]
            assert [m.score for m in one] == pytest.approx([m.score for m in other], abs=1e-4)
    else:
        seen = [edgeopt.read_images(bundle, files, board=b) for b in (None, emulated_board.name)]
        for one, other in zip(seen[0].results, seen[1].results, strict=True):
            assert [i.label for i in one.items] == [i.label for i in other.items]
            assert [i.score for i in one.items] == pytest.approx(
                [i.score for i in other.items], abs=1e-5
            )
