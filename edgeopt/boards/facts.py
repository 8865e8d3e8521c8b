# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a board is, read off it in one go: cores, ISA, libc, memory, disk, sensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.architectures import of_machine
from edgeopt.boards import cores as arm
from edgeopt.boards.transport import Transport, parse_df
from edgeopt.engines.select import Platform
from edgeopt.errors import BoardError

_MARK = "@@edgeopt "
TIMEOUT_S = 15.0  # a Pi Zero needs 3 s; silent or dripping, it is given up
_MOST_BYTES = 1 << 20
_MOST_CORES, _MOST_NAME, _MOST_PATH = 4096, 500, 4000
_QEMU_VIRT = "linux,dummy-virt"  # the device tree's model of QEMU's machine "virt"
EMULATED_FILE = "/etc/edgeopt-emulated"
"""What an emulated board carries, so that it tells what it is to whoever reaches it, and how."""

# POSIX sh, and no tool that BusyBox lacks (its grep stops at a NUL, hence tr). What a board does
# not have leaves its section empty.
SCRIPT = r"""
s() { echo; echo "@@edgeopt $1"; }
s kernel; uname -s -r
s machine; uname -m
s elf; od -A n -t x1 -N 5 /bin/sh
s cpuinfo; cat /proc/cpuinfo
s meminfo; cat /proc/meminfo
s home; echo "$HOME"
s disk; df -P -k "$HOME"
s os; cat /etc/os-release || cat /usr/lib/os-release
s libc
for f in /lib/*/libc.so.6 /lib64/libc.so.6 /lib/libc.so.6 /usr/lib/libc.so.6; do
  if [ -x "$f" ]; then "$f" < /dev/null | head -n 1; break; fi
done
ldd --version 2>&1 | head -n 2
[ -e /system/bin/linker64 ] && echo bionic && getprop ro.build.version.sdk
s libstdcxx
for f in /usr/lib/*/libstdc++.so.6 /usr/lib64/libstdc++.so.6 /usr/lib/libstdc++.so.6; do
  [ -e "$f" ] || continue
  tr '\000' '\n' < "$f" | LC_ALL=C grep -a -o '^GLIBCXX_[0-9][0-9.]*$' | sort -u; break
done
s model; tr -d '\000' < /proc/device-tree/model || cat /sys/class/dmi/id/product_name
s thermal; cat /sys/class/thermal/thermal_zone*/type
s hwmon; cat /sys/class/hwmon/hwmon*/name
s iio; cat /sys/bus/iio/devices/iio:device*/name /sys/bus/i2c/drivers/ina3221x/*/iio:device*/name
s rapl; cat /sys/class/powercap/intel-rapl:*/name
s vcgencmd; command -v vcgencmd
s libraries
for d in /usr/local/lib /usr/lib/*-linux-* /usr/lib64 /usr/lib; do
  for f in "$d"/libonnxruntime.so*; do [ -e "$f" ] && echo "$f"; done
done
s governor; cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
s emulated; cat /etc/edgeopt-emulated
s end
"""
_NAMES = tuple(re.findall("^s ([a-z]+)", SCRIPT, re.MULTILINE))
_LATER = ("emulated", "libraries")  # what boards were recorded without


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardFacts:
    """What one board said about itself.

    ``arch`` is that of its programs (aarch64, armv7, x86_64): a 32-bit userland on a 64-bit
    kernel is armv7. ``libc`` is glibc, musl, bionic or unknown; ``glibcxx`` is the newest symbol
    version of its libstdc++, such as 3.4.30. ``cores`` names each core in order; ``isa`` holds
    the features that every core has, by the names of /proc/cpuinfo. ``libraries`` are paths of
    the engine libraries that its system has, ``sensors`` are kind:name.
    ``emulated`` is true if the board says that it is, whatever way it was reached.
    """

    arch: str
    model: str | None
    kernel: str
    os: str
    libc: str
    libc_version: str | None
    glibcxx: str | None
    cores: tuple[str, ...]
    isa: tuple[str, ...]
    ram_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int
    libraries: tuple[str, ...]
    sensors: tuple[str, ...]
    governor: str | None
    home: str
    emulated: bool

    @property
    def platform(self) -> Platform:
        """What decides which engine builds run here."""
        return Platform(
            arch=self.arch,
            libc=self.libc,
            libc_version=self.libc_version,
            glibcxx=self.glibcxx,
            isa=self.isa,
            cores=self.cores,
            libraries=self.libraries,
        )

    @property
    def machine(self) -> str:
        """One line, such as ``Raspberry Pi 4 Model B: 4x cortex-a72, 3.7 GiB, Debian 12``."""
        kinds = ", ".join(f"{n}x {core}" for core, n in Counter(self.cores).items())
        ram = f"{self.ram_bytes / 2**30:.1f} GiB"
        libc = f"{self.libc} {self.libc_version or ''}".strip()
        text = f"{kinds} ({self.arch}), {ram}, {self.os}, {libc}"
        return f"{self.model}: {text}" if self.model else text


def gather(transport: Transport, *, timeout_s: float = TIMEOUT_S) -> BoardFacts:
    """Ask the board. Raises BoardError if it is no Linux that edgeopt understands."""
    done = transport.run(
        ["sh", "-c", f"exec 2>/dev/null\n{SCRIPT}"], timeout_s=timeout_s, limit_bytes=_MOST_BYTES
    )
    text = done.stdout.decode(errors="replace")
    if f"{_MARK}end" not in text:
        said = (text or done.stderr.decode(errors="replace")).strip()[-200:]
        raise BoardError(
            f"did not answer what it is (exit status {done.exit_status}, {said!r})",
            where=transport.name,
            hint="The user needs a login shell, and the board a POSIX sh.",
        )
    try:
        return parse(text)
    except ValueError as exc:
        raise BoardError(
            f"says something unexpected about itself: {exc}", where=transport.name
        ) from exc


