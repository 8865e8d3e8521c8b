# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Columns as in CoNLL-2003: a word and its tag on each line, a blank line behind a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row
from edgeopt.model import texts

_DOCUMENT = "-DOCSTART-"


def read(path: Path) -> Iterator[Row]:
    """Yield a row for each sentence: tokens and tags, lists of texts.

    The first of the columns is the word, the last one the tag; they are parted by blanks or tabs.
    Lines that begin a document are none. Raises InputError, with the line, for one of one column.
    """
    tokens: list[str] = []
    tags: list[str] = []
    first = 0
    for number, line in enumerate([*texts.lines(path), ""], start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        fields = [field.strip() for field in fields]
        if not line.strip() or fields[0] == _DOCUMENT:
            if tokens:
                yield Row(where=f"{path}: line {first}", values={"tokens": tokens, "tags": tags})
            tokens, tags = [], []
            continue
        if len(fields) < 2 or not fields[0] or not fields[-1]:
            raise InputError(
                "expected a word and its tag", where=f"{path}: line {number}",
                hint="A blank line stands between sentences."
            )  # fmt: skip
        first = first if tokens else number
        tokens.append(fields[0])
        tags.append(fields[-1])
