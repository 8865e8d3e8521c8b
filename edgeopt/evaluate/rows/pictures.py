# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows that name image files: where the files are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row, Rows

IMAGE = "image"
COLUMNS = (IMAGE, "file_name", "image_path", "filepath", "filename", "image_file", "path")
"""What columns of image files are called, the first one that there is; ``datasets`` has
``file_name`` in the metadata of its image folders."""


def named(rows: Rows) -> bool:
    """Tell whether ``rows`` have a column of images."""
    return any(rows.has(name) for name in COLUMNS)


def resolved(rows: Rows) -> Rows:
    """Return ``rows`` with a path in the column ``image``.

    A relative one counts from the table's folder. Raises InputError, with the row, for a file that
    is not there, and if there is no such column.
    """
    column = next((name for name in COLUMNS if rows.has(name)), None)
    if column is None:
        raise InputError(
            f"has no column of image files (looked for {', '.join(COLUMNS)})",
            where=str(rows.path),
            hint=f"It has: {', '.join(rows.columns)}. Or give a folder with images.",
        )
    folder = _folder(rows)
    return replace(rows, rows=tuple(_resolved(row, column, folder) for row in rows.rows))


def _resolved(row: Row, column: str, folder: Path) -> Row:
    return replace(row, values={**row.values, IMAGE: _file(row, column, folder)})


def file_of(row: Row, column: str, rows: Rows) -> Path:
    """Return the image file in ``column``. Raises InputError, with the row, if there is none."""
    return _file(row, column, _folder(rows))


def _folder(rows: Rows) -> Path:
    return rows.path if rows.path.is_dir() else rows.path.parent


def _file(row: Row, column: str, folder: Path) -> Path:
    found = row.values.get(column)
    if isinstance(found, Path):
        return found
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"expected an image file in {column!r}, found {found!r}", where=row.where)
    path = folder / found
    if not path.is_file():
        raise InputError(f"names the image {found!r}, and there is no {path}", where=row.where)
    return path
