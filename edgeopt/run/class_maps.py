# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Maps of labels as pictures: the value of a pixel is its label's number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeopt.errors import InputError, MissingDependencyError
from edgeopt.run.compare import Segmentation

_BYTE = 256


def write_maps(found: Segmentation, images: Sequence[str], folder: str | Path) -> tuple[Path, ...]:
    """Write the map of each image into ``folder``, as NAME.png, and return the files.

    They have 8 bits a pixel, or 16 if there are more than 256 labels. Raises InputError if two
    images have one name, if an image would be written over or the folder cannot be written, and
    MissingDependencyError without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as exc:
        raise MissingDependencyError(
            "maps are written with Pillow, which is not installed",
            hint="Install it with: pip install pillow",
        ) from exc
    names = [f"{Path(image).stem}.png" for image in images]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"two images would be written as {twice[0]}",
            where=str(folder),
            hint="Run them one after the other, with a folder each.",
        )
    for image, name in zip(images, names, strict=True):
        place = Path(folder) / name
        if place.exists() and place.samefile(image):
            raise InputError(
                f"its map would be written over the image {image}",
                where=str(folder),
                hint="Name another folder.",
            )
    kind = np.uint8 if len(found.labels) <= _BYTE else np.uint16
    paths = []
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, labels in zip(names, found.maps, strict=True):
            paths.append(Path(folder) / name)
            Image.fromarray(labels.astype(kind)).save(paths[-1])
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(folder)) from exc
    return tuple(paths)
