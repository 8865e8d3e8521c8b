# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Values that a file keeps: one reader and one writer, from the annotations of a frozen dataclass.

    cosine_min: Annotated[float, Range(-1.001, 1.001)]

A field is of ``bool``, ``int``, ``float``, ``str``, a ``Named`` value,
another such dataclass, a tuple or a mapping of these, ``Any``, or a union; None is JSON's null.
Dataclasses of one union tell themselves apart by ``kind``, a class variable. A field that has its
default is not written. A class may have ``check(table)``, which raises InputError if its fields
contradict each other.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as type_hints

from edgeopt.fields import Table

T = TypeVar("T")

_MOST_PATH, _MOST_NAME = 1000, 255  # bytes; the runtime's most in a packed file are 1,023


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, or of each in an array; both belong to it. ``unit`` is for the reader."""

    low: float
    high: float
    unit: str = ""

    def __eq__(self, other: object) -> bool:
        """Tell 0 to 1 from 0.0 to 1.0: ``typing`` keeps one of two annotations that are equal."""
        return isinstance(other, Range) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __str__(self) -> str:
        """Return it as ``0.0 to 0.95``."""
        return f"{self.low} to {self.high}" + (f" {self.unit}" if self.unit else "")


@dataclass(frozen=True, slots=True)
class Like:
    """What a string has to match as a whole."""

    pattern: str


class OneOf:
    """The strings of which it is one."""

    def __init__(self, *words: str) -> None:
        self.words = words


@dataclass(frozen=True, slots=True)
class Most:
    """How many items a tuple or mapping has at most."""

    count: int


@dataclass(frozen=True, slots=True)
class Ascending:
    """Each number of a tuple is above the one before."""


@dataclass(frozen=True, slots=True)
class Check:
    """``wrong`` says of a string what is wrong with it, None for nothing; of a mapping its keys."""

    wrong: Callable[[str], str | None]


def outside(path: str) -> str | None:
    """Say what is wrong with a file's name in a folder that must not reach outside itself."""
    clean = PurePosixPath(path)
    wrong = clean.is_absolute() or ".." in clean.parts or str(clean) != path or not clean.parts
    if wrong or "\\" in path or "\0" in path:
        return f"{path!r} does not lie inside the bundle"
    if len(path.encode()) > _MOST_PATH or any(len(p.encode()) > _MOST_NAME for p in clean.parts):
        return f"'{path[:40]}...' is too long for a file's name"
    return None


class Named:
    """A value that is written as its ``name``: one row of a table."""

    name: str
    known: ClassVar[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    hint: Any
    required: bool


@functools.cache
def _fields(cls: Any) -> tuple[_Field, ...]:
    hints = type_hints(cls, include_extras=True)
    return tuple(
        _Field(f.name, hints[f.name], f.default is MISSING and f.default_factory is MISSING)
        for f in dataclasses.fields(cls)
    )


def read(cls: Callable[..., T], table: Table) -> T:
    """Return the ``cls`` that ``table`` holds; keys that it has not are refused by a strict one.

    Raises InputError with the dotted key for what is missing, of another type or out of range.
    """
    kind = getattr(cls, "kind", None)
    if kind is not None and "kind" in table:
        table.choice("kind", (kind,))
    given = [f for f in _fields(cls) if f.required or f.name in table]
    found = cls(**{f.name: _get(f.hint, (), table, f.name) for f in given})
    check = getattr(found, "check", None)
    if check is not None:
        check(table)
    if table.strict:
        table.close()
    return found


def write(value: Any) -> Any:
    """Return ``value`` as plain JSON values, as ``read`` takes it."""
    if isinstance(value, Named):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "kind", None)
        found = {} if kind is None else {"kind": kind}
        for field in dataclasses.fields(value):
            own = getattr(value, field.name)
            if not _is_default(field, own):
                found[field.name] = write(own)
        return found
    if isinstance(value, Mapping):
        return {key: write(item) for key, item in value.items()}
    return [write(item) for item in value] if isinstance(value, list | tuple) else value


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return field.default is not MISSING and bool(value == field.default)


