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
WHOLE = "processor_config.json"
"""What transformers 5 saves of a processor of texts and images; ``FILE`` is a part of it then."""

NEAREST, BILINEAR, BICUBIC = 0, 2, 3
RESAMPLE = {NEAREST: "nearest", BILINEAR: "bilinear", BICUBIC: "bicubic"}
"""Pillow's numbers of the ways to resize that edgeopt has, on the host and in its runtime."""

CHANNELS = 3
MAX_SIDE = 4096
"""The largest height and width that a network may take, as in the runtime (``image/image.h``)."""

Side = Annotated[int, Range(1, MAX_SIDE, "pixels")]

_HALF = (0.5, 0.5, 0.5)
_ZEROS, _ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Assumed:
    """What an image processor of transformers assumes if the file does not say.

    ``size`` is what it resizes to, ``crop`` what is cut out of it, None for nothing. If ``keeps``,
    one number for a size is the shorter side, and the shape stays. ``percent`` says that there is
    ``crop_pct`` in the place of a crop. ``size`` is 0 for a detector's, which fits an image between
    a shortest and a longest edge unless the file names height and width.
    """

    size: int = 224
    crop: int | None = None
    resample: int = BICUBIC
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF
    keeps: bool = False
    percent: bool = False
    normalize: bool = True


_DETECTOR = _Assumed(size=0, resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1])
_KINDS = {
    "Beit": _Assumed(),
    "Bit": _Assumed(crop=224, mean=_CLIP[0], std=_CLIP[1], keeps=True),
    "Blip": _Assumed(size=384, mean=_CLIP[0], std=_CLIP[1]),
    "ChineseCLIP": _Assumed(crop=224, mean=_CLIP[0], std=_CLIP[1], keeps=True),
    "CLIP": _Assumed(crop=224, mean=_CLIP[0], std=_CLIP[1], keeps=True),
    "ConditionalDetr": _DETECTOR,
    "ConvNext": _Assumed(size=384, keeps=True, percent=True),
    "DPT": _Assumed(size=384),
    "DeformableDetr": _DETECTOR,
    "DeiT": _Assumed(size=256, crop=224),
    "Detr": _DETECTOR,
    "MobileNetV2": _Assumed(size=256, crop=224, resample=BILINEAR, keeps=True),
    "Pvt": _Assumed(mean=_IMAGENET[0], std=_IMAGENET[1]),
    "RTDetr": _Assumed(
        size=640, resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1], normalize=False
    ),
    "Segformer": _Assumed(size=512, resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1]),
    "Siglip": _Assumed(),
    "ViT": _Assumed(resample=BILINEAR),
    "Yolos": _DETECTOR,
}
"""The image processors that are done here, by the beginning of their names in transformers."""

_SOFTMAX = ("Detr", "Yolos")
_SIGMOID = ("ConditionalDetr", "DeformableDetr", "RTDetr")
"""The processors of detectors, by what their post_process_object_detection makes scores with."""

