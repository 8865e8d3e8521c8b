# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""preprocessor_config.json: what it says, what transformers assumes, what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeopt.errors import InputError
from edgeopt.model.image import (
    _KINDS,
    BICUBIC,
    BILINEAR,
    FILE,
    ImageInput,
    check,
    other_size,
    read_spec,
)
from edgeopt.quiet import quiet
from tests.checkpoints import PREPARATIONS

VIT = {"image_processor_type": "ViTImageProcessor"}


def write(folder: Path, document: object) -> Path:
    (folder / FILE).write_text(json.dumps(document))
    return folder


def test_what_the_file_says_is_read(tmp_path: Path) -> None:
    assert read_spec(write(tmp_path, PREPARATIONS["vit"])) == ImageInput(
        height=32,
        width=32,
        resize_height=32,
        resize_width=32,
        resample=BILINEAR,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        rescale_factor=1 / 255,
    )


def test_a_file_of_an_older_transformers_with_a_crop(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, PREPARATIONS["deit"]))
    assert (spec.resize_height, spec.resize_width, spec.height, spec.width) == (38, 38, 32, 32)
    assert spec.resample == BICUBIC
    assert spec.mean == (0.485, 0.456, 0.406)


def test_what_is_left_out_is_as_transformers_assumes(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, VIT))
    assert (spec.resize_height, spec.height, spec.resample) == (224, 224, BILINEAR)
    spec = read_spec(write(tmp_path, {"image_processor_type": "DeiTImageProcessorFast"}))
    assert (spec.resize_height, spec.height, spec.resample) == (256, 224, BICUBIC)
    assert (spec.mean, spec.rescale_factor) == ((0.5, 0.5, 0.5), 1 / 255)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_what_transformers_saves_is_read(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    pytest.importorskip("PIL", reason="needs Pillow")
    with quiet():  # torchao, which transformers imports, warns
        # What a detector's takes by itself has no one size.
        size = {} if _KINDS[kind].size else {"size": {"height": 48, "width": 64}}
        getattr(transformers, f"{kind}ImageProcessorPil")(**size).save_pretrained(tmp_path)
    saved = read_spec(tmp_path)
    named = {"image_processor_type": f"{kind}ImageProcessor"}
    assert saved == read_spec(write(tmp_path, named | size))


def test_steps_that_are_off_leave_the_values_alone(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, VIT | {"do_rescale": False, "do_normalize": False}))
    assert (spec.mean, spec.std, spec.rescale_factor) == ((0.0,) * 3, (1.0,) * 3, 1.0)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"size": {"shortest_edge": 224}},
        "do_center_crop",
        "expected true: with the shape kept, images of one size have to be cut out",
    ),
    (
        {"size": {"height": 224, "width": 224, "longest_edge": 300}},
        "size",
        "resizing by 'height', 'width', 'longest_edge' is not one that edgeopt does, "
        "expected 'height' and 'width', or 'shortest_edge'",
    ),
    ({"size": {"height": 224, "width": 0}}, "size.width", "expected 1 to 4096, found 0"),
    ({"size": "224"}, "size", "expected an integer, found '224' (str)"),
    (
        {"image_processor_type": "DonutImageProcessor"},
        "image_processor_type",
        "'DonutImageProcessor' prepares images in a way that edgeopt does not know, expected one "
        "of BeitImageProcessor, BitImageProcessor, BlipImageProcessor, ChineseCLIPImageProcessor, "
        "CLIPImageProcessor, ConditionalDetrImageProcessor, ConvNextImageProcessor, "
        "DPTImageProcessor, DeformableDetrImageProcessor, DeiTImageProcessor, "
        "DetrImageProcessor, MobileNetV2ImageProcessor, PvtImageProcessor, RTDetrImageProcessor, "
        "SegformerImageProcessor, SiglipImageProcessor, ViTImageProcessor, YolosImageProcessor",
    ),
    (
        {"image_processor_type": None},
        "image_processor_type",
        "is missing, expected a string",
    ),
    (
        {"do_resize": False},
        "do_resize",
        "expected true, since images of any size come in",
    ),
    ({"do_normalize": 1}, "do_normalize", "expected true or false, found 1 (int)"),
    (
        {"do_pad": True},
        "do_pad",
        "a step that edgeopt does not do, expected no others than do_resize, do_center_crop, "
        "do_rescale, do_normalize, do_convert_rgb",
    ),
    (
        {"do_center_crop": True, "crop_size": 300},
        "crop_size",
        "300 x 300 does not fit into the size 224 x 224",
    ),
    ({"do_center_crop": True}, "crop_size", "is missing, expected height and width"),
    (
        {"resample": 1},
        "resample",
        "expected 0 (nearest), 2 (bilinear), 3 (bicubic), found 1",
    ),
    (
        {"image_mean": [0.5, 0.5]},
        "image_mean",
        "expected 3 numbers from -1000 to 1000, found [0.5, 0.5]",
    ),
    (
        {"image_std": [0.5, 0.5, 0]},
        "image_std",
        "expected 3 numbers from 1e-06 to 1000, found [0.5, 0.5, 0.0]",
    ),
    ({"rescale_factor": 0}, "rescale_factor", "expected 1e-06 to 1000.0, found 0.0"),
]


