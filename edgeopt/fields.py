# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Typed getters that turn a TOML or JSON table into checked values.

A ``Table`` remembers the file and the dotted key where it stands, so that every complaint reads
``targets/x.toml: engines.onnx.opset: expected an integer, found "17" (str)``. A key that nobody
asked for is an error: ``close()`` raises for it, with the nearest known key.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgeopt.errors import InputError

T = TypeVar("T")
_REQUIRED: Any = object()
_DEPTH = 64  # EO_JSON_MAX_DEPTH of the runtime
_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "a table",
}


def read_toml(path: Path) -> Table:
    """Read ``path`` as TOML. Raises InputError if it is absent, unreadable or not TOML."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    # ValueError: not TOML, not UTF-8, or an integer of thousands of digits.
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not TOML: {exc}", where=str(path)) from exc
    return Table(data, file=str(path))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return what is in the regular file ``path``; a FIFO, socket or device is not waited for.

    Raises OSError, and InputError if it is no regular file or has more than ``most_bytes``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise InputError("is no regular file", where=str(path))
        if facts.st_size > most_bytes:
            raise InputError(
                f"has {facts.st_size} bytes, expected up to {most_bytes}", where=str(path)
            )
        return file.read()


def read_json(path: Path, most_bytes: int) -> tuple[str, Any]:
    """Return the text of the file ``path`` and the JSON in it, of which there is one reading only.

    What other readers may take otherwise is refused: a key that stands twice, NaN and the like,
    numbers beyond a double, halves of a surrogate pair, more than 64 levels, other than UTF-8.
    Raises OSError, and InputError with the reason.
    """
    try:
        text = read_regular(path, most_bytes).decode()
        found = json.loads(
            text,
            object_pairs_hook=_each_once,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_integer,
        )
        _check_depth(found)
        json.dumps(found, ensure_ascii=False).encode()  # or halves of pairs are in it
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON: {exc}", where=str(path)) from exc
    return text, found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if text == "-0" or len(text) > 400:  # of 309 digits are the largest that a double holds
        raise ValueError(f"{text[:40]} is no whole number that all readers take")
    return int(text)


def _check_depth(found: Any) -> None:
    level = [found]
    for _ in range(_DEPTH + 1):
        level = [
            value
            for one in level
            if isinstance(one, dict | list)
            for value in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError("too deep")


def shipped_names(folder: Path) -> tuple[str, ...]:
    """Return the names that ``folder`` ships: its ``*.toml`` files without the ending, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def locate(
    name_or_path: str | Path, folder: Path, kind: str, *, beside: Path | None = None
) -> Path:
    """Return the file that ``name_or_path`` means: a shipped name, or a path to a user's own.

    A string is a path if it holds a path separator or ends in ``.toml``; a relative path
    starts at the directory ``beside``, or at the current one. ``kind`` is what the file holds, for
    the message. Raises InputError for an unknown name, with the nearest; does not open the file.
    """
    text = str(name_or_path)
    separators = [s for s in (os.sep, os.altsep) if s]
    if (
        isinstance(name_or_path, Path)
        or text.endswith(".toml")
        or any(s in text for s in separators)
    ):
        return (beside or Path()) / Path(text).expanduser()
    names = shipped_names(folder)
    if text not in names:
        raise InputError(
            f"unknown {kind} {text!r}{nearest(text, names)} (known: {', '.join(names)})",
            hint=f"For a {kind} of your own give the path to its file, ending in .toml.",
        )
    return folder / f"{text}.toml"


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ``; did you mean "x" or "y"?`` for the known names nearest to ``name``, or ``""``."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


