# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Time texts of the user's own lengths as an app serves them: from the text to the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgeopt.boards.transport import Transport
from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.measure.blocks import BlockAgent
from edgeopt.measure.measurement import Served

_MOST_BYTES = 1 << 20
"""Of one text; the agent's line has as many at most."""

Text = tuple[str, str | None]
"""A text, and its second part if it has one."""


def read_texts(path: Path) -> tuple[Text, ...]:
    """Return the texts of a file: one in a line, or of .jsonl ``text`` and ``pair`` of each line.

    Empty lines are left out. Raises InputError if there is none, or one of over 1 MB.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"is not UTF-8: {exc}", where=str(path)) from exc
    of_json = path.suffix == ".jsonl"
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{path}:{number}"
            text = _of_json(line, place) if of_json else (line, None)
            if sum(len(part.encode()) for part in text if part) > _MOST_BYTES:
                raise InputError("has over 1 MB", where=place)
            found.append(text)
    if not found:
        raise InputError("holds no text", where=str(path))
    return tuple(found)


def _of_json(line: str, place: str) -> Text:
    try:
        value = json.loads(line)
    except ValueError as exc:
        raise InputError(f"is not JSON: {exc}", where=place) from exc
    if not isinstance(value, dict):
        raise InputError("is no object with a text", where=place)
    table = Table(value, file=place)
    return table.text("text"), table.get("pair", str) if "pair" in table else None


def serve(
    transport: Transport, words: Sequence[str], where: str, texts: Sequence[Text], data: str
) -> Served:
    """Time each of ``texts`` once in one process of the agent, whose command line is ``words``.

    Raises as ``BlockAgent``.
    """
    times: list[int] = []
    tokens: list[int] = []
    cut = 0
    with BlockAgent(transport, words, where) as process:
        for text, pair in texts:
            wall_ns, count, truncated = process.serve(text, pair)
            times.append(wall_ns)
            tokens.append(count)
            cut += truncated
        process.finish()
    return Served(data=data, wall_ns=tuple(times), tokens=tuple(tokens), cut=cut)
