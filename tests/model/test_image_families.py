# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Families of image classifiers: from a file of any size to scores as transformers' pipeline has.

Each is a small network with random weights, saved with the image processor of its kind. Scores
are compared on images whose shapes are not the network's.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.model import images, reference
from edgeopt.model.image import ImageInput
from edgeopt.model.images import make_images
from edgeopt.model.importer import import_model
from edgeopt.model.original import open_original
from edgeopt.pipeline import compile
from edgeopt.quiet import quiet

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytestmark = pytest.mark.heavy

SIDE = 32
BOTH = {"size": {"height": SIDE, "width": SIDE}}
CUT = {"size": {"shortest_edge": 38}, "crop_size": {"height": SIDE, "width": SIDE}}
SHORT = {"size": {"shortest_edge": SIDE}}
LAYERS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "patch_size": 8,
}
PLAIN = LAYERS | {"image_size": SIDE, "initializer_range": 0.3}
LARGER = PLAIN | {"image_size": 48}  # than what the processor makes: positions are interpolated
TOWERS = {
    "text_config": LAYERS | {"vocab_size": 99},
    "vision_config": LAYERS | {"image_size": SIDE},
}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "initializer_range": 0.3}
PYRAMID = STAGES | {"num_encoder_blocks": 2, "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}
WINDOWS = {
    "image_size": SIDE,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "initializer_range": 0.3,
}
HIERA = {
    "image_size": [SIDE, SIDE],
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "masked_unit_size": [4, 4],
    "query_stride": [2, 2],
    "num_query_pool": 1,
}
PVT = PYRAMID | {
    "image_size": SIDE,
    "sequence_reduction_ratios": [2, 1],
    "patch_sizes": [4, 2],
    "strides": [4, 2],
}
SEGFORMER = PYRAMID | {"sr_ratios": [2, 1], "patch_sizes": [7, 3], "strides": [4, 2]}
# With the usual .02 its 17 blocks leave 1e-28 of an image.
MOBILE = {"image_size": SIDE, "depth_multiplier": 0.25, "initializer_range": 0.25}

FAMILIES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("ViT", PLAIN, "ViT", BOTH),
    ("ViTMSN", PLAIN, "ViT", BOTH),
    ("IJepa", PLAIN, "ViT", BOTH),
    ("Swin", WINDOWS, "ViT", BOTH),
    ("Swinv2", WINDOWS, "ViT", BOTH),
    ("Dinov2", LARGER, "Bit", CUT),
    ("Dinov2WithRegisters", LARGER, "Bit", CUT),
    ("Hiera", HIERA, "Bit", CUT),
    ("Siglip", TOWERS, "Siglip", BOTH),
    ("CLIP", TOWERS, "CLIP", CUT),
    ("Beit", PLAIN, "Beit", BOTH),
    ("Data2VecVision", PLAIN, "Beit", BOTH | {"do_center_crop": True, "crop_size": SIDE}),
    ("ConvNext", STAGES | {"num_stages": 2}, "ConvNext", SHORT),
    ("ConvNextV2", STAGES | {"num_stages": 2}, "ConvNext", SHORT),
    ("ResNet", {"embedding_size": 8, **STAGES}, "ConvNext", SHORT),
    ("Pvt", PVT, "Pvt", BOTH),
    ("Segformer", SEGFORMER, "Segformer", BOTH),
    ("MobileNetV2", MOBILE, "MobileNetV2", CUT),
]


def write(
    folder: Path,
    family: str,
    settings: dict[str, Any],
    kind: str,
    size: Any,
) -> Path:
    import torch

    with quiet():
        config = getattr(transformers, f"{family}Config")(num_labels=3, **settings)
        config.id2label = dict(enumerate("abc"))
        torch.manual_seed(0)
        getattr(transformers, f"{family}ForImageClassification")(config).save_pretrained(folder)
        getattr(transformers, f"{kind}ImageProcessorPil")(**size).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("family", "settings", "kind", "size"), FAMILIES, ids=lambda v: str(v)[:9])
def test_scores_are_those_of_the_pipeline(
    family: str, settings: dict[str, Any], kind: str, size: dict[str, Any], tmp_path: Path
) -> None:
    model = import_model(write(tmp_path / "model", family, settings, kind, size))
    assert isinstance(model.input, ImageInput)
    assert model.input.keep_shape == (size in (CUT, SHORT))
    tool = open_original(model)
    assert not isinstance(tool, str)
    given = make_images(5)
    assert len({image.shape for image in given}) > 1
    (output,) = model.main.signature.outputs
    for image, call in zip(given, images.calls(given, model.input, "pixel_values"), strict=True):
        (found,) = (outputs[output.name][0] for outputs in reference.run(model, [call]))
        scores = np.exp(found - found.max())
        wanted = tool.answer(image)
        assert wanted is not None
        np.testing.assert_allclose(scores / scores.sum(), wanted.scores, atol=1e-5)


def test_a_configuration_without_labels_is_refused(tmp_path: Path) -> None:
    """As PvtConfig(num_labels=3) is saved: pipeline() ends in a TypeError there."""
    folder = tmp_path / "model"
    with quiet():
        config = transformers.PvtConfig(num_labels=3, **PVT)
        transformers.PvtForImageClassification(config).save_pretrained(folder)
        transformers.PvtImageProcessorPil(**BOTH).save_pretrained(folder)
    with pytest.raises(InputError, match=r"config\.json's id2label names no labels"):
        import_model(folder)


@pytest.mark.parametrize("family", ["Dinov2", "CLIP"])
def test_every_engine_answers_as_the_pipeline(family: str, tmp_path: Path) -> None:
    """In the C runtime, on images of several shapes of which the middle is cut out."""
    for module in ("onnxruntime", "litert_torch", "openvino", "tvm"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    (chosen,) = (row for row in FAMILIES if row[0] == family)
    folder = write(tmp_path / "model", *chosen)
    made = compile(folder, "host", output=tmp_path / "b.edgeopt", precisions=["fp32"])
    assert made.manifest.skipped == ()
    assert made.manifest.original.endswith('pipeline("image-classification")')
    found = {a.engine: a.judged for a in made.manifest.artifacts}
    assert sorted(found) == ["onnx", "openvino", "tflite", "tvm"]
    for engine, judged in found.items():
        assert judged is not None
        assert (judged["samples"], judged["error"] < 1e-5) == (16, True), engine


def test_half_precision_answers_as_the_pipeline(tmp_path: Path) -> None:
    """In the C runtime, as it is built for a board whose cores compute in it."""
    for module in ("litert_torch", "openvino"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    (chosen,) = (row for row in FAMILIES if row[0] == "Dinov2")
    made = compile(
        write(tmp_path / "model", *chosen),
        "raspberry-pi-5",
        output=tmp_path / "b.edgeopt",
        engines=["tflite", "openvino"],
        precisions=["fp16"],
    )
    assert made.manifest.skipped == ()
    found = {a.engine: a.judged for a in made.manifest.artifacts}
    assert sorted(found) == ["openvino", "tflite"]
    for engine, judged in found.items():
        assert judged is not None
        assert (judged["samples"], judged["error"] < 0.01) == (16, True), (engine, judged)
