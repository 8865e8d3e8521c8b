# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones, detectors and segmentation networks: what is imported, and what is refused."""

from __future__ import annotations

import json
import re
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
from edgeopt.quiet import quiet
from tests import vision_networks

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytestmark = pytest.mark.heavy

LOADERS = {
    "Model": "AutoModel",
    "ForObjectDetection": "AutoModelForObjectDetection",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
}


def by_transformers(folder: Path, name: str, pixels: np.ndarray) -> Any:
    """Return what transformers' own class gives for an image, by its own processor."""
    import torch
    from PIL import Image

    loader = next(found for ending, found in LOADERS.items() if name.endswith(ending))
    with quiet():
        network = getattr(transformers, loader).from_pretrained(folder).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        given = processor(Image.fromarray(pixels), return_tensors="pt")
        with torch.inference_mode():
            return network(pixel_values=given["pixel_values"])


@pytest.mark.parametrize("name", vision_networks.NETWORKS)
def test_outputs_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = vision_networks.write(tmp_path / "model", name)
    model = import_model(folder)
    assert isinstance(model.input, ImageInput)
    (image,) = make_images(1)
    (got,) = reference.run(model, images.calls([image], model.input, "pixel_values"))
    wanted = by_transformers(folder, name, image)
    for output in model.main.signature.outputs:
        expected = wanted.get(output.name)
        if output.name == "image_embeds":
            pooled = wanted.get("pooler_output")
            hidden = wanted.last_hidden_state
            without = hidden.mean(1) if name == "IJepaModel" else hidden[:, 0]
            expected = without if pooled is None else pooled.flatten(1)
        assert got[output.name].shape == output.shape(batch=1)
        most = float(expected.abs().max())  # logits of random networks go to hundreds
        np.testing.assert_allclose(got[output.name], expected.numpy(), atol=1e-5 * max(10.0, most))
    assert model.labels == (vision_networks.LABELS if model.task.labelled else ())


def test_pools_over_grids_are_products_wherever_a_network_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UperNet keeps them in plain lists beside its modules; ONNX has no such pool."""
    import torch

    folder = vision_networks.write(tmp_path / "model", "UperNetForSemanticSegmentation")
    model = import_model(folder)
    (image,) = make_images(1)
    wanted = by_transformers(folder, "UperNetForSemanticSegmentation", image).logits.numpy()

    def refuse(*_: object) -> None:
        raise AssertionError("an adaptive pool ran")

    monkeypatch.setattr(torch.nn.functional, "adaptive_avg_pool2d", refuse)
    (got,) = reference.run(model, images.calls([image], model.input, "pixel_values"))
    np.testing.assert_allclose(got["logits"], wanted, atol=1e-5)


def test_the_tool_answers_for_each_task(tmp_path: Path) -> None:
    """A tool that cannot be opened, or refuses an image, would leave nothing to compare with."""
    image = make_images(1)[0]
    for name in ("SwinModel", "DetrForObjectDetection", "SegformerForSemanticSegmentation"):
        tool = open_original(import_model(vision_networks.write(tmp_path / name, name)))
        assert not isinstance(tool, str)
        answer = tool.answer(image)
        assert answer is not None
        if name == "SwinModel":
            assert answer.vector is not None
            assert answer.vector.shape == (32,)
        elif name == "DetrForObjectDetection":
            assert answer.objects is not None
            assert len(answer.objects) == 6
        else:
            assert answer.classes is not None
            assert answer.classes.shape == image.shape[:2]


def test_a_pooler_that_was_not_saved_is_not_made_up(tmp_path: Path) -> None:
    """transformers fills it at random, and says so in a warning."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = vision_networks.write(tmp_path / "model", "ViTModel")
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    model = import_model(folder)
    assert isinstance(model.input, ImageInput)
    (image,) = make_images(1)
    (call,) = images.calls([image], model.input, "pixel_values")
    with quiet():
        network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        first = network(torch.from_numpy(call["pixel_values"])).last_hidden_state[:, 0]
    (got,) = reference.run(model, [call])
    np.testing.assert_allclose(got["image_embeds"], first.numpy(), atol=1e-5)
    tool = open_original(model)
    assert not isinstance(tool, str)
    answer = tool.answer(image)
    assert answer is not None
    assert answer.vector is not None
    np.testing.assert_allclose(answer.vector, first[0].numpy(), atol=1e-5)


SIZES: list[tuple[dict[str, Any], str]] = [
    ({"size": {"shortest_edge": 32, "longest_edge": 48}}, "size: with 'shortest_edge', "),
    ({"size": None}, "size: with default each image gets a shape of its own"),
    ({"size": 32, "max_size": 48}, "size: with 32 each image"),
    ({"pad_size": {"height": 64, "width": 64}}, "pad_size: with {'height': 64, "),
]


@pytest.mark.parametrize(("changes", "message"), SIZES)
def test_a_detector_without_one_size_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = vision_networks.write(tmp_path / "model", "YolosForObjectDetection")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError) as caught:
        import_model(folder)
    assert message in str(caught.value)
    assert '"size": {"height": H, "width": W}' in str(caught.value)


def test_a_processor_of_another_detector_is_refused(tmp_path: Path) -> None:
    """Its scores would be of the sigmoid, and "nothing here" a label."""
    folder = vision_networks.write(tmp_path / "model", "DetrForObjectDetection")
    path = folder / "preprocessor_config.json"
    for kind, message in (
        ("DeformableDetr", "id2label names 3 labels, but the logits are for 4"),
        ("ViT", "ViTImageProcessor makes no boxes of a network's outputs"),
    ):
        saved = json.loads(path.read_text()) | {"image_processor_type": f"{kind}ImageProcessor"}
        saved["do_pad"] = False
        path.write_text(json.dumps(saved))
        with pytest.raises(InputError, match=re.escape(message)):
            import_model(folder)


def test_what_answers_at_random_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    settings = vision_networks.NETWORKS["ViTModel"][1]
    assert isinstance(settings, dict)
    with quiet():
        transformers.ViTMAEModel(transformers.ViTMAEConfig(**settings)).save_pretrained(folder)
        transformers.ViTImageProcessorPil(
            size={"height": vision_networks.SIDE, "width": vision_networks.SIDE}
        ).save_pretrained(folder)
    with pytest.raises(InputError, match="ViTMAEModel gives another answer each time"):
        import_model(folder)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("OwlViTForObjectDetection", "looks in an image for what a text says"),
        ("MaskFormerForInstanceSegmentation", "is not one that edgeopt takes"),
    ],
)
def test_other_tasks_on_images_are_refused_by_name(
    architecture: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(InputError, match=message) as caught:
        import_model(tmp_path)
    assert architecture in str(caught.value)
