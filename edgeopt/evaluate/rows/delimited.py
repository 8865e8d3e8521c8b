# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""CSV and TSV with a line of names, and the tables of GLUE as they are shipped."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row, Rows
from edgeopt.model import texts

_MOST_FIELD = 1 << 24  # characters; the csv module's own limit is 131,072


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """A table of GLUE: its names ours, by theirs, and the figure that GLUE reports of it."""

    name: str
    columns: Mapping[str, str]
    figure: str = ""


# Each is told by all its names. What has more of them stands before what has fewer: the header of
# MNLI has those of RTE in it.
_LAYOUTS = (
    _Layout(
        name="MRPC",
        columns={"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
        figure="f1",
    ),
    _Layout(
        name="QQP",
        columns={
            "qid1": "qid1",
            "qid2": "qid2",
            "question1": "sentence1",
            "question2": "sentence2",
            "is_duplicate": "label",
        },
        figure="f1",
    ),
    _Layout(
        name="MNLI",
        columns={
            "promptID": "promptID",
            "pairID": "pairID",
            "sentence1": "sentence1",
            "sentence2": "sentence2",
            "gold_label": "label",
        },
    ),
    _Layout(
        name="STS-B",
        columns={
            "genre": "genre",
            "old_index": "old_index",
            "sentence1": "sentence1",
            "sentence2": "sentence2",
            "score": "label",
        },
    ),
    _Layout(
        name="QNLI",
        columns={
            "index": "index",
            "question": "sentence1",
            "sentence": "sentence2",
            "label": "label",
        },
    ),
    _Layout(
        name="RTE or WNLI",
        columns={
            "index": "index",
            "sentence1": "sentence1",
            "sentence2": "sentence2",
            "label": "label",
        },
    ),
    _Layout(name="SST-2", columns={"sentence": "sentence", "label": "label"}),
)
_COLA = _Layout(
    name="CoLA", columns={"1": "label", "3": "sentence"}, figure="mcc"
)  # which has no line of names: source, label, the author's mark, sentence


def read(path: Path) -> Rows:
    """Return the rows of a CSV or TSV file, packed (``.gz``) or not.

    The first line has the names. Fields may be quoted, as RFC 4180 has it. A TSV file in one of
    GLUE's layouts is read as GLUE is: a quote is a character there like others, and columns get one
    name each (sentence, sentence1, sentence2, label). Raises InputError, with the line, where a
    line has more fields than names, or fewer, or a quote is not closed.
    """
    content = "\n".join(texts.lines(path)).removeprefix("\ufeff").replace("\r\n", "\n")
    if path.name.removesuffix(".gz").lower().endswith(".csv"):
        return _table(path, _fields(path, content, ",", quoted=True), None)
    plain = list(_fields(path, content, "\t", quoted=False))
    layout = _layout(plain)
    if layout is _COLA:
        header = (0, [str(i) for i in range(4)])
        return _table(path, iter([header, *plain]), layout)
    if layout is not None:
        return _table(path, iter(plain), layout)
    return _table(path, _fields(path, content, "\t", quoted=True), None)


def _fields(
    path: Path, content: str, delimiter: str, *, quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row that is not empty, with the number of the line it begins in."""
    before = csv.field_size_limit(_MOST_FIELD)
    reader = csv.reader(
        io.StringIO(content),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    number = 1
    try:
        for fields in reader:
            if fields:
                yield number, fields
            number = reader.line_num + 1
    except csv.Error as exc:
        raise InputError(
            f"cannot be read ({exc})",
            where=f"{path}: line {number}",
            hint='A quote within a quoted field is written twice ("").',
        ) from exc
    finally:
        csv.field_size_limit(before)


def _layout(lines: list[tuple[int, list[str]]]) -> _Layout | None:
    if not lines:
        return None
    names = set(lines[0][1])
    for layout in _LAYOUTS:
        if set(layout.columns) <= names:
            # Two columns, or four, may be anybody's table; GLUE's have no more than these.
            if layout.name in ("SST-2", "RTE or WNLI", "QNLI") and names != set(layout.columns):
                continue
            return layout
    if all(len(fields) == 4 and fields[1] in ("0", "1") and fields[2] in ("", "*")
           for _, fields in lines):  # fmt: skip
        return _COLA
    return None


def _table(path: Path, lines: Iterator[tuple[int, list[str]]], layout: _Layout | None) -> Rows:
    _, header = next(lines, (0, []))
    header = [name.strip() for name in header]
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"has the column {twice!r} twice", where=f"{path}: line 1")
    rows = []
    for number, fields in lines:
        where = f"{path}: line {number}"
        if len(fields) != len(header):
            raise InputError(
                f"has {len(fields)} fields, but line 1 names {len(header)}",
                where=where,
                hint="The first line has the names of the columns.",
            )
        values = dict(zip(header, fields, strict=True))
        if layout is not None:
            values = {ours: values[theirs] for theirs, ours in layout.columns.items()}
        rows.append(Row(where=where, values=values))
    if layout is None:
        return Rows(path=path, rows=tuple(rows))
    return Rows(path=path, rows=tuple(rows), layout=layout.name, figure=layout.figure)
