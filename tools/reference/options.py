"""What a recipe may say, found by reading it: names, kinds, ranges.

The options' dataclasses hold names and defaults; what a value may be stands in their ``read``. It
is run here on tables that write down what they are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import InputError
from edgeopt.fields import Table

_VALUES: tuple[Any, ...] = ("", 1, 0.5, [1])
"""One of each kind that a reader may ask about before it chooses a getter."""


class _Anything(Table):
    """A table that takes every value, and writes down what would have been allowed."""

    def __init__(self, data: dict[str, Any], found: dict[str, list[str]], *, key: str = "") -> None:
        super().__init__(data, file="", key=key)
        self.found = found

    def _note(self, name: str, allowed: str) -> None:
        place = f"{self.key}.{name}" if self.key else name
        notes = self.found.setdefault(place, [])
        if allowed not in notes:
            notes.append(allowed)

    def get(self, name: str, kind: type[Any], default: Any = None) -> Any:
        self._note(name, "`true` or `false`" if kind is bool else kind.__name__)
        return default

    def text(self, name: str, default: Any = None, *, like: str | None = None) -> Any:
        self._note(name, "a string" + (f" like `{like}`" if like else ""))
        return default

    def integer(self, name: str, default: Any = 1, *, low: int = 1, high: int = 2**53) -> Any:
        upper = "or more" if high == 2**53 else f"to {high:,}"
        self._note(name, f"an integer, {low} {upper}")
        return default

    def number(self, name: str, default: Any = None, *, low: float, high: float) -> Any:
        self._note(name, f"a number, {low:g} to {high:g}")
        return default or high

    def choice(self, name: str, known: Sequence[str], default: Any = None) -> Any:
        self._note(name, "one of " + ", ".join(f'`"{word}"`' for word in known))
        return known[0] if default is None else default

    def array(self, name: str, kind: type[Any], default: Any = ()) -> Any:
        self._note(name, {float: "numbers", int: "integers", str: "strings"}[kind] + " in an array")
        return (0.5,) if kind is float else default

    def words(
        self, name: str, known: Sequence[str] | None = None, *, like: str | None = None
    ) -> tuple[str, ...]:
        among = ", ".join(f'`"{word}"`' for word in known or ())
        self._note(name, f"an array of {among}" if among else "an array of names")
        return tuple(known or ("x",))

    def ascending(self, name: str, *, low: int, high: int) -> tuple[int, ...]:
        self._note(name, f"an array of ascending integers, {low} to {high:,}")
        return (low,)

    def optional_table(self, name: str) -> Table | None:
        self._note(name, "a table")
        return _All({}, self.found, key=f"{self.key}.{name}" if self.key else name)

    def close(self, *also: str) -> None:
        pass


class _All(_Anything):
    """A table that claims to hold every key."""

    def __contains__(self, name: str) -> bool:
        return True


@dataclass
class Options:
    """What each option may be, by its dotted name in the table, in words."""

    allowed: dict[str, list[str]] = field(default_factory=dict)

    def words(self, name: str) -> str:
        """Return the kinds of value that ``name`` takes."""
        return "; or ".join(self.allowed[name])


def ask(read: Callable[[Table], Any], names: Sequence[str]) -> Options:
    """Return what ``read`` asks a table for, when it holds none, one or two of ``names``.

    A reader may refuse what it is given; what it asked before counts.
    """
    found = Options()
    pairs = itertools.combinations_with_replacement(names, 2)
    tables = ({a: value, b: value} for a, b in pairs for value in _VALUES)
    for data in ({}, *tables):
        try:
            read(_Anything(data, found.allowed))
        except InputError:
            continue
    return found
