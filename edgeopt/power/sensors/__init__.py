# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The sensors of boards, each a module of its name: this is the one place where they are looked up.

A module has ``FILES``, patterns of the files it needs to see, maybe ``COMMANDS``, and
``find(seen)``, which takes what the board holds in those and returns the sensors that it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType

from edgeopt.boards import files
from edgeopt.boards.transport import Transport
from edgeopt.power.rail import Found

NAMES = ("ina3221_iio", "ina3221", "hwmon", "rapl", "pmic", "odpm", "battery")
"""The sensors, those first that are told first."""


def modules() -> dict[str, ModuleType]:
    """Return the sensors' modules by name."""
    return {name: importlib.import_module(f"edgeopt.power.sensors.{name}") for name in NAMES}


def patterns() -> tuple[str, ...]:
    """Return the files that the sensors need to see."""
    return tuple(pattern for module in modules().values() for pattern in module.FILES)


def commands() -> tuple[str, ...]:
    """Return the commands that they need the answers of."""
    return tuple(c for module in modules().values() for c in getattr(module, "COMMANDS", ()))


def find(transport: Transport) -> tuple[Found, ...]:
    """Return the sensors of a board, those that are refused as well.

    Raises BoardError if the board does not answer.
    """
    return of(files.look(transport, patterns(), commands()))


def of(seen: Mapping[str, str]) -> tuple[Found, ...]:
    """Return the sensors of a board that holds what was ``seen``."""
    return tuple(found for module in modules().values() for found in module.find(seen))
