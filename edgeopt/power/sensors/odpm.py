# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""ODPM, the on-device power monitor of Google Pixel 6 and later: energy counters of an iio device.

``energy_value`` has a line ``CH3(T=176090328)[S2S_VDD_GPU], 168620176`` for each of its channels:
the milliseconds that it counts for, the rail, and microwatt-seconds (Android's kernel for Pixel,
``energy_value_show`` of the odpm driver).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeopt.boards.files import DENIED, folders, readable
from edgeopt.power.rail import Found, Rail, Term

FILES = tuple(f"/sys/bus/iio/devices/iio:device*/{name}" for name in ("name", "energy_value"))

_SOURCE = "no error is published (Android PowerStats HAL)"


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return all monitors as one sensor; their rails do not add up to a whole."""
    rails, denied = [], False
    for folder, name in folders(seen, "name").items():
        path = f"{folder}/energy_value"
        if path not in seen or not name.endswith("odpm"):
            continue
        denied = denied or seen[path] == DENIED
        for rail in re.findall(r"CH\d+\(T=\d+\)\[([^]\s]+)\], \d+", readable(seen, path) or ""):
            term = Term(what=path, scale=1e-6, step=1e-6, pattern=rf"\[{re.escape(rail)}\], (\d+)")
            rails.append(
                Rail(name=rail, sensor="odpm", terms=(term,), source=_SOURCE, quantity="energy")
            )
    if denied:
        return [Found(sensor="odpm", refused="only root and the system may read it; use adb root")]
    if not rails:
        return []
    covers = "each rail by itself: which of them hold others is not published"
    return [Found(sensor="odpm", rails=tuple(rails), covers=covers, leaves_out="the other rails")]
