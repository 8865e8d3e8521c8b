# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Labelled data as rows of named columns, whatever it came in."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.fields import nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row. ``where`` is what messages call its place: "dev.tsv: line 7"."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What the user calls columns; None for those that are found by convention."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """All rows of ``path``, at least one.

    ``names`` are what numbers of a column stand for, if the data says so. ``layout`` is the data
    set's own that was found, "" for none, and ``figure`` the one that is customary for it.
    """

    path: Path
    rows: tuple[Row, ...]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layout: str = ""
    figure: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that some row has, in their order."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))

    def has(self, *names: str) -> bool:
        """Tell whether there are all these columns."""
        return set(names) <= set(self.columns)

    def column(self, asked: str | None, known: Sequence[str], what: str, option: str) -> str:
        """Return the column that the user asked for, else the first of ``known`` that there is.

        Raises InputError, which names ``option``, where there is none.
        """
        if asked is not None:
            if asked in self.columns:
                return asked
            raise InputError(
                f"has no column {asked!r}{nearest(asked, self.columns)}",
                where=str(self.path),
                hint=f"It has: {', '.join(self.columns)}",
            )
        found = next((name for name in known if name in self.columns), None)
        if found is None:
            raise InputError(
                f"has no column of {what} (looked for {', '.join(known)})",
                where=str(self.path),
                hint=f"It has: {', '.join(self.columns)}. Name one with {option} COLUMN.",
            )
        return found


def text(row: Row, column: str, *, blank: bool = False) -> str:
    """Return the text in ``column``. Raises InputError if it is none, or only blanks."""
    found = row.values.get(column)
    if not isinstance(found, str) or not (blank or found.strip()):
        if column not in row.values:
            raise InputError(f"has no {column!r}, which other rows have", where=row.where)
        raise InputError(f"expected a text in {column!r}, found {found!r}", where=row.where)
    return found


def texts(row: Row, column: str) -> tuple[str, ...]:
    """Return the list of texts in ``column``. Raises InputError if it is none."""
    found = row.values.get(column)
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise InputError(
            f"expected a list of texts in {column!r}, found {found!r}", where=row.where
        )
    return tuple(found)


def several(row: Row, column: str, known: Sequence[str]) -> Sequence[Any]:
    """Return the values in ``column``: a list, one that is written down, or a text of several.

    Tables have lists as they print in Python or JSON, or names with ``|``, ``;`` or ``,`` between
    them. A name of ``known`` is one, whatever is in it. Raises InputError if it is neither.
    """
    found = row.values.get(column)
    if isinstance(found, list | tuple):
        return found
    if type(found) is int or found in known:
        return [found]
    if not isinstance(found, str):
        raise InputError(f"expected labels in {column!r}, found {found!r}", where=row.where)
    if found.lstrip().startswith("["):
        try:
            values = ast.literal_eval(found.strip())
        except (ValueError, SyntaxError):
            raise InputError(
                f"expected a list of labels in {column!r}, found {found!r}", where=row.where
            ) from None
        return list(values)
    mark = next((mark for mark in "|;," if mark in found), ",")
    return [one.strip() for one in found.split(mark) if one.strip()]


def marked(row: Row, columns: Sequence[str]) -> list[bool]:
    """Return which of ``columns`` has a 1 in it. Raises InputError if one has neither 0 nor 1."""
    kept = []
    for name in columns:
        found = row.values.get(name)
        value = _MARKS.get(str(found).strip().lower())
        if value is None:
            raise InputError(f"expected 0 or 1 in {name!r}, found {found!r}", where=row.where)
        kept.append(value)
    return kept


_MARKS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def number(row: Row, column: str) -> float:
    """Return the number in ``column``. Raises InputError if it is none."""
    found = row.values.get(column)
    try:
        if isinstance(found, bool):
            raise ValueError
        value = float(found)  # type: ignore[arg-type]
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            f"expected a number in {column!r}, found {found!r}", where=row.where
        ) from None
    return value