@pytest.mark.parametrize(("changes", "key", "message"), WRONG, ids=range(len(WRONG)))
def test_what_edgeopt_would_do_otherwise_is_refused(
    changes: dict[str, Any], key: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        read_spec(write(tmp_path, VIT | changes))
    assert caught.value.where == f"{tmp_path / FILE}: {key}"
    assert caught.value.message == message


def test_without_the_file_nothing_is_assumed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_spec(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: has no preprocessor_config.json, which says how images are prepared\n"
        "Save it there with transformers' AutoImageProcessor.save_pretrained()."
    )


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "expected a JSON obj")])
def test_a_damaged_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=message):
        read_spec(tmp_path)


def test_a_network_of_other_channels_is_refused(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, VIT))
    check(spec, SimpleNamespace(num_channels=3), "here")
    with pytest.raises(InputError, match=r"here: config.json's num_channels is 1, but images have"):
        check(spec, SimpleNamespace(num_channels=1), "here")


def test_another_size_than_the_network_s_is_told(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, VIT))
    assert other_size(spec, SimpleNamespace(image_size=224)) == ""
    assert other_size(spec, SimpleNamespace(image_size=[224, 224])) == ""
    inside = SimpleNamespace(vision_config=SimpleNamespace(image_size=384))
    assert other_size(spec, inside) == (
        "preprocessor_config.json makes images of 224 x 224, but config.json's image_size is 384"
    )


@pytest.mark.parametrize(
    ("document", "resize", "cut", "becomes"),
    [
        ({"size": {"shortest_edge": 256}, "crop_size": 224}, 256, 224, (256, 341)),
        ({"size": 256}, 256, 224, (256, 341)),
        ({"size": {"height": 256, "width": 256}}, 256, 224, (256, 256)),
    ],
)
def test_a_shorter_side_keeps_the_shape(
    document: dict[str, Any], resize: int, cut: int, becomes: tuple[int, int], tmp_path: Path
) -> None:
    spec = read_spec(write(tmp_path, {"image_processor_type": "BitImageProcessor"} | document))
    assert (spec.resize_height, spec.resize_width, spec.height) == (resize, resize, cut)
    assert spec.resized(480, 640) == becomes


def test_convnext_cuts_out_a_share_of_small_sizes(tmp_path: Path) -> None:
    kind = {"image_processor_type": "ConvNextImageProcessor"}
    spec = read_spec(write(tmp_path, kind | {"size": {"shortest_edge": 224}}))
    assert (spec.resize_height, spec.height, spec.keep_shape) == (256, 224, True)
    spec = read_spec(write(tmp_path, kind))
    assert (spec.resize_height, spec.height, spec.keep_shape) == (384, 384, False)