class Table:
    """One table of a file, read key by key. ``key`` is its own dotted place, "" at the top.

    ``strict`` tells ``edgeopt.values`` to refuse keys that it does not know, here and below.
    """

    def __init__(
        self, data: Mapping[str, Any], *, file: str, key: str = "", strict: bool = False
    ) -> None:
        self.data, self.file, self.key, self.strict = data, file, key, strict
        self._asked: set[str] = set()

    def _place(self, name: str) -> str:
        return f"{self.file}: {self.key + '.' if self.key else ''}{name}"

    def wrong(self, name: str, message: str, hint: str | None = None) -> InputError:
        """Return the InputError for key ``name`` of this table; the caller raises it."""
        return InputError(message, where=self._place(name), hint=hint)

    def __contains__(self, name: str) -> bool:
        return name in self.data

    def get(self, name: str, kind: type[T], default: T | None = _REQUIRED) -> T:
        """Return ``name`` as ``kind`` (bool, int, float, str, list, dict); ints pass as floats."""
        self._asked.add(name)
        if name not in self.data:
            if default is _REQUIRED:
                raise self.wrong(name, f"is missing, expected {_NAMES[kind]}")
            return default  # type: ignore[return-value]
        return self._check(name, self.data[name], kind)

    def raw(self, name: str) -> Any:
        """Return ``name`` as it stands in the file, None if it is null or not there."""
        self._asked.add(name)
        return self.data.get(name)

    def _check(self, name: str, value: Any, kind: type[T]) -> T:
        if kind is float and type(value) is int:
            return float(value)  # type: ignore[return-value]
        if type(value) is not kind:
            raise self.wrong(
                name, f"expected {_NAMES[kind]}, found {value!r} ({type(value).__name__})"
            )
        return value

    def text(self, name: str, default: str | None = _REQUIRED, *, like: str | None = None) -> str:
        """Return a string that is not blank and matches the whole of ``like``, if given."""
        value = self.get(name, str, default)
        return value if value is None else self._match(name, value, like)

    def _match(self, name: str, value: str, like: str | None) -> str:
        if not value.strip():
            raise self.wrong(name, f"expected some text, found {value!r}")
        if like and not re.fullmatch(like, value):
            raise self.wrong(name, f"expected a string that matches {like}, found {value!r}")
        return value

    def integer(
        self, name: str, default: int | None = _REQUIRED, *, low: int = 1, high: int = 2**53
    ) -> int:
        """Return an integer within [low, high]."""
        value = self.get(name, int, default)
        return self._within(name, value, low, high)

    def number(
        self, name: str, default: float | None = _REQUIRED, *, low: float, high: float
    ) -> float:
        """Return a number within [low, high]; TOML's ``nan`` is out of every range."""
        value = self.get(name, float, default)
        return self._within(name, value, low, high)

    def _within(self, name: str, value: T, low: Any, high: Any) -> T:
        if value is not None and not low <= value <= high:
            raise self.wrong(name, f"expected {low} to {high}, found {value!r}")
        return value

    def choice(self, name: str, known: Sequence[str], default: str | None = _REQUIRED) -> str:
        """Return a string that is one of ``known``."""
        value = self.get(name, str, default)
        if value is not None and value not in known:
            raise self.wrong(
                name, f"expected one of {', '.join(known)}, found {value!r}{nearest(value, known)}"
            )
        return value

    def array(self, name: str, kind: type[T], default: Sequence[T] = _REQUIRED) -> tuple[T, ...]:
        """Return an array whose items are all ``kind``, as a tuple."""
        values: Sequence[T] = self.get(name, list, default)
        return tuple(self._check(f"{name}[{i}]", v, kind) for i, v in enumerate(values))

    def words(
        self, name: str, known: Sequence[str] | None = None, *, like: str | None = None
    ) -> tuple[str, ...]:
        """Return a non-empty array of strings, none twice, each one of ``known`` or ``like``."""
        values = self.array(name, str)
        if not values:
            raise self.wrong(name, f"is empty, expected {', '.join(known) if known else 'strings'}")
        for i, value in enumerate(values):
            self._match(f"{name}[{i}]", value, like)
            if known is not None and value not in known:
                raise self.wrong(
                    f"{name}[{i}]",
                    f"expected one of {', '.join(known)}, found {value!r}{nearest(value, known)}",
                )
            if value in values[:i]:
                raise self.wrong(f"{name}[{i}]", f"{value!r} stands there twice")
        return values

    def ascending(self, name: str, *, low: int, high: int) -> tuple[int, ...]:
        """Return a non-empty array of integers within [low, high], each above the one before."""
        values = self.array(name, int)
        for i, value in enumerate(values):
            self._within(f"{name}[{i}]", value, low, high)
        if not values or any(b <= a for a, b in itertools.pairwise(values)):
            raise self.wrong(name, f"expected ascending integers, none twice, found {list(values)}")
        return values

    def numbers(self, name: str, *, low: float, high: float) -> tuple[float, ...]:
        """Return an array of numbers within [low, high]."""
        values = self.array(name, float)
        return tuple(self._within(f"{name}[{i}]", v, low, high) for i, v in enumerate(values))

    def table(self, name: str) -> Table:
        """Return the table ``name``."""
        return self._sub(name, self.get(name, dict))

    def optional_table(self, name: str) -> Table | None:
        """Return the table ``name``, or None if the file has none."""
        self._asked.add(name)
        return self.table(name) if name in self.data else None

    def tables(
        self, name: str, default: Sequence[Mapping[str, Any]] = _REQUIRED
    ) -> tuple[Table, ...]:
        """Return an array of tables (``[[name]]``)."""
        values = self.array(name, dict, default)
        return tuple(self._sub(f"{name}[{i}]", value) for i, value in enumerate(values))

    def item(self, name: str, number: int, value: Any) -> Table:
        """Return the item ``number`` of the array ``name`` as the one key of a table here."""
        return Table({f"{name}[{number}]": value}, file=self.file, key=self.key, strict=self.strict)

    def items(self) -> Iterator[tuple[str, Table]]:
        """Yield every key with its sub-table, for a table whose keys are names."""
        for name in self.data:
            yield name, self.table(name)

    def strings(self) -> dict[str, str]:
        """Return the whole table as name -> string, for a table whose keys are names."""
        return {name: self.get(name, str) for name in self.data}

    def _sub(self, name: str, value: Mapping[str, Any]) -> Table:
        key = f"{self.key}.{name}" if self.key else name
        return Table(value, file=self.file, key=key, strict=self.strict)

    def close(self, *also: str) -> None:
        """Raise InputError if the table holds a key that nobody asked for.

        ``also`` are further known keys, for the message: optional ones that were only looked for.
        """
        for name in self.data:
            if name not in self._asked:
                known = sorted(self._asked.union(also))
                among = f"known: {', '.join(known)}" if known else "no key is known here"
                raise self.wrong(name, f"unknown key{nearest(name, known)} ({among})")
