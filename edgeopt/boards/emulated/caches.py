# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The data caches of a device as the counting plugin models them (``counting/caches.h``).

Sizes are the device profile's. Ways and the line's 64 bytes are those of the cores' Technical
Reference Manuals, chapters "L1 memory system" and "L2 memory system"; of the level that a DynamIQ
cluster shares, those of the DynamIQ Shared Unit's, chapter "L3 cache".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeopt.device import DeviceProfile
from edgeopt.errors import InputError

LINE_BYTES = 64

_WAYS = {  # core -> of its L1 data cache and of its L2
    "cortex-a7": (4, 8),
    "cortex-a53": (4, 16),
    "cortex-a57": (2, 16),
    "cortex-a72": (2, 16),
    "cortex-a76": (4, 8),
    "cortex-a78ae": (4, 8),
}
_L3_WAYS = 16
_L3_WAYS_OF_THIRDS = 12
"""Of an L3 of 1.5 or 3 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One level: its name in the figures, its size in KiB and its ways."""

    name: str
    kib: int
    ways: int


def levels(device: DeviceProfile) -> tuple[Level, ...]:
    """Return the data caches of the device's first cluster, as one core alone sees them.

    Raises InputError if the profile tells no sizes, or the core's ways are not known.
    """
    core = device.clusters[0].core
    ways = _WAYS.get(core)
    sizes = dict(_sizes(device, core.rpartition("-")[2]))
    if ways is None or not {"l1d", "l2"} <= sizes.keys():
        what = "ways" if ways is None else "sizes"
        raise InputError(
            f"the {what} of the data caches of its {core} are not known, so that they cannot be "
            "modelled",
            where=device.path,
            hint="Count without: --counters. Sizes stand in the profile's [cache_kib]: l1d, l2.",
        )
    l3_ways = _L3_WAYS if sizes.get("l3", 0) % 3 else _L3_WAYS_OF_THIRDS
    named = zip(("l1d", "l2", "l3"), (*ways, l3_ways), strict=True)
    found = tuple(Level(name=n, kib=sizes[n], ways=w) for n, w in named if n in sizes)
    for level in found:
        sets, rest = divmod(1024 * level.kib, LINE_BYTES * level.ways)
        if rest or sets.bit_count() != 1:
            raise InputError(
                f"{level.name} of {level.kib} KiB in {level.ways} ways has no number of sets that "
                "is a power of 2, as a cache has",
                where=device.path,
                hint="Look at the profile's [cache_kib], or count without: --counters.",
            )
    return found


def _sizes(device: DeviceProfile, core: str) -> Iterator[tuple[str, int]]:
    """Yield level and KiB: ``l2`` stands as it is, by ``core`` (l2_a76), or by whose it is."""
    for level in ("l1d", "l2", "l3"):
        for key in (level, *(f"{level}_{w}" for w in (core, "per_core", "shared", "per_cluster"))):
            if key in device.cache_kib:
                yield level, device.cache_kib[key]
                break


def geometry(found: Sequence[Level]) -> str:
    """Return ``found`` as the plugin reads it: "64:32/2:1024/16"."""
    return ":".join([str(LINE_BYTES), *(f"{level.kib}/{level.ways}" for level in found)])
