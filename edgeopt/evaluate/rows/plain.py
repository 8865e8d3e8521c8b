# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Plain texts in a file: the articles of WikiText, or what blank lines part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from edgeopt.evaluate.rows.row import Row
from edgeopt.model import texts

ENDINGS = (".tokens", ".raw", ".txt")
"""What such files are called: wiki.test.tokens, wiki.test.raw, NAME.txt."""

_TITLE = re.compile(r"\s*= [^=]+ =\s*")  # those of sections have more signs


def read(path: Path) -> Iterator[Row]:
    """Yield a row with the column ``text`` for each text, as it stands in the file.

    If lines are titles of articles (`` = Title = ``), each begins a text; else blank lines part
    texts.
    """
    lines = texts.lines(path)
    titles = [bool(_TITLE.fullmatch(line)) for line in lines]
    by_title = any(titles)
    kept: list[str] = []
    first = 1
    for number, (line, title) in enumerate(zip(lines, titles, strict=True), start=1):
        blank = not line.strip()
        if kept and (title if by_title else blank):
            yield _row(path, first, kept)
            kept = []
        if kept or not blank:
            first = first if kept else number
            kept.append(line)
    if kept:
        yield _row(path, first, kept)


def _row(path: Path, number: int, lines: list[str]) -> Row:
    return Row(where=f"{path}: line {number}", values={"text": "\n".join(lines).rstrip("\n")})