def parse(text: str) -> BoardFacts:
    """Turn the output of ``SCRIPT`` into facts. Raises ValueError naming what cannot be read."""
    sections = _sections(text)
    if missing := [n for n in _NAMES if n not in sections and n not in _LATER]:
        raise ValueError(f"nothing on {', '.join(missing)}")
    cpus = _stanzas(sections["cpuinfo"])
    libc, libc_version = _libc(sections["libc"])
    meminfo = {
        found[1]: int(found[2]) * 1024
        for found in re.finditer(
            r"^(\w{1,64}):\s+([0-9]{1,14}) kB", sections["meminfo"], re.MULTILINE
        )
    }
    disk_free_bytes = parse_df(sections["disk"])
    if disk_free_bytes is None:
        raise ValueError("df does not tell the free space of the home directory")
    if not cpus or not meminfo.get("MemTotal"):
        raise ValueError("/proc/cpuinfo or /proc/meminfo is not Linux's")
    if len(cpus) > _MOST_CORES:
        raise ValueError(f"{len(cpus)} processors")
    arch = _arch(sections["machine"].strip(), sections["elf"])
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", arch):
        raise ValueError(f"{arch[:40]!r} as its machine")
    home = sections["home"].strip("\n")
    if not home.startswith("/") or len(home) > _MOST_PATH or not _shows(home):
        raise ValueError(f"{home[:40]!r} as its home directory")
    return BoardFacts(
        arch=arch,
        model=_line(sections["model"]) or None,
        kernel=_line(sections["kernel"]),
        os=_os_name(sections["os"]),
        libc=libc,
        libc_version=libc_version,
        glibcxx=_newest(
            re.findall(r"GLIBCXX_([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})", sections["libstdcxx"])
        ),
        cores=tuple(_core(cpu) for cpu in cpus),
        isa=_isa(cpus),
        ram_bytes=meminfo["MemTotal"],
        ram_available_bytes=meminfo.get("MemAvailable", meminfo.get("MemFree", 0)),
        disk_free_bytes=disk_free_bytes,
        libraries=_libraries(sections.get("libraries", "")),
        sensors=_sensors(sections),
        governor=_line(sections["governor"]) or None,
        home=home,
        emulated=bool(sections.get("emulated", "").strip())
        or sections["model"].strip() == _QEMU_VIRT,
    )


def _sections(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(_MARK)[1:]:
        name, _, body = part.partition("\n")
        found[name.strip()] = body
    return found


def _line(text: str) -> str:
    """Return a name that is shown; one that is too long to be one is refused."""
    text = text.strip()
    if len(text) > _MOST_NAME:
        raise ValueError(f"a name of {len(text)} characters: {text[:40]!r}")
    return text


def _shows(path: str) -> bool:
    return path.isprintable() and "\ufffd" not in path


def _arch(machine: str, elf: str) -> str:
    bits = elf.split()  # 7f 45 4c 46 and then 01 for 32 bits, 02 for 64
    arch = of_machine(machine)
    return "armv7" if arch == "aarch64" and bits[4:5] == ["01"] else arch


def _libraries(text: str) -> tuple[str, ...]:
    lines = filter(None, map(str.strip, text.splitlines()))
    found = [line for line in lines if line.startswith("/") and len(line) <= _MOST_PATH]
    return tuple(line for line in found if _shows(line))


def _stanzas(cpuinfo: str) -> list[dict[str, str]]:
    """Return one table per processor; keys after the last (Hardware, Model) belong to none."""
    cpus: list[dict[str, str]] = []
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        key = key.strip()
        if not colon:
            continue
        if key == "processor":
            cpus.append({})
        elif cpus:
            cpus[-1].setdefault(key, value.strip())
    return cpus


def _core(cpu: Mapping[str, str]) -> str:
    if "CPU part" in cpu:
        return arm.name_of(*(_hex(cpu.get(n, "0")) for n in ("CPU implementer", "CPU part")))
    return _line(cpu.get("model name", "unknown"))


def _hex(text: str) -> int:
    if not re.fullmatch("0x[0-9a-fA-F]{1,8}|0", text):
        raise ValueError(f"{text[:40]!r} as the number of a core")
    return int(text, 16)


def _isa(cpus: list[dict[str, str]]) -> tuple[str, ...]:
    each = [(cpu.get("Features") or cpu.get("flags") or "").split() for cpu in cpus]
    rest = [set(features) for features in each[1:]]
    return tuple(f for f in each[0] if all(f in other for other in rest))


def _os_name(text: str) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return _line(found[1]) if found else "unknown"


def _libc(text: str) -> tuple[str, str | None]:
    if found := re.search(r"musl libc.*\n\s*Version (\S{1,32})", text):
        return "musl", found[1]
    if found := re.search(
        r"(?:GLIBC|GNU libc|GNU C Library).*?([0-9]{1,4}\.[0-9]{1,4})\.?\s*$", text, re.M
    ):
        return "glibc", found[1]
    if "bionic" in text:
        return "bionic", None
    return "unknown", None


def _newest(versions: list[str]) -> str | None:
    return max(versions, key=lambda v: tuple(int(n) for n in v.split(".")), default=None)


def _sensors(sections: Mapping[str, str]) -> tuple[str, ...]:
    found = [
        f"{kind}:{name}"
        for kind in ("thermal", "hwmon", "iio", "rapl")
        for name in map(_line, sections[kind].split())
    ]
    if sections["vcgencmd"].strip():
        found.append("vcgencmd")
    return tuple(dict.fromkeys(found))
