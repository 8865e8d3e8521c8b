# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""JSON: an object on each line, or a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row
from edgeopt.model import texts


def read_lines(path: Path) -> Iterator[Row]:
    """Yield the objects of the lines of ``path``, packed (``.gz``) or not; blank lines are none.

    Raises InputError, with the line, where one is no object.
    """
    for number, line in enumerate(texts.lines(path), start=1):
        if line.strip():
            where = f"{path}: line {number}"
            yield _row(load(line, where), where)


def read_list(found: list[Any], path: Path) -> Iterator[Row]:
    """Yield the objects of a list. Raises InputError, with the number, where one is no object."""
    for number, one in enumerate(found, start=1):
        yield _row(one, f"{path}: item {number}")


def load(content: str, where: str) -> Any:
    """Return the JSON in ``content``. Raises InputError if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON ({exc})", where=where) from exc


def _row(found: Any, where: str) -> Row:
    if not isinstance(found, dict):
        raise InputError("expected an object", where=where)
    return Row(where=where, values=found)