def _get(hint: Any, marks: tuple[Any, ...], table: Table, name: str) -> Any:
    """Return the value ``name`` of ``table`` as ``hint``; the innermost of ``marks`` is last."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _get(inner[0], (*marks, *inner[1:]), table, name)
    if origin in (Union, types.UnionType):
        return _of_union(inner, marks, table, name)
    if origin is tuple:
        return _items(inner[0], marks, table, name)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(inner[1], marks, table, name)
    if hint is Any:
        return table.raw(name)
    if issubclass(hint, Named):
        return hint.known[table.choice(name, tuple(hint.known))]
    if is_dataclass(hint):
        below: Any = read(hint, table.table(name))  # type: ignore[arg-type]
        return below
    if bounds := next((mark for mark in reversed(marks) if isinstance(mark, Range)), None):
        within = table.integer if hint is int else table.number
        return within(name, low=bounds.low, high=bounds.high)  # type: ignore[arg-type]
    if hint is int:
        return table.integer(name, low=0)
    if hint is not str:
        return table.get(name, hint)
    value: str = table.get(name, str)
    _check(value, marks, table, name)
    for mark in marks:
        if isinstance(mark, OneOf):
            table.choice(name, mark.words)
        elif isinstance(mark, Like):
            table.text(name, like=mark.pattern)
    return value


def _of_union(inner: tuple[Any, ...], marks: tuple[Any, ...], table: Table, name: str) -> Any:
    kinds = [one for one in inner if one is not type(None)]
    given = table.raw(name)
    if given is None and name in table and len(kinds) < len(inner):
        return None
    if len(kinds) == 1:
        return _get(kinds[0], marks, table, name)
    if all(is_dataclass(one) for one in kinds):
        below = table.table(name)
        by_kind = {one.kind: one for one in kinds}
        return read(by_kind[below.choice("kind", tuple(by_kind))], below)
    fitting = next((one for one in kinds if type(given) is _plain(one)), kinds[0])
    return _get(fitting, marks, table, name)


def _plain(hint: Any) -> Any:
    """Return the type that JSON has for ``hint``."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _items(hint: Any, marks: tuple[Any, ...], table: Table, name: str) -> tuple[Any, ...]:
    values = table.get(name, list)
    _check_count(len(values), marks, table, name)
    below = (table.item(name, i, value) for i, value in enumerate(values))
    found = tuple(_get(hint, marks, one, next(iter(one.data))) for one in below)
    if any(isinstance(mark, Ascending) for mark in marks) and any(
        b <= a for a, b in itertools.pairwise(found)
    ):
        raise table.wrong(name, f"expected ascending integers, none twice, found {values}")
    return found


def _mapping(hint: Any, marks: tuple[Any, ...], table: Table, name: str) -> Mapping[str, Any]:
    if hint is Any:
        return table.get(name, dict)
    below = table.table(name)
    _check_count(len(below.data), marks, table, name)
    for key in below.data:
        _check(key, marks, table, name)
    rest = tuple(mark for mark in marks if not isinstance(mark, Check | Most))
    return {key: _get(hint, rest, below, key) for key in below.data}


def _check_count(count: int, marks: tuple[Any, ...], table: Table, name: str) -> None:
    for mark in marks:
        if isinstance(mark, Most) and count > mark.count:
            raise table.wrong(name, f"{count} of them, expected up to {mark.count}")


def _check(text: str, marks: tuple[Any, ...], table: Table, name: str) -> None:
    """Raise InputError for a string that C cannot hold, or that one of ``marks`` refuses."""
    if "\0" in text:
        raise table.wrong(name, f"expected a string without NUL, found {text!r}")
    for mark in marks:
        if isinstance(mark, Check) and (wrong := mark.wrong(text)) is not None:
            raise table.wrong(name, wrong)
