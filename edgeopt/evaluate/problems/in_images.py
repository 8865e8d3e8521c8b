# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows of images as problems: objects with their boxes, or a mask of labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from edgeopt.errors import InputError
from edgeopt.evaluate.problems.asked import Asked, indexing, some
from edgeopt.evaluate.problems.class_maps import ClassMaps
from edgeopt.evaluate.problems.objects import Object, Objects
from edgeopt.evaluate.problems.problem import Subject
from edgeopt.evaluate.rows import pictures
from edgeopt.evaluate.rows.row import Row, Rows
from edgeopt.extras import require
from edgeopt.model.images import sides

OBJECTS = ("objects", "annotations")
_BOX, _AREA, _CROWD = "bbox", "area", "iscrowd"
_CATEGORIES = ("category", "categories", "category_id", "label", "labels")
MASKS = ("mask", "annotation", "label", "segmentation_map", "mask_file_name")
"""Columns that are found by convention, the first one that there is."""


def objects(rows: Rows, subject: Subject, asked: Asked) -> Objects:
    """Return images whose objects are to be found.

    ``objects`` of a row are a list, or as ``datasets`` has it an object of lists: ``bbox`` (x and y
    of the upper left corner, width, height, in pixels), and ``category``. Raises InputError, with
    the row, where they are not, and MissingDependencyError without pycocotools.
    """
    require("pycocotools.cocoeval", "detection")
    rows = some(pictures.resolved(rows), asked.limit)
    column = rows.column(asked.columns.label, OBJECTS, "objects", "--label")
    index = indexing(rows, column, subject, asked)
    found = []
    for row in rows.rows:
        own = []
        for one, where in _each(row, column):
            key = next((name for name in _CATEGORIES if name in one), "")
            if not key:
                raise InputError(f"has no label (looked for {', '.join(_CATEGORIES)})", where=where)
            own.append(_object(one, subject.labels[index(one[key], where)], where))
        found.append(tuple(own))
    if not any(found):
        raise InputError(f"has no objects in its {len(found)} images", where=str(rows.path))
    return Objects(
        inputs=tuple(row.values[pictures.IMAGE] for row in rows.rows),
        places=tuple(row.where for row in rows.rows),
        expected=tuple(found),
    )


def _each(row: Row, column: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the objects of a row, each with its place."""
    found = row.values.get(column)
    if isinstance(found, dict):
        lists = {key: value for key, value in found.items() if isinstance(value, list | tuple)}
        counts = {len(value) for value in lists.values()}
        if not lists or len(counts) > 1:
            raise InputError(
                f"expected lists of one length in {column!r}, found {found!r:.80}", where=row.where
            )
        found = [
            dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)
        ]
    if not isinstance(found, list | tuple):
        raise InputError(
            f"expected a list of objects in {column!r}, found {found!r:.80}", where=row.where
        )
    for number, one in enumerate(found, 1):
        where = one.get("where", "") if isinstance(one, dict) else ""
        where = where or f"{row.where}: object {number}"
        if not isinstance(one, dict):
            raise InputError(
                f"expected an object with bbox and category, found {one!r:.80}", where=where
            )
        yield one, where


def _object(one: dict[str, Any], label: str, where: str) -> Object:
    box = one.get(_BOX)
    values = [float(v) for v in box if _is_number(v)] if isinstance(box, list | tuple) else []
    if len(values) != 4 or len(values) != len(box or ()) or values[2] < 0 or values[3] < 0:
        raise InputError(
            f'expected "bbox" with x, y, width and height, found {box!r:.80}', where=where
        )
    x, y, width, height = values
    area = one.get(_AREA, width * height)
    if not _is_number(area) or area < 0:
        raise InputError(f'expected "area" with a number, found {area!r:.40}', where=where)
    crowd = one.get(_CROWD, 0)
    if crowd not in (0, 1):
        raise InputError(f'expected "iscrowd" with 0 or 1, found {crowd!r:.40}', where=where)
    return Object(label=label, box=(x, y, width, height), area=float(area), crowd=bool(crowd))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def class_maps(rows: Rows, subject: Subject, asked: Asked) -> ClassMaps:
    """Return images whose pixels have a label each, in masks of the same size.

    Raises InputError, with the row, for a mask that is none, or of another size than its image.
    """
    if asked.labels:
        raise InputError("masks hold numbers, not names", where="labels")
    rows = some(pictures.resolved(rows), asked.limit)
    column = rows.column(asked.columns.label, MASKS, "masks", "--label")
    found = []
    for row in rows.rows:
        image, mask = row.values[pictures.IMAGE], pictures.file_of(row, column, rows)
        if sides(image) != sides(mask, is_mask=True):
            shapes = [" x ".join(map(str, sides(path))) for path in (mask, image)]
            raise InputError(
                f"has a mask of {shapes[0]} pixels, and its image has {shapes[1]}", where=row.where
            )
        found.append((image, mask))
    most = Counter(image for image, _ in found).most_common(1)
    if most[0][1] > 1:
        raise InputError("is there twice", where=str(most[0][0]))
    return ClassMaps(
        inputs=tuple(image for image, _ in found),
        places=tuple(row.where for row in rows.rows),
        masks=tuple(mask for _, mask in found),
        classes=subject.labels,
        reduced=asked.reduce_labels,
    ).check()
