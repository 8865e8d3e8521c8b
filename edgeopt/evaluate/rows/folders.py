# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders: images in a folder for each label; and a corpus with queries, as BEIR lays it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate.rows import delimited, jsonl
from edgeopt.evaluate.rows.row import Row, number, text
from edgeopt.model import images

_CORPUS, _QUERIES, _QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
_TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_MOST = 1 << 30


def read_images(folder: Path) -> Iterator[Row]:
    """Yield a row for each image: image, a path, and label, the name of the folder that it is in.

    Raises InputError if there are none.
    """
    try:
        labels = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(folder)) from exc
    if not labels:
        raise InputError(
            "has no folders",
            where=str(folder),
            hint="Put the images of each label into a folder that has the label's name.",
        )
    for label in labels:
        for path in images.list_images(label, _MOST):
            yield Row(where=str(path), values={"image": path, "label": label.name})


def is_flat(folder: Path) -> bool:
    """Tell whether ``folder`` has files alone: no folder in it, and no table of its files."""
    return metadata(folder) is None and not any(path.is_dir() for path in folder.iterdir())


def metadata(folder: Path) -> Path | None:
    """Return the table of a folder's files, as ``datasets`` reads it; None if there is none."""
    return next((path for name in _TABLES if (path := folder / name).is_file()), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents and queries, by their names, and the gain of documents for a query."""

    documents: dict[str, Row]
    queries: dict[str, Row]
    gains: dict[str, dict[str, float]]


def is_corpus(path: Path) -> bool:
    """Tell whether ``path`` is a folder with a corpus and queries."""
    return path.is_dir() and all(_file(path, name) is not None for name in (_CORPUS, _QUERIES))


def read_corpus(folder: Path) -> Corpus:
    """Return what is in a folder with corpus.jsonl, queries.jsonl, and qrels.

    Documents have ``_id``, ``text`` and maybe ``title``, queries ``_id`` and ``text``. The table of
    judgements, ``qrels/test.tsv``, the only file in ``qrels``, or ``qrels.tsv``, has query-id,
    corpus-id and score. Queries without a document are left out, as everywhere. Raises InputError
    with file and line.
    """
    sides = []
    for name in (_CORPUS, _QUERIES):
        path = _file(folder, name)
        if path is None:
            raise InputError(f"has no {name}", where=str(folder))
        found: dict[str, Row] = {}
        for row in jsonl.read_lines(path):
            key = text(row, "_id")
            if key in found:
                raise InputError(f"has the _id {key!r}, as {found[key].where}", where=row.where)
            found[key] = row
        sides.append(found)
    documents, queries = sides
    gains: dict[str, dict[str, float]] = {}
    qrels = _judgements(folder)
    for row in delimited.read(qrels).rows:
        query, document = text(row, "query-id"), text(row, "corpus-id")
        for key, known, file in ((query, queries, _QUERIES), (document, documents, _CORPUS)):
            if key not in known:
                raise InputError(f"names {key!r}, which is not in {file}", where=row.where)
        gain = number(row, "score")
        if gain > 0:
            gains.setdefault(query, {})[document] = gain
    if not gains or len(documents) < 2:
        what = "two documents are needed" if gains else "has no query with a document above 0"
        raise InputError(what, where=str(folder if gains else qrels))
    return Corpus(documents=documents, queries=queries, gains=gains)


def _file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _judgements(folder: Path) -> Path:
    inside = sorted((folder / _QRELS).glob("*.tsv"))
    test = folder / _QRELS / "test.tsv"
    if test in inside or len(inside) == 1:
        return test if test in inside else inside[0]
    if inside:
        raise InputError(
            f"has {len(inside)} tables, and none is test.tsv",
            where=str(folder / _QRELS),
            hint="Leave the one there that is meant, or call it test.tsv.",
        )
    beside = folder / f"{_QRELS}.tsv"
    if beside.is_file():
        return beside
    raise InputError("has no qrels/test.tsv", where=str(folder))
