# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The battery of an Android device or a laptop: what it gives while nothing charges it.

Microvolts, microamperes and microwatts (Linux Documentation/ABI/testing/sysfs-class-power). While a
charger is plugged in the battery does not give what the device takes, so it is refused then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeopt.boards.files import folders, readable
from edgeopt.power.rail import Found, Rail, Term

_PLACE = "/sys/class/power_supply/*"
FILES = tuple(
    f"{_PLACE}/{name}"
    for name in ("type", "scope", "status", "online", "voltage_now", "current_now", "power_now")
)

# A gauge tells a mean of seconds; its error is the maker's and unpublished.
_SOURCE, _EVERY_MS = "no error is published (the device's fuel gauge)", 250
_ABSOLUTE = r"-?([0-9]+)"  # whether discharging counts below zero is the driver's choice


def find(seen: Mapping[str, str]) -> list[Found]:
    """Return the batteries, each as a sensor of its own."""
    kinds = folders(seen, "type")

    def text(folder: str, name: str) -> str:
        return (readable(seen, f"{folder}/{name}") or "").strip()

    plugged = [
        folder.rpartition("/")[2]
        for folder, kind in kinds.items()
        if kind not in ("Battery", "UPS") and text(folder, "online") not in ("", "0")
    ]
    found = []
    for folder, kind in kinds.items():
        if kind != "Battery" or text(folder, "scope") == "Device":  # a mouse's
            continue
        name, status = folder.rpartition("/")[2], text(folder, "status")
        if status != "Discharging" or plugged:
            why = f"{' and '.join(plugged)} gives power" if plugged else f"it is {status.lower()}"
            found.append(
                Found(
                    sensor="battery",
                    refused=f"{name} tells what the device takes only if nothing charges it, and "
                    f"{why or 'it does not say that it discharges'}; unplug it and use Wi-Fi",
                )
            )
            continue
        whats: tuple[str, ...] = ("voltage_now", "current_now")
        if re.search(r"[1-9]", text(folder, "power_now")):
            whats = ("power_now",)
        if not all(re.fullmatch(r"-?[0-9]+", text(folder, what)) for what in whats):
            continue
        terms = tuple(
            Term(what=f"{folder}/{what}", scale=1e-6, pattern=_ABSOLUTE) for what in whats
        )
        rail = Rail(name=name, sensor="battery", terms=terms, source=_SOURCE, every_ms=_EVERY_MS)
        found.append(
            Found(
                sensor="battery", rails=(rail,), total=(name,),
                covers="the whole device, its display and radios too", leaves_out="",
            )
        )  # fmt: skip
    return found
