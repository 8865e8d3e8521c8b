# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""COCO's layout: a JSON of images, annotations and categories, and a folder of the images.

The format is that of https://cocodataset.org/#format-data, as pycocotools reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row

_INSIDE = ("_annotations.coco.json", "annotations.json", "annotations.coco.json", "instances.json")
_FOLDER = "annotations"
_VALIDATION = "instances_val*.json"
_KEYS = ("images", "annotations", "categories")


def is_coco(found: Any) -> bool:
    """Tell whether what a file of JSON holds is laid out so."""
    return isinstance(found, dict) and set(_KEYS) <= set(found)


def find(folder: Path) -> Path | None:
    """Return the file of annotations that ``folder`` has; None if it has none.

    Of several in ``annotations`` it is that of the validation set. Raises InputError if there is
    not one of that.
    """
    for name in _INSIDE:
        if (folder / name).is_file():
            return folder / name
    inside = sorted((folder / _FOLDER).glob("*.json"))
    if len(inside) < 2:
        return inside[0] if inside else None
    chosen = sorted((folder / _FOLDER).glob(_VALIDATION))
    if len(chosen) == 1:
        return chosen[0]
    raise InputError(
        f"has {len(inside)} files of annotations: " + ", ".join(path.name for path in inside),
        where=str(folder / _FOLDER),
        hint=f"Name one of them, such as --data {inside[0]}",
    )


def read(found: dict[str, Any], path: Path) -> Iterator[Row]:
    """Yield a row for each image: image, a path, and objects, a list of what is in it.

    An object has ``bbox``, ``category`` (its name), ``area`` and ``iscrowd``. ``found`` is what the
    file ``path`` holds. Raises InputError, with the place, for what is not as COCO has it, and for
    an image that is not there.
    """
    names = {}
    for i, one in enumerate(_list(found, "categories", path)):
        where = f"{path}: categories[{i}]"
        names[_member(one, "id", int, where)] = _member(one, "name", str, where)
    objects: dict[int, list[dict[str, Any]]] = {}
    images = _list(found, "images", path)
    for i, one in enumerate(images):
        where = f"{path}: images[{i}]"
        key = _member(one, "id", int, where)
        if key in objects:
            raise InputError(f"has the id {key} of another image", where=where)
        objects[key] = []
    for i, one in enumerate(_list(found, "annotations", path)):
        where = f"{path}: annotations[{i}]"
        image, category = (_member(one, key, int, where) for key in ("image_id", "category_id"))
        for key, value, known in (
            ("image_id", image, objects),
            ("category_id", category, names),
        ):
            if value not in known:
                raise InputError(f"has the {key} {value}, and there is no such one", where=where)
        kept = {key: one[key] for key in ("bbox", "area", "iscrowd") if key in one}
        objects[image].append(kept | {"category": names[category], "where": where})
    places = _places(path)
    for i, one in enumerate(images):
        where = f"{path}: images[{i}]"
        name = _member(one, "file_name", str, where)
        file = next((place / name for place in places if (place / name).is_file()), None)
        if file is None:
            raise InputError(
                f"names the image {name!r}, which is in none of "
                + ", ".join(str(place) for place in places),
                where=where,
            )
        yield Row(where=where, values={"image": file, "objects": objects[one["id"]]})


def _places(path: Path) -> tuple[Path, ...]:
    """Return the folders that images may be in: beside the file, or as COCO's archives unpack.

    ``annotations/instances_val2017.json`` is of the images in ``val2017``.
    """
    part = path.stem.rpartition("_")[2]
    around = path.absolute().parent.parent
    inside = (path.parent, path.parent / "images", path.parent / part)
    return tuple(
        place
        for place in (*inside, around / part, around / "images" / part, around / "images", around)
        if place.is_dir()
    )


def _list(found: dict[str, Any], key: str, path: Path) -> list[Any]:
    value = found[key]
    if not isinstance(value, list):
        raise InputError(f'expected "{key}" to be a list', where=str(path))
    return value


def _member(found: Any, key: str, kind: type, where: str) -> Any:
    value = found.get(key) if isinstance(found, dict) else None
    if type(value) is not kind:
        what = "a whole number" if kind is int else "a text"
        raise InputError(f'expected "{key}" with {what}, found {value!r:.60}', where=where)
    return value
