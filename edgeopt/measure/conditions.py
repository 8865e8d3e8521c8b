# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The state of the board while an artifact was timed, and whether it was fit to be timed in.

What is sampled: temperatures, clocks, cooling devices, the firmware's word on throttling, the CPU
time that all programs took, and free memory. A run that the board throttled, or that others
disturbed, is marked: it is not to be ranked with others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.boards.files import readable
from edgeopt.boards.transport import Transport
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure.measurement import Run
from edgeopt.measure.state import read_state
from edgeopt.measure.trace import Reads, Source, Trace

_ZONES = "/sys/class/thermal/thermal_zone*"
_COOLING = "/sys/class/thermal/cooling_device*"
_POLICIES = "/sys/devices/system/cpu/cpufreq/policy*"
_PI_FILE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_COMMAND = "vcgencmd get_throttled"
_STAT, _MEMORY = "/proc/stat", "/proc/meminfo"

FILES = (
    f"{_ZONES}/type",
    f"{_ZONES}/temp",
    f"{_COOLING}/type",
    f"{_COOLING}/cur_state",
    f"{_POLICIES}/scaling_cur_freq",
    "/sys/devices/system/cpu/cpu0/thermal_throttle/*_throttle_count",
    "/sys/class/hwmon/hwmon*/oc[0-9]_event_cnt",
    "/sys/class/hwmon/hwmon*/oc[0-9]_throt_en",
    _PI_FILE,
    _STAT,
    _MEMORY,
)
TOLD_ONCE = ("nvpmodel -q", "tegrastats --interval 200 | head -n 1")
"""Commands of a Jetson whose answers stand in the measurement: its power mode and its summary."""
COMMANDS = (_PI_COMMAND, *TOLD_ONCE)

_EVERY_MS, _COMMAND_MS = 500, 1000
_MOST_OF_A_KIND = 16

_DISTURBED_CORES = 0.1
"""Others that take more of a core than this on average disturb. An idle Linux with sshd takes some
hundredths."""
_TICK_S = 0.01  # USER_HZ is 100 on all our architectures (proc(5), /proc/stat)
_CLOCK_FELL = 0.95

# Raspberry Pi documentation, "vcgencmd", get_throttled: what is so now, and 16 bits above, what has
# been so since the board was started.
_PI_BITS = {
    0: "under-voltage",
    1: "clock capped",
    2: "throttled",
    3: "soft temperature limit",
}

COOL_LIMIT_S = 900.0
_COOL_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a run was timed in.

    ``throttled`` and ``disturbed`` are reasons, () for none. ``temperature_c`` is the hottest of
    each zone, ``clock_khz`` the least and the most of the fastest core's, ``others_cores`` how many
    cores other programs took, ``memory_available_bytes`` the least; None is what the board does not
    tell. ``sampler_share`` is the sampler's own CPU time as a share of one core.
    """

    throttled: tuple[str, ...] = ()
    disturbed: tuple[str, ...] = ()
    temperature_c: Mapping[str, float] = field(default_factory=dict)
    clock_khz: tuple[int, int] | None = None
    others_cores: float | None = None
    memory_available_bytes: int | None = None
    sampler_share: float | None = None

    @property
    def fit(self) -> bool:
        """True if the run may be ranked with others."""
        return not self.throttled and not self.disturbed


def sources(seen: Mapping[str, str]) -> tuple[Source, ...]:
    """Return what of the board's files is to be read beside a run."""

    def files(like: str) -> list[str]:
        matching = [p for p in seen if re.fullmatch(like, p) and readable(seen, p) is not None]
        return sorted(matching, key=_natural)[:_MOST_OF_A_KIND]

    zones = files(r".*/thermal_zone\d+/temp")
    zones = [z for z in zones if re.fullmatch(r"-?\d+\s*", seen[z])]  # off zones tell nothing
    cooling = [
        p
        for p in files(r".*/cooling_device\d+/cur_state")
        if re.search(
            "cpu|processor|devfreq|gpu", seen.get(p[: -len("cur_state")] + "type", ""), re.I
        )
    ]
    counts = files(r".*/thermal_throttle/(core|package)_throttle_count") + files(
        r".*/oc\d_event_cnt"
    )
    found = [
        *zones,
        *cooling,
        *files(r".*/policy\d+/scaling_cur_freq"),
        *counts,
        *files(re.escape(_PI_FILE)),
    ]
    kept = [Source(what=path, every_ms=_EVERY_MS) for path in found]
    if _PI_FILE not in found and readable(seen, _PI_COMMAND):
        kept.append(Source(what=_PI_COMMAND, every_ms=_COMMAND_MS))
    if _STAT in seen:
        kept.append(Source(what=_STAT, every_ms=_EVERY_MS, keep=r"^cpu [0-9 ]+[0-9]"))
    if _MEMORY in seen:
        kept.append(Source(what=_MEMORY, every_ms=_EVERY_MS, keep=r"MemAvailable: +\d+ kB"))
    return tuple(kept)


def told_once(seen: Mapping[str, str]) -> dict[str, str]:
    """Return what the board's own tools say of its power mode, by command."""
    return {c: text.strip()[:2000] for c in TOLD_ONCE if (text := readable(seen, c))}


