# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""External meters, each a module of its name: read from this machine, on this machine's clock.

A module has ``open_meter(address)``, which returns a ``Meter``, and what an address begins with is
looked up here alone.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from edgeopt.errors import InputError, MeasurementError
from edgeopt.power.clock import now_ns
from edgeopt.power.rail import NUMBER

SCHEMES = {
    "command": "command",
    "scpi": "scpi",
    "http": "http",
    "https": "http",
    "mqtt": "mqtt",
}
"""The module of each kind of address."""

EVERY_S = 0.2
TIMEOUT_S = 10.0
_MOST = 1 << 20
_MOST_TEXT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the meter said, taken at some time between the two of ``clock.now_ns``."""

    begin_ns: int
    end_ns: int
    text: str


class Meter(Protocol):
    """An open connection to a meter."""

    def read(self) -> Reading:
        """Return a new reading, waiting for it at most ``TIMEOUT_S``. Raises MeasurementError."""

    def close(self) -> None:
        """Close the connection."""


def open_meter(address: str) -> Meter:
    """Return the meter at ``address``.

    Raises InputError for what is no address, MeasurementError if no meter answers there.
    """
    scheme, colon, rest = address.partition(":")
    if not colon or not rest or scheme not in SCHEMES:
        raise InputError(
            f"is no meter's address: {address!r}",
            where="--meter",
            hint=f"It begins with {', '.join(f'{s}:' for s in SCHEMES)}; see docs/power.md.",
        )
    module = importlib.import_module(f"edgeopt.power.meters.{SCHEMES[scheme]}")
    opened: Meter = module.open_meter(address)
    return opened


def shown(address: str) -> str:
    """Return ``address`` without a password, for a file or a message."""
    return re.sub(r"//[^/@]*@", "//", address)


def number(text: str, address: str) -> str:
    """Return ``text`` if it holds a number. Raises MeasurementError."""
    if re.search(NUMBER, text) is None:
        raise MeasurementError(f"told no number but {text[:80]!r}", where=shown(address))
    return text.strip()[:_MOST_TEXT]


class Log:
    """A meter that is read again and again until the block ends; a context manager.

    The first reading is taken before the block begins, and one more after its end, so that what
    happens in it lies between two. ``failure`` is why it ended early, None if it did not.
    """

    def __init__(self, address: str, every_s: float = EVERY_S) -> None:
        self.address, self.readings = address, list[Reading]()
        self.failure: str | None = None
        self._every_s, self._over = every_s, threading.Event()

    def __enter__(self) -> Log:
        self._meter = open_meter(self.address)
        try:
            self.readings.append(self._meter.read())
        except BaseException:
            self._meter.close()
            raise
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended_ns = now_ns()
        self._over.set()
        self._thread.join(timeout=2 * TIMEOUT_S)
        self._meter.close()

    def _read(self) -> None:
        last = False
        while not last and len(self.readings) < _MOST:
            began = time.monotonic()
            try:
                reading = self._meter.read()
            except MeasurementError as exc:
                self.failure = str(exc)
                return
            self.readings.append(reading)
            last = self._over.is_set() and reading.begin_ns >= self._ended_ns
            self._over.wait(max(0.0, self._every_s - (time.monotonic() - began)))
