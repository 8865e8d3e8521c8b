# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A rail: what a sensor measures of a board, how its text becomes watts, and how exact that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from edgeopt.boards.files import readable
from edgeopt.errors import MeasurementError
from edgeopt.fields import Table
from edgeopt.values import OneOf

NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)"
"""The pattern of a file that holds one number."""

_STUB = "SMBus stub driver"
# The adapter of Linux's i2c-stub (its Documentation/i2c/i2c-stub.rst).

FILE_MS, COMMAND_MS = 50, 200
"""How often a sensor's files and commands are read; a command starts a process each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One factor of a rail's power, or its energy: a number of a text that the board gives.

    ``what`` is the file or the command that is read, ``pattern`` has one group, the number, and
    ``scale`` turns that into watts, volts, amperes or joules. ``step`` is the least difference that
    the sensor tells, in that unit, None if it is not published; ``gain`` the largest relative error
    and ``offset`` the largest constant one by the data sheet, None likewise.
    """

    what: str
    scale: float
    pattern: str = NUMBER
    step: float | None = None
    gain: float | None = None
    offset: float | None = None

    def value(self, text: str) -> float:
        """Return the number in ``text``. Raises MeasurementError if it is not there."""
        found = re.search(self.pattern, text)
        if found is None:
            raise MeasurementError(
                f"tells no number where one is expected: {text[:120]!r}", where=self.what
            )
        return float(found[1]) * self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Rail:
    """What one sensor measures at one place of a board.

    ``quantity`` says whether the product of the ``terms`` is a power, in watts, or the only one of
    them an energy that adds up, in joules, which begins anew at ``wraps_j`` (0: it does not).
    ``source`` names where the errors are published. ``every_ms`` is how often it is read.
    ``synthetic`` is true if no hardware stands behind the sensor.
    """

    name: str
    sensor: str
    terms: tuple[Term, ...]
    source: str
    quantity: Annotated[str, OneOf("power", "energy")] = "power"
    wraps_j: float = 0.0
    every_ms: int = FILE_MS
    synthetic: bool = False

    def check(self, table: Table) -> None:
        """Raise InputError for a rail that tells nothing, or an energy that is a product."""
        if not self.terms or (self.quantity == "energy" and len(self.terms) > 1):
            raise table.wrong("terms", f"{len(self.terms)} of them in a rail of {self.quantity}")
        for term in self.terms:
            try:
                groups = re.compile(term.pattern).groups
            except re.error as exc:
                raise table.wrong("terms", f"{term.pattern!r} is no pattern: {exc}") from exc
            if groups != 1:
                raise table.wrong("terms", f"{term.pattern!r} has {groups} groups, expected 1")

    def value(self, texts: Mapping[str, str]) -> float:
        """Return the watts, or joules, of what was read, by file or command."""
        value = 1.0
        for term in self.terms:
            if term.what not in texts:
                raise MeasurementError("was not read", where=f"{self.name}: {term.what}")
            value *= term.value(texts[term.what])
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A sensor that a board has.

    ``total`` names the rails that add up to what ``covers`` says, () if which do is not known: each
    rail then stands for itself. ``leaves_out`` is what the board takes besides. ``refused`` says
    why it is not to be used, with what to do; None if it is.
    """

    sensor: str
    rails: tuple[Rail, ...] = ()
    total: tuple[str, ...] = ()
    covers: str = ""
    leaves_out: str = ""
    refused: str | None = None


def is_stub(seen: Mapping[str, str], hwmon: str) -> bool:
    """Return whether a chip, by its hwmon folder, is only registers without hardware."""
    return (readable(seen, f"{hwmon}/device/../name") or "").strip() == _STUB
