# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of vision transformers."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.model import reference, samples
from edgeopt.model.image import ImageInput
from edgeopt.model.importer import import_model
from edgeopt.model.signature import NO_LENGTH
from edgeopt.quiet import quiet
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

ARCHITECTURES = [
    "ViTForImageClassification",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    import torch
    import transformers

    from edgeopt.model.encoder import Patches

    folder = checkpoints.write(tmp_path / "model", architecture)
    model = import_model(folder)
    assert model.task.name == "image-classification"
    assert model.labels == checkpoints.LABELS
    assert isinstance(model.input, ImageInput)
    assert model.pooling is None
    (given,) = model.main.signature.inputs
    assert (given.name, given.dtype) == ("pixel_values", "float32")
    assert given.dims == ("batch", 3, checkpoints.IMAGE_SIDE, checkpoints.IMAGE_SIDE)
    assert any(isinstance(part, Patches) for part in model.module.modules())
    with quiet():
        network = getattr(transformers, architecture).from_pretrained(folder).eval()
    calls = samples.calls(model, samples.shipped(model, 8), NO_LENGTH)
    for call, got in zip(calls, reference.run(model, calls), strict=True):
        with torch.inference_mode():
            expected = network(pixel_values=torch.from_numpy(call["pixel_values"])).logits
        assert got["logits"].shape == (1, len(checkpoints.LABELS))
        np.testing.assert_allclose(got["logits"], expected.numpy(), atol=1e-4)


def test_how_images_are_prepared_is_part_of_the_digest(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model", "ViTForImageClassification")
    before = import_model(folder).digest
    assert import_model(folder).digest == before
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(checkpoints.PREPARATIONS["vit"] | {"resample": 3}))
    assert import_model(folder).digest != before


def test_another_size_than_the_network_has_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model", "ViTForImageClassification")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(checkpoints.PREPARATIONS["vit"] | {"size": 64}))
    with pytest.raises(InputError, match=r"makes images of 64 x 64, but .* image_size is 32"):
        import_model(folder)


def test_a_convolution_whose_windows_overlap_stays_one(tmp_path: Path) -> None:
    from torch import nn

    from edgeopt.model.encoder import Patches

    assert Patches.fits(nn.Conv2d(3, 8, 4, stride=4))
    for other in (
        nn.Conv2d(3, 8, 4, stride=2),
        nn.Conv2d(3, 8, 4, stride=4, padding=1),
        nn.Conv2d(3, 6, 4, stride=4, groups=3),
        nn.Linear(3, 8),
    ):
        assert not Patches.fits(other)


def test_texts_for_a_model_of_images_are_refused(tmp_path: Path) -> None:
    model = import_model(checkpoints.write(tmp_path / "tiny", "ViTForImageClassification"))
    with pytest.raises(InputError) as caught:
        samples.check(model, ("a text",), "a.txt")
    assert str(caught.value) == (
        "a.txt: is a file of texts, but tiny is for image-classification and takes a folder of "
        "images"
    )
    samples.check(model, samples.shipped(model, 1), "shipped")
