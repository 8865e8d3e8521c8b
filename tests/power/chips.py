# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A kernel's own power chips without hardware: i2c-stub with registers, and the chips' drivers.

Debian's arm64 kernel is built without these modules; they are compiled here from its own source,
with its own headers and Debian's cross compiler, and kept in the cache. A static busybox loads
them, and ``registers.c`` writes what the chip then measures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.boards.emulated import full_system, rootfs
from edgeopt.boards.transport import Transport
from edgeopt.runtime.build import ROOT, SMALL, zig_environment

SOURCES = (
    "drivers/i2c/i2c-stub.c",
    "drivers/i2c/i2c-dev.c",
    "drivers/hwmon/ina3221.c",
    "drivers/hwmon/ina2xx.c",
)
_REGISTERS = Path(__file__).with_name("registers.c")
_TOOLS = ("gcc-12-aarch64-linux-gnu", "linux-kbuild-6.1", "linux-source-6.1")
_NEEDED = (
    "binutils-aarch64", "binutils-common", "cpp-12-aarch64", "gcc-12-aarch64", "libbinutils",
    "libc6-arm64", "libctf", "libelf1", "libgcc-12-dev-arm64", "libgmp", "libgprofng", "libisl",
    "libjansson", "libmpc", "libmpfr", "libzstd", "linux-kbuild",
)  # fmt: skip

# $1 the folder with the modules, and then registers of the INA3221 with their values, in pairs. Its
# identity has to stand there before the driver looks (SBOS576, "Register maps").
_LOAD = r"""
set -e
cd "$1"
shift
for name in i2c-stub i2c-dev ina3221; do
  ./busybox insmod ./$name.ko $([ $name = i2c-stub ] && echo chip_addr=0x40)
done
for adapter in /sys/bus/i2c/devices/i2c-*; do
  [ "$(cat "$adapter/name")" = "SMBus stub driver" ] && break
done
./registers /dev/${adapter##*/} 0x40 0x00 0x7127 0xfe 0x5449 0xff 0x3220 "$@"
echo ina3221 0x40 > "$adapter/new_device"
echo "/dev/${adapter##*/}"
cat "$adapter"/*-0040/hwmon/hwmon*/name
"""

SHUNT_OHM = 0.01
"""What the driver takes a shunt for that no device tree tells (drivers/hwmon/ina3221.c)."""


def channel(volt: float, ampere: float, number: int = 1) -> tuple[str, ...]:
    """Return the registers of a channel, with their values, that measures so much.

    Bits 15 to 3 hold steps of 40 uV of the shunt and of 8 mV of the bus.
    """
    shunt, bus = round(ampere * SHUNT_OHM / 40e-6) << 3, round(volt / 8e-3) << 3
    return (f"{2 * number - 1:#x}", f"{shunt:#x}", f"{2 * number:#x}", f"{bus:#x}")


def modules() -> Path:
    """Return a folder with the modules for the emulated board's kernel."""

    def build(folder: Path) -> None:
        with progress.step("Compiling i2c-stub and its chips for the board's kernel"):
            _build(folder)

    parts = (full_system.KERNEL_SUITE, _TOOLS, SOURCES)
    return cache.entry(
        "kernel-modules",
        cache.key(layout=1, parts=parts, registers=cache.file_sha256(_REGISTERS)),
        build,
    )


def _build(folder: Path) -> None:
    work = folder / "work"
    headers = rootfs.download(
        full_system.KERNEL_SUITE, ("linux-headers-arm64", "busybox-static"), folder / "arm64"
    )
    tools = rootfs.download(full_system.KERNEL_SUITE, _TOOLS, folder / "amd64", "amd64")
    wanted = [d for d in headers if d.name.startswith("linux-headers-")]
    wanted += [d for d in tools if d.name.startswith(_NEEDED)]
    # Of the headers' thirty architectures one is needed, and to unpack and remove them all is slow.
    for deb in wanted:
        (work / "usr").mkdir(parents=True, exist_ok=True)
        subprocess.run(
            f"dpkg-deb --fsys-tarfile {deb} | tar -x -C {work} --no-same-owner "
            "--exclude='./usr/src/*/arch/[!a]*' --exclude='./usr/src/*/arch/a[!r]*' "
            "--exclude='./usr/src/*/arch/ar[!m]*' --exclude='./usr/src/*/arch/arm/*' "
            "--exclude='./usr/share/*'",
            shell=True, check=True, executable="/bin/bash",
        )  # fmt: skip
    source = next(d for d in tools if d.name.startswith("linux-source"))
    (folder / "source").mkdir()
    subprocess.run(
        f"dpkg-deb --fsys-tarfile {source} | tar -xO --wildcards './usr/src/*.tar.xz' "
        f"| tar -xJ -C {folder}/source --strip-components=1 --occurrence=1 "  # reads no further
        + " ".join(f"{_TOOLS[-1]}/{name}" for name in SOURCES),
        shell=True, check=True, executable="/bin/bash",
    )  # fmt: skip
    for name in SOURCES:
        shutil.move(folder / "source" / name, folder)
    names = " ".join(Path(name).stem + ".o" for name in SOURCES)
    (folder / "Makefile").write_text(f"obj-m := {names}\n")
    (kernel,) = (work / "usr/src").glob("linux-headers-*-arm64")
    makefile = kernel / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{work}/usr/src/"))
    libraries = work / "usr/lib/x86_64-linux-gnu"
    subprocess.run(
        ["make", "-s", "-C", str(kernel), f"M={folder}", "ARCH=arm64",
         "CROSS_COMPILE=aarch64-linux-gnu-", "modules"],
        env=os.environ | {"PATH": f"{work}/usr/bin:{os.environ['PATH']}",
                          "LD_LIBRARY_PATH": str(libraries)},
        check=True, capture_output=True,
    )  # fmt: skip
    (busybox,) = [d for d in headers if d.name.startswith("busybox-static")]
    rootfs.unpack([busybox], folder / "busybox-static")
    shutil.copy(folder / "busybox-static/usr/bin/busybox", folder / "busybox")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static"]
    subprocess.run(
        # With the runtime's flags and folder zig has this C library already.
        [*zig, *SMALL, str(_REGISTERS), "-o", str(folder / "registers")],
        cwd=ROOT, env=os.environ | zig_environment(), check=True, capture_output=True,
    )  # fmt: skip
    for path in folder.iterdir():
        if path.suffix != ".ko" and path.name not in ("busybox", "registers"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def load(transport: Transport, folder: str, registers: tuple[str, ...]) -> str:
    """Make an INA3221 with ``registers`` on the board; return the bus that it is on."""
    transport.run(["mkdir", "-p", folder], timeout_s=30)
    for path in sorted(modules().iterdir()):
        transport.put(path, f"{folder}/{path.name}", mode=0o755)
    done = transport.run(["sh", "-c", _LOAD, "sh", folder, *registers], timeout_s=60)
    bus, _, name = done.stdout.decode().partition("\n")
    assert name == "ina3221\n", done.stderr
    return bus
