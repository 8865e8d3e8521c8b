# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Options as fields of a dataclass: an annotation says range or choices, and what the option is.

    remove: Annotated[float, Range(0.0, 0.95), "the share of heads that goes"] = 0.3

``read`` takes such a dataclass from a table of a file, ``options_of`` tells what it holds. A field
is of ``bool``, ``int``, ``float``, ``str``, a ``Literal``, a tuple of these, another such dataclass
(a table below) or a union; fields with ``init=False`` are no options.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from edgeopt.fields import Table
from edgeopt.values import Like, Range


@dataclass(frozen=True, slots=True)
class DefaultIf:
    """Another default, if the ``option``, which stands further up, has this ``value``."""

    option: str
    value: Any
    default: Any


class Options(Protocol):
    """A frozen dataclass whose fields are options."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other; ``table`` tells which are given."""


T = TypeVar("T", bound=Options)
D = TypeVar("D")

_WORDS = {bool: "boolean", int: "integer", float: "number", str: "text", tuple: "array"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of value that an option takes.

    ``type`` is bool, int, float, str, tuple or a dataclass. ``item`` is the type of a tuple's
    items, to which ``range``, ``choices`` and ``like`` then belong.
    """

    type: Any
    item: Any
    range: Range | None
    choices: tuple[Any, ...]
    like: str | None

    @property
    def stored(self) -> type:
        """The type that TOML and JSON have for it."""
        found: type = {tuple: list}.get(self.type, dict if is_dataclass(self.type) else self.type)
        return found

    def get(self, table: Table, name: str, default: Any) -> Any:
        """Return the value ``name`` of ``table``; ``default`` is that of a table below."""
        bounds: dict[str, Any] = {}
        if self.range is not None:
            bounds = {"low": self.range.low, "high": self.range.high}
        if self.stored is dict:
            return group(self.type, table, name, default)
        if self.type is tuple and self.item is str:
            return table.words(name, self.choices or None, like=self.like)
        if self.type is tuple:
            return (table.ascending if self.item is int else table.numbers)(name, **bounds)
        if self.choices and self.type is str:
            return table.choice(name, self.choices)
        if self.choices:
            value = table.get(name, self.type)
            if value not in self.choices:
                raise table.wrong(name, f"expected {_either(self.choices)}, found {value!r}")
            return value
        if self.type is str:
            return table.text(name, like=self.like)
        if self.type is bool:
            return table.get(name, bool)
        return (table.integer if self.type is int else table.number)(name, **bounds)

    def document(self) -> dict[str, Any]:
        """Return what the option takes, as plain values."""
        found: dict[str, Any] = {"type": _WORDS.get(self.type, "table")}
        if self.type is tuple:
            found["items"] = _WORDS[self.item]
        if self.range is not None:
            found |= {name: value for name, value in asdict(self.range).items() if value != ""}
        if self.choices:
            found["choices"] = list(self.choices)
        if self.like:
            found["like"] = self.like
        return found

    def __str__(self) -> str:
        """Return what the option takes, as ``0.0 to 0.95`` or ``uniform, uneven``."""
        if self.stored is dict:
            return "table"
        found = ", ".join(map(str, self.choices)) or str(self.range or "") or self.like
        item = self.item or self.type
        found = found or ("true or false" if item is bool else _WORDS[item])
        return f"array of {found}" if self.type is tuple else found


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option of a dataclass; ``default`` is ``MISSING`` if it has to be given."""

    name: str
    help: str
    default: Any
    defaults_if: tuple[DefaultIf, ...]
    kinds: tuple[Kind, ...]

    def read(self, table: Table, default: Any) -> Any:
        """Return the value in ``table``, or ``default`` if there is none."""
        if self.name not in table and default is not MISSING:
            return table.get(self.name, object, default)
        found = type(table.data.get(self.name))
        kind = next((k for k in self.kinds if k.stored is found), self.kinds[0])
        return kind.get(table, self.name, default)

    def document(self) -> dict[str, Any]:
        """Return the option as plain values; a table below has its own under ``options``."""
        found: dict[str, Any] = {
            "name": self.name,
            "help": self.help,
            "required": self.default is MISSING,
            "default": _plain(self.default),
            "default_if": [asdict(rule) for rule in self.defaults_if],
            "takes": [kind.document() for kind in self.kinds],
        }
        for kind in self.kinds:
            if kind.stored is dict:
                below = options_of(kind.type, self.default)
                found["options"] = [option.document() for option in below]
        return found


def read(cls: type[T], table: Table, default: T | None = None) -> T:
    """Return the options ``cls`` that ``table`` holds; ``default`` has those that it lacks.

    Raises InputError with the dotted key for what is wrong, unknown or contradicts another.
    """
    values: dict[str, Any] = {}
    for option in options_of(cls, default):
        fallback = option.default
        for rule in option.defaults_if:
            if values[rule.option] == rule.value:
                fallback = rule.default
        values[option.name] = option.read(table, fallback)
    table.close()
    found = cls(**values)
    found.check(table)
    return found


def group(cls: type[T], table: Table, name: str, default: D) -> T | D:
    """Return the options ``cls`` of the table ``name`` in ``table``, or ``default`` without it.

    If ``default`` is one of ``cls``, it has those that the table lacks. Raises InputError.
    """
    below = table.optional_table(name)
    if below is None:
        return default
    return read(cls, below, default if isinstance(default, cls) else None)


def options_of(cls: type[Options], default: Any = None) -> tuple[Option, ...]:
    """Return the options of a dataclass, in order, with the defaults of ``default`` if it is one.

    >>> @dataclass(frozen=True)
    ... class Pruning:
    ...     remove: Annotated[float, Range(0.0, 0.95), "the share of heads that goes"] = 0.3
    >>> (option,) = options_of(Pruning)
    >>> option.name, option.help, option.default, str(option.kinds[0])
    ('remove', 'the share of heads that goes', 0.3, '0.0 to 0.95')
    """
    if not isinstance(default, cls):
        return _options(cls)
    return tuple(replace(o, default=getattr(default, o.name)) for o in _options(cls))


def changed(found: Options, default: Any = None) -> dict[str, Any]:
    """Return what ``found`` has otherwise than by default, as plain values by dotted names."""
    values: dict[str, Any] = {}
    for option in options_of(type(found), default):
        value = getattr(found, option.name)
        if is_dataclass(value):
            below = changed(value, option.default)  # type: ignore[arg-type]
            values |= {f"{option.name}.{name}": one for name, one in below.items()}
            if option.default is None and not below:
                values[option.name] = {}  # it is there, and has its own defaults
        elif value != option.default:
            values[option.name] = _plain(value)
    return values


@functools.cache
def _options(cls: type[Options]) -> tuple[Option, ...]:
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for field in fields(cls):
        if not field.init:
            continue
        marks: tuple[Any, ...] = getattr(hints[field.name], "__metadata__", ())
        factory = field.default_factory
        found.append(
            Option(
                name=field.name,
                help=next((mark for mark in reversed(marks) if isinstance(mark, str)), ""),
                default=field.default if factory is MISSING else factory(),
                defaults_if=tuple(mark for mark in marks if isinstance(mark, DefaultIf)),
                kinds=tuple(_kinds(hints[field.name], ())),
            )
        )
    return tuple(found)


def _kinds(hint: Any, marks: tuple[Any, ...]) -> Iterator[Kind]:
    """Yield the kinds of a type; ``marks`` are those around it, the innermost last."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _kinds(inner[0], (*marks, *inner[1:]))
    elif origin in (Union, types.UnionType):
        for one in inner:
            if one is not type(None):
                yield from _kinds(one, marks)
    else:
        item = inner[0] if origin is tuple else hint
        choices = get_args(item) if get_origin(item) is Literal else ()
        of = type(choices[0]) if choices else item
        likes = [mark.pattern for mark in marks if isinstance(mark, Like)]
        yield Kind(
            type=tuple if origin is tuple else of,
            item=of if origin is tuple else None,
            range=next((mark for mark in reversed(marks) if isinstance(mark, Range)), None),
            choices=choices,
            like=likes[-1] if likes else None,
        )


def _either(choices: tuple[Any, ...]) -> str:
    text = list(map(str, choices))
    return " or ".join(text) if len(text) == 2 else f"one of {', '.join(text)}"


def _plain(value: Any) -> Any:
    """Return a value as TOML has it; a table below stands with its own options."""
    if value is MISSING or is_dataclass(value):
        return None
    return list(value) if isinstance(value, tuple) else value