_CROPPED = 224 / 256  # ConvNext's crop_pct; from a side of 384 on nothing is cut out
_WARPED_FROM = 384
_TYPE = re.compile(rf"({'|'.join(_KINDS)})(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
_OF_LABELS = ("do_reduce_labels", "do_convert_annotations")
"""Steps that are taken with what an image is labelled with, in training, and not with images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """The way from 8-bit RGB of any size to float32 (1, 3, height, width).

    The image is resized to (``resize_height``, ``resize_width``) by ``resample`` (``RESAMPLE``) as
    Pillow does it; if ``keep_shape``, these two are the same and that of the shorter side, and the
    longer one is in proportion. ``height`` x ``width`` are cut out of its centre; a value becomes
    (value * ``rescale_factor`` - ``mean``) / ``std`` of its channel.
    """

    height: Side
    width: Side
    resize_height: Side
    resize_width: Side
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: Annotated[float, Range(0, 1e30)]
    keep_shape: bool = False

    kind: ClassVar[str] = "image"

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that an image of these becomes before it is cut."""
        if not self.keep_shape:
            return self.resize_height, self.resize_width
        short, long = sorted((height, width))
        longer = int(self.resize_height * long / short)  # as transformers rounds it
        return (self.resize_height, longer) if height <= width else (longer, self.resize_height)


def read_spec(folder: Path, model_type: str = "") -> ImageInput:
    """Return what ``preprocessor_config.json`` in ``folder`` asks for, or processor_config.json.

    ``model_type`` is the network's, which tells the processor if the file names none. Keys that
    it leaves out are what transformers' class of that name assumes. Raises InputError,
    with the file and the key, for a processor or a step that edgeopt does not do the same way.
    """
    table = _read(folder)
    assumed = _KINDS[_kind(table, model_type)]
    detects = _kind(table, model_type) in (*_SOFTMAX, *_SIGMOID)
    ours = (*_STEPS, *_OF_LABELS, *(("do_pad",) if detects else ()))
    for name, value in table.data.items():
        if name.startswith("do_") and name not in ours and value:
            raise table.wrong(
                name,
                f"a step that edgeopt does not do, expected no others than {', '.join(_STEPS)}",
            )
    if detects:
        _check_fixed(table, assumed)
    if not _flag(table, "do_resize", True):
        raise table.wrong("do_resize", "expected true, since images of any size come in")
    resize, keeps = _size(table, "size", assumed.size, keeps=assumed.keeps)
    cut = resize
    if assumed.percent:
        resize, keeps = _uncropped(table, resize)
    elif _flag(table, "do_center_crop", assumed.crop is not None):
        cut, _ = _size(table, "crop_size", assumed.crop, keeps=False)
        if cut[0] > resize[0] or cut[1] > resize[1]:
            raise table.wrong(
                "crop_size",
                f"{cut[0]} x {cut[1]} does not fit into the size {resize[0]} x {resize[1]}",
            )
    elif keeps:
        raise table.wrong(
            "do_center_crop",
            "expected true: with the shape kept, images of one size have to be cut out",
        )
    _check_multiple(table, resize)
    rescale = _flag(table, "do_rescale", True)
    normalize = _flag(table, "do_normalize", assumed.normalize)
    spec = ImageInput(
        height=cut[0],
        width=cut[1],
        resize_height=resize[0],
        resize_width=resize[1],
        resample=table.integer("resample", assumed.resample, low=0),
        mean=(_channels(table, "image_mean", assumed.mean, -1e3, 1e3) if normalize else _ZEROS),
        std=_channels(table, "image_std", assumed.std, 1e-6, 1e3) if normalize else _ONES,
        rescale_factor=(
            table.number("rescale_factor", 1 / 255, low=1e-6, high=1e3) if rescale else 1.0
        ),
        keep_shape=keeps,
    )
    if spec.resample not in RESAMPLE:
        raise table.wrong(
            "resample",
            f"expected {', '.join(f'{n} ({name})' for n, name in RESAMPLE.items())}, "
            f"found {spec.resample}",
        )
    return spec


def scores_of_boxes(folder: Path, model_type: str = "") -> str:
    """Return what makes scores of a detector's logits, softmax or sigmoid.

    It goes by the processor, as transformers' pipeline does. Raises InputError for one that finds
    no boxes.
    """
    table = _read(folder)
    kind = _kind(table, model_type)
    if kind not in (*_SOFTMAX, *_SIGMOID):
        raise table.wrong(
            "image_processor_type",
            f"{kind}ImageProcessor makes no boxes of a network's outputs, expected one of "
            + ", ".join(f"{name}ImageProcessor" for name in (*_SOFTMAX, *_SIGMOID)),
        )
    return "softmax" if kind in _SOFTMAX else "sigmoid"


def _check_fixed(table: Table, assumed: _Assumed) -> None:
    """Raise InputError unless a detector's processor makes images of one size.

    An artifact has one, and no mask of what was padded.
    """
    advice = (
        "each image gets a shape of its own, and an artifact takes one. Write "
        '"size": {"height": H, "width": W} there (transformers reads it as well), and no '
        "'max_size' or 'pad_size'; boxes are still those of the whole image"
    )
    size = table.data.get("size")
    fixed = isinstance(size, dict) and set(size) == {"height", "width"}
    if not fixed and not (size is None and assumed.size):
        shown = ", ".join(map(repr, size)) if isinstance(size, dict) else f"{size or 'default'}"
        raise table.wrong("size", f"with {shown} {advice}")
    if (padded := table.data.get("pad_size")) is not None and padded != size:
        raise table.wrong("pad_size", f"with {padded} {advice}")


def _check_multiple(table: Table, size: tuple[int, int]) -> None:
    """Raise InputError if DPT's processor keeps the shape, or rounds the size."""
    if _flag(table, "keep_aspect_ratio", False):
        raise table.wrong(
            "keep_aspect_ratio",
            "expected false: with the shape kept, each image gets a size of its own",
        )
    multiple = table.integer("ensure_multiple_of", 1)
    if any(side % multiple for side in size):
        raise table.wrong(
            "ensure_multiple_of",
            f"the size {size[0]} x {size[1]} is no multiple of {multiple}, expected one",
        )


def _read(folder: Path) -> Table:
    path = folder / FILE
    whole = folder / WHOLE
    if not path.is_file() and whole.is_file():
        found = _json(whole)
        if isinstance(found, dict) and isinstance(found.get("image_processor"), dict):
            return _table(found["image_processor"], whole)
    try:
        document = _json(path)
    except FileNotFoundError as exc:
        raise InputError(
            f"has no {FILE}, which says how images are prepared",
            where=str(folder),
            hint="Save it there with transformers' AutoImageProcessor.save_pretrained().",
        ) from exc
    return _table(document, path)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc


def _table(document: Any, path: Path) -> Table:
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
            f"{name!r} prepares images in a way that edgeopt does not know, expected one of "
            + ", ".join(f"{kind}ImageProcessor" for kind in _KINDS),
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


def _size(
    table: Table, name: str, default: int | None, *, keeps: bool
) -> tuple[tuple[int, int], bool]:
    """Return (height, width), and whether they stand for the shorter side of a shape that stays.

    The file has ``{"height", "width"}``, ``{"shortest_edge"}``, or one number, which is both sides
    or, if the processor ``keeps`` the shape, the shorter one.
    """
    value = table.data.get(name, default)
    if not isinstance(value, dict):
        side = table.integer(name, default, high=MAX_SIDE)
        if side is None:
            raise table.wrong(name, "is missing, expected height and width")
        return (side, side), keeps
    sides = table.table(name)
    if set(value) == {"shortest_edge"} and name == "size":
        side = sides.integer("shortest_edge", high=MAX_SIDE)
        return (side, side), True
    if set(value) != {"height", "width"}:
        raise table.wrong(
            name,
            f"resizing by {', '.join(map(repr, value)) or 'nothing'} is not one that edgeopt does, "
            "expected 'height' and 'width', or 'shortest_edge'",
        )
    height, width = (sides.integer(side, high=MAX_SIDE) for side in ("height", "width"))
    return (height, width), False


def _uncropped(table: Table, cut: tuple[int, int]) -> tuple[tuple[int, int], bool]:
    """Return the size of which ``cut``, a square, is the middle, and whether the shape stays."""
    if cut[0] != cut[1]:
        raise table.wrong("size", "expected 'shortest_edge'")
    share = table.number("crop_pct", _CROPPED, low=0.01, high=1.0)
    if cut[0] >= _WARPED_FROM:
        return cut, False
    side = int(cut[0] / share)
    return (side, side), True


def _channels(
    table: Table, name: str, default: tuple[float, ...], low: float, high: float
) -> tuple[float, ...]:
    """Return the three numbers of ``name``; if absent what the processor assumes."""
    if name in table and isinstance(table.data[name], int | float):
        return (table.number(name, low=low, high=high),) * CHANNELS
    values = table.array(name, float, default)
    if len(values) != CHANNELS or not all(low <= value <= high for value in values):
        raise table.wrong(
            name, f"expected {CHANNELS} numbers from {low:g} to {high:g}, found {list(values)}"
        )
    return values


def check(image: ImageInput, config: Any, where: str) -> None:
    """Raise InputError if a network of ``config`` takes other channels than ``image`` makes."""
    found = getattr(_vision(config), "num_channels", CHANNELS)
    if found != CHANNELS:
        raise InputError(
            f"config.json's num_channels is {found}, but images have {CHANNELS}", where=where
        )


def other_size(image: ImageInput, config: Any) -> str:
    """Say how the sizes of ``image`` and of the network of ``config`` differ, "" if they do not."""
    size = getattr(_vision(config), "image_size", None)
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if not sides or sides == (image.height, image.width):
        return ""
    return (
        f"{FILE} makes images of {image.height} x {image.width}, but config.json's image_size is "
        f"{size}"
    )


def _vision(config: Any) -> Any:
    """Return the configuration of the part that sees."""
    return getattr(config, "vision_config", config)
