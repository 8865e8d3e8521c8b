"""The state of a board while it is measured: load, temperatures, clock, governor."""

from __future__ import annotations

from typing import Any

from edgeopt.boards.transport import Transport

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
    """Return ``load_1min``, ``temperature_c`` by zone, ``cpu_khz`` and ``governors`` (one for
    each core); a board that lacks a sensor leaves it out."""
    text = transport.run(["sh", "-c", _SCRIPT], timeout_s=30).stdout.decode(errors="replace")
    return parse(text)


def parse(text: str) -> dict[str, Any]:
    """Turn what the script printed into values."""
    temperatures: dict[str, float] = {}
    clocks: list[int] = []
    governors: list[str] = []
    state: dict[str, Any] = {}
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == "load" and words:
            state["load_1min"] = float(words[0])
        elif kind == "temp" and len(words) == 2:
            temperatures[words[0]] = int(words[1]) / 1000  # sysfs: millidegrees Celsius
        elif kind == "freq" and len(words) == 2:
            clocks.append(int(words[0]))
            governors.append(words[1])
    found = {"temperature_c": temperatures, "cpu_khz": clocks, "governors": governors}
    return state | {name: value for name, value in found.items() if value}
