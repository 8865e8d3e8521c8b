# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Parquet files, and folders that ``datasets`` wrote with ``save_to_disk``.

Both are read by pyarrow alone. What numbers stand for (``ClassLabel``) is in the table's metadata,
under "huggingface".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row, Rows
from edgeopt.extras import require

STATE, SPLITS = "state.json", "dataset_dict.json"
"""What a folder with one split has, and one with several, which are folders in it."""

_UNREAD = ("Image", "Audio", "Video", "Pdf")


def read_parquet(path: Path) -> Rows:
    """Return the rows of a Parquet file.

    Raises InputError if it is damaged, and MissingDependencyError without pyarrow.
    """
    parquet = require("pyarrow.parquet", "parquet")
    try:
        table = parquet.ParquetFile(path).read()
    # pyarrow raises OSError and ArrowInvalid, which is a ValueError.
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot be read as Parquet ({_first(exc)})", where=str(path)) from exc
    return _rows(table, path)


def read_folder(path: Path) -> Rows:
    """Return the rows of a folder that ``save_to_disk`` wrote.

    Raises InputError if it is damaged, or has several splits, and MissingDependencyError
    without pyarrow.
    """
    if (path / SPLITS).is_file():
        splits = _json(path / SPLITS).get("splits", [])
        raise InputError(
            f"has {len(splits)} splits",
            where=str(path),
            hint="Give one of them: " + ", ".join(str(path / str(name)) for name in splits),
        )
    pyarrow = require("pyarrow", "parquet")
    ipc = require("pyarrow.ipc", "parquet")
    try:
        names = [entry["filename"] for entry in _json(path / STATE)["_data_files"]]
    except (KeyError, TypeError) as exc:
        raise InputError("names no files of data", where=str(path / STATE)) from exc
    tables = []
    for name in names:
        if Path(name).name != name:
            raise InputError(f"names {name!r}, which is not in its folder", where=str(path / STATE))
        try:
            with pyarrow.OSFile(str(path / name)) as source:
                tables.append(ipc.open_stream(source).read_all())
        except (OSError, ValueError) as exc:
            raise InputError(f"cannot be read ({_first(exc)})", where=str(path / name)) from exc
    if not tables:
        raise InputError("has no rows", where=str(path))
    return _rows(pyarrow.concat_tables(tables), path)


def _first(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except ValueError as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc


def _rows(table: Any, path: Path) -> Rows:
    features = _features(table)
    pictures = [name for name, kind in features.items() if kind.get("_type") in _UNREAD]
    table = table.drop_columns([name for name in pictures if name in table.column_names])
    rows = tuple(
        Row(where=f"{path}: row {number}", values=values)
        for number, values in enumerate(table.to_pylist(), start=1)
    )
    return Rows(path=path, rows=rows, names=_names(features))


def _features(table: Any) -> dict[str, dict[str, Any]]:
    told = (table.schema.metadata or {}).get(b"huggingface")
    try:
        found = json.loads(told)["info"]["features"] if told else {}
    except (ValueError, KeyError, TypeError):
        found = {}
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)}


def _names(features: dict[str, dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return what numbers stand for, in a column or in lists in it."""
    found = {}
    for column, kind in features.items():
        inner = kind.get("feature")
        own = inner if isinstance(inner, dict) else kind
        if own.get("_type") == "ClassLabel" and isinstance(own.get("names"), list):
            found[column] = tuple(map(str, own["names"]))
    return found
