# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the machine that edgeopt runs on is, as a device profile.

Read from /proc and /sys on Linux; elsewhere what Python's ``platform`` tells. Nothing is guessed:
a fact that the machine does not tell is absent (a clock is 0.0, a cache is left out).
"""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path

from edgeopt.architectures import MACHINES
from edgeopt.device import Cluster, DeviceProfile, OperatingSystem
from edgeopt.errors import InputError

_CPU = Path("/sys/devices/system/cpu")
_RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
_SOURCE = "read from this machine (/proc, /sys, uname, os-release) when the profile was loaded"


def overflows_int8() -> bool:
    """Return what ``DeviceProfile.overflows_int8`` says of the running machine."""
    return detect(id="host", name="host", path="host").overflows_int8


def detect(*, id: str, name: str, path: str) -> DeviceProfile:
    """Return the running machine's profile. Raises InputError on an unknown architecture."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise InputError(
            f"this machine is {machine!r}, expected one of {', '.join(MACHINES)}",
            where=path,
            hint="Name a target other than the host: compiling for another device works here.",
        )
    fields = _cpuinfo()
    tables = ("device", "clusters", "isa", "cache_kib", "memory", "os", "power")
    return DeviceProfile(
        id=id,
        name=name,
        soc=fields.get("model name") or fields.get("Hardware") or machine,
        arch=MACHINES[machine],
        clusters=_clusters(fields),
        isa=tuple((fields.get("flags") or fields.get("Features") or "").split()),
        cache_kib=_caches(),
        ram_mib=(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,),
        memory_copy_mbps=None,
        peak_gflops_fp32=None,
        os=_operating_system(),
        power_w={},
        power_sensor="intel-rapl" if _RAPL.exists() else None,
        reach="local",
        sources={"detected": _SOURCE},
        unverified=(),
        path=path,
        cited={table: ("detected",) for table in tables},
    )


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor of /proc/cpuinfo, {} if there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _clusters(fields: dict[str, str]) -> tuple[Cluster, ...]:
    """Return the cores by their highest clock, fastest first.

    If there is no cpufreq, as in many virtual machines, all cores count as one cluster at the
    clock that /proc/cpuinfo shows, which is the present one.
    """
    count = os.cpu_count() or 1
    files = sorted(_CPU.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq"))
    clocks = Counter(round(int(file.read_text()) / 1e6, 3) for file in files)
    if sum(clocks.values()) != count:
        clocks = Counter({round(float(fields.get("cpu MHz", 0)) / 1e3, 3): count})
    return tuple(
        Cluster(core="host", count=number, max_ghz=ghz)
        for ghz, number in sorted(clocks.items(), reverse=True)
    )


def _caches() -> dict[str, int]:
    found = {}
    for index in sorted((_CPU / "cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / part).read_text().strip() for part in ("level", "type", "size")
        )
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        if amount := re.fullmatch(r"(\d+)K", size):
            found[f"l{level}{suffix}"] = int(amount[1])
    return found


def _operating_system() -> OperatingSystem:
    libc, version = platform.libc_ver()
    if sys.platform == "darwin":
        libc, version = "apple", ""
    elif "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        libc, version = "musl", ""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.platform(terse=True)
    return OperatingSystem(
        name=name,
        libc=libc or "unknown",
        libc_version=version or None,
        python=platform.python_version(),
    )
