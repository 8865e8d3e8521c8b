# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Images to check and calibrate on, and how they become a model's input.

If the user gives none, they are made here: colour ramps, discs and bars, stripes and noise at
many scales, mixed and seeded. They look like nothing in particular, and so what a model makes of
them says how near an artifact is to the original, not how good either is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.errors import InputError, MissingDependencyError
from edgeopt.model.image import CHANNELS, ImageInput
from edgeopt.model.resample import resize

_SEED = 0
_MADE_SIDES = (48, 320)  # smaller and larger than what networks take, so that both ways are run
MAX_PIXELS = 1 << 26
"""Of a user's image; larger ones are some mistake."""

_OTHERS = (".png", ".jpg", ".jpeg")
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16")  # as Pillow calls them

Image = np.ndarray
"""(height, width, 3) uint8, RGB."""


def make_images(count: int) -> tuple[Image, ...]:
    """Return ``count`` images of several sizes, the same ones every time."""
    generator = np.random.default_rng(_SEED)
    return tuple(_make(generator) for _ in range(count))


def _make(generator: np.random.Generator) -> Image:
    height, width = (int(n) for n in generator.integers(*_MADE_SIDES, 2))
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = _ramp(generator, x, y)
    for _ in range(generator.integers(1, 6)):
        part = (_disc, _bar, _stripes)[generator.integers(3)](generator, x, y)[..., None]
        shade = generator.integers(0, 256, CHANNELS)
        opacity = generator.uniform(0.3, 1.0)
        image = image * (1 - opacity * part) + shade * (opacity * part)
    image += _noise(generator, height, width) * generator.uniform(0, 60)
    return image.round().clip(0, 255).astype(np.uint8)


def _ramp(generator: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a colour that runs from one to another across the image, (h, w, 3)."""
    turn = generator.uniform(0, 2 * np.pi)
    along = (np.cos(turn) * x + np.sin(turn) * y)[..., None]
    first, last = generator.uniform(0, 255, (2, CHANNELS))
    return first + (last - first) * (along - along.min()) / max(np.ptp(along), 1e-9)


def _disc(generator: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cx, cy, radius = generator.uniform(0.1, 0.9, 3) * (1, 1, 0.4)
    return ((x - cx) ** 2 + (y - cy) ** 2 < radius**2).astype(float)


def _bar(generator: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    left, top, w, h = generator.uniform(0, 0.6, 4)
    return ((x >= left) & (x < left + w) & (y >= top) & (y < top + h)).astype(float)


def _stripes(generator: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    turn, waves = generator.uniform(0, np.pi), 2.0 ** generator.uniform(0, 6)
    return 0.5 + 0.5 * np.sin(2 * np.pi * waves * (np.cos(turn) * x + np.sin(turn) * y))


def _noise(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return noise whose grains are 1, 2, 4, ... 32 pixels wide, (h, w, 3)."""
    total = np.zeros((height, width, CHANNELS))
    for grain in (1, 2, 4, 8, 16, 32):
        coarse = generator.normal(size=(height // grain + 1, width // grain + 1, CHANNELS))
        grown = coarse.repeat(grain, 0).repeat(grain, 1)
        total += grown[:height, :width] * generator.uniform(0, 1)
    return total


def list_images(folder: Path, limit: int) -> tuple[Path, ...]:
    """Return at most ``limit`` image files of ``folder``, by name; other files are left alone.

    Raises InputError if there is none. They are read when they are used: a folder of
    photographs would not fit into memory.
    """
    kinds = (".ppm", *_OTHERS)
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in kinds and p.is_file())
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(folder)) from exc
    if not paths:
        raise InputError(
            f"has no images (looked for {', '.join(kinds)})",
            where=str(folder),
            hint="A folder is for a model of images; one of texts takes a file of texts.",
        )
    return tuple(paths[:limit])


def read_image(path: Path) -> Image:
    """Return the image in a binary PPM (P6, 8 bits a channel), PNG or JPEG file.

    Raises InputError if it is damaged, and MissingDependencyError for PNG and JPEG without
    Pillow.
    """
    if path.suffix.lower() in _OTHERS:
        return _read_with_pillow(path)
    try:
        return parse_ppm(path.read_bytes(), str(path))
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc


def read_mask(path: Path) -> np.ndarray:
    """Return the numbers of a picture's pixels, integers (height, width), as its file has them.

    A palette's colours are left alone. Raises InputError if it has colours of its own, or is
    damaged, and MissingDependencyError without Pillow.
    """
    with _opened(path) as opened:
        _check_mask(opened.mode, path)
        found = np.array(opened)
    return found.astype(np.uint8) if found.dtype == bool else found


def sides(path: Path, *, is_mask: bool = False) -> tuple[int, int]:
    """Return width and height of a picture, of which its header alone is read.

    Raises InputError if it is none, or no mask where it should be.
    """
    with _opened(path) as opened:
        if is_mask:
            _check_mask(opened.mode, path)
        return opened.width, opened.height


def _check_mask(mode: str, path: Path) -> None:
    if mode not in _ONE_CHANNEL:
        raise InputError(
            f"has pixels of kind {mode}, expected one number for each, the label",
            where=str(path),
            hint="Masks are PNG files of one channel, or with a palette.",
        )


def as_rgb(image: Image | Path | str) -> tuple[int, int, bytes]:
    """Return width, height and the RGB bytes of an image or a file, as the runtime takes them."""
    pixels = read_image(Path(image)) if isinstance(image, Path | str) else image
    return pixels.shape[1], pixels.shape[0], pixels.tobytes()


def parse_ppm(data: bytes, where: str) -> Image:
    """Return the image of a binary PPM's bytes. Raises InputError if they are not one."""
    if data[:2] != b"P6":
        raise InputError(f"is not a binary PPM: it begins with {data[:2]!r}, not P6", where=where)
    numbers, at = [], 2
    for name in ("width", "height", "maximum"):
        start = _skip(data, at)
        at = start
        while data[at : at + 1].isdigit() and at - start < 10:
            at += 1
        if start in (2, at) or not data[at : at + 1].isspace():
            raise InputError(f"has no {name} in its header", where=where)
        numbers.append(int(data[start:at]))
    width, height, maximum = numbers
    if maximum != 255:
        raise InputError(f"its maximum is {maximum}, expected 255: 8 bits a channel", where=where)
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"is {width} x {height}, expected 1 to {MAX_PIXELS} pixels", where=where)
    pixels = data[at + 1 : at + 1 + width * height * CHANNELS]
    if len(pixels) < width * height * CHANNELS:
        raise InputError(
            f"is cut short: {width} x {height} pixels take {width * height * CHANNELS} bytes, "
            f"found {len(pixels)}",
            where=where,
        )
    return np.frombuffer(pixels, np.uint8).reshape(height, width, CHANNELS)


