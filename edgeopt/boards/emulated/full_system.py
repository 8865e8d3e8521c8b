# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The high-fidelity emulated board: Debian's arm64 kernel under qemu-system-aarch64.

The kernel, its memory limit and its number of cores are the board's own; time is not. Needs no
user namespace and no binfmt_misc. The system disk is shared and forgets what is written; a second
disk is the home directory, and stays.

The clock of a deterministic board counts instructions: QEMU's icount (docs/devel/tcg-icount.rst).
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.boards.emulated import initrd, rootfs
from edgeopt.boards.emulated.machine import Machine
from edgeopt.device import DeviceProfile
from edgeopt.errors import BoardError, MissingDependencyError

ARCH = "aarch64"
QEMU = "qemu-system-aarch64"
# The kernel's version does not follow the userland's: what a bundle meets is the libc.
KERNEL_SUITE = "bookworm"
_MODULES = ("virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "ext4", "crc32c_generic")
_LAYOUT = 1  # raise it if what is made out of the packages changes
_SYSTEM_DISK = "1G"
_HOME_DISK = "8G"  # sparse: it takes what is written

# The clock goes on by 2^shift ns with each instruction, of whichever core; the cores take turns in
# one thread. While all of them wait it goes on as the host's does: with sleep=off it would jump to
# the next timer, and time-outs of sshd would be over at once.
_ICOUNT = ("-icount", "shift=0,align=off,sleep=on")
# The same at each boot: how memory is copied depends on where it lies.
_SAME_ADDRESSES = "nokaslr norandmaps"

# Runs in the initial RAM disk, by busybox.
_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for m in $($B cat /modules/order); do $B insmod /modules/$m; done
n=0
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do
  n=$((n+1)); [ $n -gt 100 ] && break; $B sleep 0.1
done
# virtio-mmio gives the last disk the first letter; the serial tells which is which.
for d in vda vdb; do
  if [ "$($B cat /sys/block/$d/serial)" = home ]; then home=/dev/$d; else system=/dev/$d; fi
done
$B mount -t ext4 $system /mnt || exec $B poweroff -f
$B mount -t ext4 $home /mnt/root || exec $B poweroff -f
$B cp -a /board/. /mnt/
for d in dev proc sys; do $B mount --move /$d /mnt/$d; done
exec $B switch_root /mnt /usr/sbin/board-init
"""

# Process 1 on the system disk. QEMU's user network gives 10.0.2.15 and reaches nothing else.
_BOARD_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run/sshd /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
hostname -F /etc/hostname
# Lose little of the home disk where QEMU is killed: the defaults write after 30 s.
echo 50 > /proc/sys/vm/dirty_writeback_centisecs
echo 50 > /proc/sys/vm/dirty_expire_centisecs
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
exec /usr/sbin/sshd -D -e -o ListenAddress=0.0.0.0:22 2> /dev/console
"""


def missing() -> MissingDependencyError | None:
    """Return why this machine cannot run such a board, or None."""
    for tool, package in ((QEMU, "qemu-system-arm"), ("mke2fs", "e2fsprogs")):
        if _tool(tool) is None:
            return MissingDependencyError(
                f"{tool} is not installed", hint=f"Install it with: sudo apt install {package}"
            )
    return None


def core_names() -> tuple[str, ...]:
    """Return the cores that the installed qemu-system-aarch64 models."""
    done = subprocess.run([QEMU, "-cpu", "help"], capture_output=True, text=True, check=False)
    return tuple(done.stdout.split()[2:])  # after "Available CPUs:"


def start(machine: Machine) -> int:
    """Boot the board and return QEMU's process id; sshd answers some seconds later.

    Raises BoardError if QEMU does not start. SIGKILL to the process is a power cut.
    """
    kernel, disk = _kernel(), _system_disk(machine.root)
    state = machine.state
    home, initial, pid_file = state / "home.img", state / "initrd", state / "qemu.pid"
    if not home.exists():
        _mke2fs(["-E", "root_owner=0:0"], home, _HOME_DISK)
    own = {f"board{path}": (text.encode(), mode) for path, (text, mode) in machine.files.items()}
    own["board/usr/sbin/board-init"] = (_BOARD_INIT.encode(), 0o755)
    initial.touch(mode=0o600)  # it holds the host key
    initial.write_bytes((kernel / "initrd.gz").read_bytes() + gzip.compress(initrd.cpio(own)))
    pid_file.unlink(missing_ok=True)
    same = f" {_SAME_ADDRESSES}" if machine.counts_instructions else ""
    command = [
        *(QEMU, "-M", "virt", "-cpu", machine.core.name, "-smp", str(machine.cores)),
        *("-m", str(ram_mib(machine.device))),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{machine.log}"),
        *("-kernel", str(kernel / "vmlinuz"), "-initrd", str(initial)),
        *("-append", f"console=ttyAMA0 quiet panic=-1{same}"),
        *("-drive", f"file={_escaped(home)},if=none,id=home,format=raw"),
        *("-device", "virtio-blk-device,drive=home,serial=home"),
        *("-drive", f"file={_escaped(disk)},if=none,id=system,format=raw,snapshot=on"),
        *("-device", "virtio-blk-device,drive=system", "-device", "virtio-rng-device"),
        *("-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{machine.port}-:22"),
        *("-device", "virtio-net-device,netdev=n"),
        *(_ICOUNT if machine.counts_instructions else ()),
        *("-daemonize", "-pidfile", str(pid_file)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except BaseException:  # Ctrl-C: a QEMU that became a daemon must not stay
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), 9)
        raise
    if done.returncode:
        raise BoardError(f"QEMU does not start: {done.stderr.strip()}", where=machine.hostname)
    return int(pid_file.read_text())


def ram_mib(device: DeviceProfile) -> int:
    """Return the largest memory size of the device that takes at most half of this machine's.

    If none is that small, it is the smallest.
    """
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21
    return max((m for m in device.ram_mib if m <= half), default=min(device.ram_mib))


def _kernel() -> Path:
    """Return a directory with Debian's arm64 ``vmlinuz`` and its ``initrd.gz``."""

    def build(folder: Path) -> None:
        with progress.step("Fetching Debian's arm64 kernel"):
            debs = rootfs.download(
                KERNEL_SUITE, ("linux-image-arm64", "busybox-static"), folder / "apt"
            )
            wanted = [d for d in debs if d.name.startswith(("linux-image-6", "busybox-static"))]
            rootfs.unpack(wanted, folder / "root")
            shutil.copy(next((folder / "root/boot").glob("vmlinuz-*")), folder / "vmlinuz")
            files = {
                "init": (_INIT.encode(), 0o755),
                "bin/busybox": ((folder / "root/bin/busybox").read_bytes(), 0o755),
                **{f"{name}/": (b"", 0o755) for name in ("proc", "sys", "dev", "mnt")},
            }
            modules = initrd.load_order(next((folder / "root/lib/modules").iterdir()), _MODULES)
            files |= {f"modules/{m.name}": (m.read_bytes(), 0o644) for m in modules}
            files["modules/order"] = ("\n".join(m.name for m in modules).encode(), 0o644)
            (folder / "initrd.gz").write_bytes(gzip.compress(initrd.cpio(files)))
            for name in ("apt", "root"):
                shutil.rmtree(folder / name)

    parts = (KERNEL_SUITE, *_MODULES, _INIT)
    return cache.entry("kernel", cache.key(layout=_LAYOUT, parts=parts), build)


def _system_disk(root: Path) -> Path:
    """Return an ext4 image of the userland (cached by the userland's own key)."""

    def build(folder: Path) -> None:
        with progress.step("Making the board's system disk"):
            options = ["-E", "root_owner=0:0", "-O", "^has_journal", "-d", str(root)]
            _mke2fs(options, folder / "system.img", _SYSTEM_DISK)

    key = cache.key(layout=_LAYOUT, userland=root.parent.name)
    return cache.entry("disk", key, build) / "system.img"


def _mke2fs(options: Iterable[str], image: Path, size: str) -> None:
    command = [str(_tool("mke2fs")), "-q", "-t", "ext4", *options, str(image), size]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        image.unlink(missing_ok=True)
        raise BoardError(f"mke2fs failed: {done.stderr.strip()}", where=str(image))


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's option syntax


def _tool(name: str) -> str | None:
    # An ordinary user's PATH often lacks the sbin folders.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