def judge(run: Run, cores: int) -> Conditions | None:
    """Return what ``run`` was timed in on a board of so many cores; None if nothing was read."""
    trace = run.trace
    if trace is None or not trace.reads:
        return None
    span = (trace.run_begin_ns, trace.run_end_ns)
    others = _others(run, trace)
    disturbed = []
    seconds = (span[1] - span[0]) / 1e9
    if others is not None and others > _DISTURBED_CORES + 2 * _TICK_S * cores / seconds:
        disturbed.append(f"other programs took {others:.2f} cores")
    clocks = [
        [int(t) for t in reads.within(*span) if t.isdigit()] for reads in _like(trace, "cur_freq")
    ]
    fastest = max(clocks, key=lambda each: max(each, default=0), default=[])
    available = [
        int(t.split()[1]) * 1024
        for reads in _like(trace, _MEMORY)
        for t in reads.within(*span)
        if re.fullmatch(r"MemAvailable: +\d+ kB", t)
    ]
    return Conditions(
        throttled=tuple(_throttled(trace, span, fastest)),
        disturbed=tuple(disturbed),
        temperature_c={
            reads.what.split("/")[-2]: max(temperatures)
            for reads in _like(trace, "/temp")
            if (temperatures := [int(t) / 1000 for t in reads.within(*span) if _is_integer(t)])
        },
        clock_khz=(min(fastest), max(fastest)) if fastest else None,
        others_cores=others,
        memory_available_bytes=min(available, default=None),
        sampler_share=trace.sampler_cpu_ns / trace.sampler_ns if trace.sampler_ns else None,
    )


def cool(
    transport: Transport,
    to_c: float,
    *,
    limit_s: float = COOL_LIMIT_S,
    every_s: float = _COOL_EVERY_S,
) -> float:
    """Wait until the processor is no hotter than ``to_c``, and return how hot it is.

    Its zones are those named cpu, soc or package, all if there are none. Raises InputError if the
    board tells no temperature, MeasurementError if it stays hotter for ``limit_s``.
    """
    until = time.monotonic() + limit_s
    while True:
        zones = read_state(transport).get("temperature_c", {})
        own = {n: t for n, t in zones.items() if re.search("cpu|soc|pkg|package|core", n, re.I)}
        if not zones:
            raise InputError(
                "tells no temperature to cool down to",
                where=transport.name,
                hint="Leave --cool-to out.",
            )
        name, hottest = max((own or zones).items(), key=lambda item: item[1])
        if hottest <= to_c:
            return float(hottest)
        if time.monotonic() >= until:
            raise MeasurementError(
                f"{name} is still at {hottest:.1f} °C after {limit_s:g} s, not {to_c:g}",
                where=transport.name,
                hint="Give it a fan, or a higher --cool-to.",
            )
        time.sleep(every_s)


def _natural(path: str) -> list[object]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def _like(trace: Trace, part: str) -> list[Reads]:
    return [reads for reads in trace.reads if part in reads.what]


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,9}", text) is not None


def _throttled(trace: Trace, span: tuple[int, int], clocks: list[int]) -> list[str]:
    """Return how the board held itself back within ``span``."""
    found: dict[str, None] = {}
    for reads in trace.reads:
        within = reads.within(*span)
        if "get_throttled" in reads.what:
            masks = [m for m in map(_mask, reads.text) if m is not None]
            inside = [m for m in map(_mask, within) if m is not None]
            new = (masks[-1] & ~masks[0]) >> 16 if masks else 0
            for bit, name in _PI_BITS.items():
                if any(mask >> bit & 1 for mask in inside) or new >> bit & 1:
                    found[name] = None
        elif "cur_state" in reads.what:
            if any(t.isdigit() and int(t) > 0 for t in within):
                found[f"{reads.what.split('/')[-2]} held it back"] = None
        elif "throttle_count" in reads.what or "event_cnt" in reads.what:
            counts = [int(t) for t in within if t.isdigit()]
            if counts and counts[-1] > counts[0]:
                found[f"{reads.what.rpartition('/')[2]} rose"] = None
    third = len(clocks) // 3
    if third and (last := _median(clocks[-third:])) < _CLOCK_FELL * (
        first := _median(clocks[:third])
    ):
        found[f"the clock fell from {first / 1e6:.2f} to {last / 1e6:.2f} GHz"] = None
    return list(found)


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def _mask(text: str) -> int | None:
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text)
    return int(found[1], 16) if found else None


def _others(run: Run, trace: Trace) -> float | None:
    """Return how many cores other programs took; None if the board does not tell.

    That is all CPU time but that of idling and waiting, without the measured process's and the
    sampler's. What is stolen from a virtual machine counts.
    """
    reads = trace.of(_STAT)
    if reads is None:
        return None
    busy = []
    for at, text in zip(reads.begin_ns, reads.text, strict=True):
        if found := re.fullmatch(r"cpu ((?: *\d+){8})[0-9 ]*", text):
            ticks = [int(n) for n in found[1].split()]
            busy.append((at, (sum(ticks) - ticks[3] - ticks[4]) * _TICK_S))
    inside = [(at, b) for at, b in busy if trace.run_begin_ns <= at <= trace.run_end_ns]
    if len(inside) < 2:
        return None
    # From the first to the last reading within: our own share of it is what we had on average.
    seconds = (inside[-1][0] - inside[0][0]) / 1e9
    own = sum(run.cpu_ns) / (trace.run_end_ns - trace.run_begin_ns)
    sampler = trace.sampler_cpu_ns / trace.sampler_ns if trace.sampler_ns else 0.0
    return max(0.0, (inside[-1][1] - inside[0][1]) / seconds - own - sampler)