def _skip(data: bytes, at: int) -> int:
    """Return where the next word of a PPM's header begins, behind white space and comments."""
    while data[at : at + 1].isspace() or data[at : at + 1] == b"#":
        if data[at : at + 1] == b"#":
            end = data.find(b"\n", at)
            at = len(data) if end < 0 else end
        at += 1
    return at


def _read_with_pillow(path: Path) -> Image:
    with _opened(path) as opened:
        return np.array(opened.convert("RGB"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file with Pillow. Raises InputError for what is wrong with it, in the block too."""
    try:
        from PIL import Image as Pillow
    except ImportError as exc:
        raise MissingDependencyError(
            f"{path.suffix} images are read with Pillow, which is not installed",
            where=str(path),
            hint="Install it with: pip install pillow; or give binary PPM files.",
        ) from exc
    try:
        with Pillow.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"is {opened.width} x {opened.height}, expected at most {MAX_PIXELS} pixels",
                    where=str(path),
                )
            yield opened
    # Pillow raises OSError, ValueError, SyntaxError and its own for what is wrong with a file.
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as exc:
        raise InputError(f"is not an image that Pillow reads ({exc})", where=str(path)) from exc


def prepare(image: Image, spec: ImageInput) -> np.ndarray:
    """Return the network's input, float32 (1, 3, height, width), as transformers makes it."""
    height, width = spec.resized(*image.shape[:2])
    resized = resize(image, height, width, spec.resample)
    top, left = (height - spec.height) // 2, (width - spec.width) // 2
    cut = resized[top : top + spec.height, left : left + spec.width]
    scaled = (cut.astype(np.float64) * spec.rescale_factor).astype(np.float32)
    even = (scaled - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.ascontiguousarray(even.transpose(2, 0, 1)[None])


def calls(
    images: Sequence[Image | Path], spec: ImageInput, name: str, *, channels_last: bool = False
) -> list[dict[str, np.ndarray]]:
    """Return one call per image: the input ``name``, float32 (1, 3, height, width).

    If the channels stand last it is (1, height, width, 3).
    """
    prepared = (
        prepare(read_image(image) if isinstance(image, Path) else image, spec) for image in images
    )
    order = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
    return [{name: np.ascontiguousarray(pixels.transpose(order))} for pixels in prepared]
