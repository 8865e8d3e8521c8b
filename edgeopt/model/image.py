# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How an image becomes a network's input: what a checkpoint's preprocessor_config.json says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.fields import Table
from edgeopt.values import Range

FILE = "preprocessor_config.json"
NEAREST, BILINEAR, BICUBIC = 0, 2, 3
RESAMPLE = {NEAREST: "nearest", BILINEAR: "bilinear", BICUBIC: "bicubic"}
"""Pillow's numbers of the ways to resize that edgeopt has, on the host and in its runtime."""

CHANNELS = 3
MAX_SIDE = 4096
"""The largest height and width that a network may take, as in the runtime (``image/image.h``)."""

Side = Annotated[int, Range(1, MAX_SIDE, "pixels")]

# What transformers' image processors assume if the file does not say: the size to resize to,
# the size to cut out (None: nothing is), the resampling.
_ASSUMED: dict[str, tuple[int, int | None, int]] = {
    "ViT": (224, None, BILINEAR),
    "DeiT": (256, 224, BICUBIC),
}
_TYPE = re.compile(r"(ViT|DeiT)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """The way from 8-bit RGB of any size to float32 (1, 3, height, width).

    The image is resized to (``resize_height``, ``resize_width``), its shape not kept, by
    ``resample`` (``RESAMPLE``) as Pillow does it; ``height`` x ``width`` are cut out of its centre;
    a value becomes (value * ``rescale_factor`` - ``mean``) / ``std`` of its channel.
    """

    height: Side
    width: Side
    resize_height: Side
    resize_width: Side
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: Annotated[float, Range(0, 1e30)]

    kind: ClassVar[str] = "image"


def read_spec(folder: Path, model_type: str = "") -> ImageInput:
    """Return what ``preprocessor_config.json`` in ``folder`` asks for.

    ``model_type`` is the network's, which tells the processor if the file names none. Keys that
    it leaves out are what transformers' class of that name assumes. Raises InputError,
    with the file and the key, for a processor or a step that edgeopt does not do the same way.
    """
    table = _read(folder)
    kind = _kind(table, model_type)
    size, crop, resample = _ASSUMED[kind]
    for name, value in table.data.items():
        if name.startswith("do_") and name not in _STEPS and value:
            raise table.wrong(
                name,
                f"a step that edgeopt does not do, expected no others than {', '.join(_STEPS)}",
            )
    if not _flag(table, "do_resize", True):
        raise table.wrong("do_resize", "expected true, since images of any size come in")
    resize = _size(table, "size", size)
    cut = resize
    if _flag(table, "do_center_crop", crop is not None):
        cut = _size(table, "crop_size", crop)
        if cut[0] > resize[0] or cut[1] > resize[1]:
            raise table.wrong(
                "crop_size",
                f"{cut[0]} x {cut[1]} does not fit into the size {resize[0]} x {resize[1]}",
            )
    rescale = _flag(table, "do_rescale", True)
    normalize = _flag(table, "do_normalize", True)
    spec = ImageInput(
        height=cut[0],
        width=cut[1],
        resize_height=resize[0],
        resize_width=resize[1],
        resample=table.integer("resample", resample, low=0),
        mean=_channels(table, "image_mean", -1e3, 1e3) if normalize else (0.0,) * CHANNELS,
        std=_channels(table, "image_std", 1e-6, 1e3) if normalize else (1.0,) * CHANNELS,
        rescale_factor=(
            table.number("rescale_factor", 1 / 255, low=1e-6, high=1e3) if rescale else 1.0
        ),
    )
    if spec.resample not in RESAMPLE:
        raise table.wrong(
            "resample",
            f"expected {', '.join(f'{n} ({name})' for n, name in RESAMPLE.items())}, "
            f"found {spec.resample}",
        )
    return spec


def _read(folder: Path) -> Table:
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise InputError(
            f"has no {FILE}, which says how images are prepared",
            where=str(folder),
            hint="Save it there with transformers' AutoImageProcessor.save_pretrained().",
        ) from exc
    except (OSError, ValueError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc
    if not isinstance(document, dict):
        raise InputError("expected a JSON object", where=str(path))
    # transformers writes null for what is not set.
    return Table({k: v for k, v in document.items() if v is not None}, file=str(path))


def _kind(table: Table, model_type: str) -> str:
    old = "feature_extractor_type"  # until transformers 4.26
    key = old if old in table and "image_processor_type" not in table else "image_processor_type"
    name = table.text(key) if key in table or not model_type else _processor(model_type)
    found = _TYPE.fullmatch(name)
    if found is None:
        raise table.wrong(
            key,
            f"{name!r} prepares images in a way that edgeopt does not know, "
            "expected ViTImageProcessor or DeiTImageProcessor",
        )
    return found[1]


def _processor(model_type: str) -> str:
    """Return the processor that transformers takes for ``model_type``, "" if it knows none."""
    auto = require("transformers.models.auto.image_processing_auto", "torch")
    found = auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or ""
    if isinstance(found, dict):  # by what it computes with
        found = found.get("pil") or next(iter(found.values()))
    return str(found if isinstance(found, str) else found[0])


def _flag(table: Table, name: str, default: bool) -> bool:
    return table.get(name, bool, default)


def _size(table: Table, name: str, default: int | None) -> tuple[int, int]:
    """Return (height, width) of ``{"height", "width"}``, or of one number, which is both."""
    value = table.data.get(name, default)
    if not isinstance(value, dict):
        side = table.integer(name, default, high=MAX_SIDE)
        if side is None:
            raise table.wrong(name, "is missing, expected height and width")
        return side, side
    if set(value) != {"height", "width"}:
        raise table.wrong(
            name,
            f"resizing by {', '.join(map(repr, value)) or 'nothing'} is not one that edgeopt does, "
            "expected 'height' and 'width'",
        )
    sides = table.table(name)
    return sides.integer("height", high=MAX_SIDE), sides.integer("width", high=MAX_SIDE)


def _channels(table: Table, name: str, low: float, high: float) -> tuple[float, ...]:
    """Return the three numbers of ``name``; if absent 0.5 each, as transformers assumes."""
    if name in table and isinstance(table.data[name], int | float):
        return (table.number(name, low=low, high=high),) * CHANNELS
    values = table.array(name, float, (0.5,) * CHANNELS)
    if len(values) != CHANNELS or not all(low <= value <= high for value in values):
        raise table.wrong(
            name, f"expected {CHANNELS} numbers from {low:g} to {high:g}, found {list(values)}"
        )
    return values


def check(image: ImageInput, config: Any, where: str) -> None:
    """Raise InputError if a network of ``config`` does not take what ``image`` makes."""
    size = getattr(config, "image_size", None)
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if sides != (image.height, image.width):
        raise InputError(
            f"{FILE} makes images of {image.height} x {image.width}, but config.json's image_size "
            f"is {size}",
            where=where,
            hint="Give both the size that the network was trained on.",
        )
    if (channels := getattr(config, "num_channels", CHANNELS)) != CHANNELS:
        raise InputError(
            f"config.json's num_channels is {channels}, but images have {CHANNELS}", where=where
        )
