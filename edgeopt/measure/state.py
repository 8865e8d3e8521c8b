# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The state of a board while it is measured: load, temperatures, clock, governor."""

from __future__ import annotations

import math
import re
from typing import Any

from edgeopt.boards.transport import Transport

_MOST, _MOST_BYTES = 4096, 1 << 20
_SCRIPT = """
echo "load $(cat /proc/loadavg)"
for zone in /sys/class/thermal/thermal_zone*; do
  [ -r "$zone/temp" ] && echo "temp $(cat "$zone/type") $(cat "$zone/temp")"
done
for policy in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
  [ -r "$policy/scaling_cur_freq" ] && \
    echo "freq $(cat "$policy/scaling_cur_freq") $(cat "$policy/scaling_governor")"
done
true
"""


def read_state(transport: Transport) -> dict[str, Any]:
    """Return the state of the board, without what it has no sensor for.

    That is ``load_1min``, ``temperature_c`` by zone, ``cpu_khz`` and ``governors`` (one for each
    core).
    """
    done = transport.run(["sh", "-c", _SCRIPT], timeout_s=30, limit_bytes=_MOST_BYTES)
    return parse(done.stdout.decode(errors="replace"))


def parse(text: str) -> dict[str, Any]:
    """Turn what the script printed into values; what is no such value is left out."""
    temperatures: dict[str, float] = {}
    clocks: list[int] = []
    governors: list[str] = []
    state: dict[str, Any] = {}
    for line in text.splitlines():
        kind, *words = line.split() or [""]
        if kind == "load" and words and (load := _number(words[0], 0, 1_000_000)) is not None:
            state["load_1min"] = load
        elif kind == "temp" and len(words) == 2 and len(temperatures) < _MOST:
            # sysfs: millidegrees Celsius; a sensor that is off may tell anything
            if (millis := _number(words[1], -273_150, 10_000_000)) is not None:
                temperatures[words[0][:64]] = millis / 1000
        elif (
            kind == "freq"
            and len(words) == 2
            and len(clocks) < _MOST
            and (khz := _number(words[0], 0, 1_000_000_000)) is not None
        ):
            clocks.append(int(khz))
            governors.append(words[1][:64])
    found = {"temperature_c": temperatures, "cpu_khz": clocks, "governors": governors}
    return state | {name: value for name, value in found.items() if value}


def _number(word: str, low: float, high: float) -> float | None:
    value = float(word) if re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", word) else math.nan
    return value if low <= value <= high else None
