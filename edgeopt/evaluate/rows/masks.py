# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of images and of masks, whose pixels are numbers of labels: as ADE20K is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row
from edgeopt.model import images

IMAGES, MASKS = "images", ("annotations", "masks", "labels", "mask", "annotation")
"""What the two folders are called; of masks the first one that there is."""

_PARTS = ("validation", "val", "test")
_MOST = 1 << 30


def is_there(folder: Path) -> bool:
    """Tell whether ``folder`` has a folder of images and one of masks."""
    masks = _masks(folder)
    return (folder / IMAGES).is_dir() and masks is not None and any(masks.rglob("*.png"))


def _masks(folder: Path) -> Path | None:
    return next((folder / name for name in MASKS if (folder / name).is_dir()), None)


def read(folder: Path) -> Iterator[Row]:
    """Yield a row for each image: image and mask, paths of files with one name.

    If images are in folders of a data set's parts, those of the validation set are taken. Raises
    InputError for an image without a mask.
    """
    masks = _masks(folder)
    assert masks is not None
    inside = _part(folder / IMAGES)
    masks = masks / inside.relative_to(folder / IMAGES)
    for path in images.list_images(inside, _MOST):
        mask = masks / f"{path.stem}.png"
        if not mask.is_file():
            raise InputError(f"has no mask: there is no {mask}", where=str(path))
        yield Row(where=str(path), values={"image": path, "mask": mask})


def _part(folder: Path) -> Path:
    parts = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not parts:
        return folder
    chosen = next((name for name in (*_PARTS, *parts) if name in parts), "")
    if chosen not in _PARTS and len(parts) > 1:
        raise InputError(
            f"has the folders {', '.join(parts)}, and none of {', '.join(_PARTS)}",
            where=str(folder),
            hint="Leave the one there that is meant.",
        )
    return folder / chosen
