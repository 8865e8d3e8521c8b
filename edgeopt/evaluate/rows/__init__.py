# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The user's labelled data, of whatever file or folder: one format, or family of them, a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate.rows import arrow, coco, conll, delimited, folders, jsonl, masks, squad
from edgeopt.evaluate.rows.row import Row, Rows
from edgeopt.model import texts

_CONLL = (".conll", ".bio", ".iob", ".iob2", ".txt")
KINDS = (
    ".jsonl, .json, .csv, .tsv, .parquet, .conll, .bio, .iob or .txt; a folder of images, with "
    "masks or without, or one that datasets saved"
)


def read(path: Path) -> Rows:
    """Return the rows of ``path``; what it is goes by its name, and by what a folder holds.

    Raises InputError, with file and line, where something is wrong, or there is no row.
    """
    found = _read(path)
    if not found.rows:
        raise InputError("has no rows", where=str(path))
    return found


def _read(path: Path) -> Rows:
    if path.is_dir():
        if any((path / name).is_file() for name in (arrow.STATE, arrow.SPLITS)):
            return arrow.read_folder(path)
        if (table := folders.metadata(path)) is not None:
            return _read(table)
        if (annotations := coco.find(path)) is not None:
            return _read(annotations)
        if masks.is_there(path):
            return _made(path, masks.read(path), "images and masks")
        return _made(path, folders.read_images(path), "images by folder")
    if not path.exists():
        raise InputError("is not there", where=str(path))
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        return _made(path, jsonl.read_lines(path))
    if name.endswith(".json"):
        return _json(path)
    if name.endswith((".csv", ".tsv")):
        return delimited.read(path)
    if name.endswith(".parquet"):
        return arrow.read_parquet(path)
    if name.endswith(_CONLL):
        return _made(path, conll.read(path), "CoNLL")
    raise InputError(
        "is of no kind that is read", where=str(path), hint=f"Labelled data is {KINDS}."
    )


def _made(path: Path, rows: Iterable[Row], layout: str = "") -> Rows:
    return Rows(path=path, rows=tuple(rows), layout=layout)


def _json(path: Path) -> Rows:
    found = jsonl.load("\n".join(texts.lines(path)), str(path))
    if isinstance(found, dict) and "data" in found:
        return _made(path, squad.read(found, path), "SQuAD")
    if coco.is_coco(found):
        return _made(path, coco.read(found, path), "COCO")
    if isinstance(found, list):
        return _made(path, jsonl.read_list(found, path))
    raise InputError(
        'expected a list of objects, an object with "data", as SQuAD has, or one with "images", '
        '"annotations" and "categories", as COCO has',
        where=str(path),
    )
