# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The default emulated board: an Arm userland in namespaces, under qemu-aarch64 or qemu-arm.

Instructions, libraries, sshd and file system are real; the kernel is the host's. Not emulated:
time, the memory limit (``/proc/meminfo`` is the host's), the number of cores a thread pool can
use at once, and sensors.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from edgeopt.boards.cores import EmulatedCore
from edgeopt.boards.emulated import namespace
from edgeopt.boards.emulated.machine import Machine
from edgeopt.errors import BoardError, MissingDependencyError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RefusedError(BoardError):
    """The kernel refuses the namespaces or mounts that such a board needs."""


_QEMU = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm"}


def missing(arch: str = "aarch64") -> MissingDependencyError | None:
    """Return why this machine cannot run such a board, or None if nothing is known against it.

    A kernel before 6.7, or one that forbids user namespaces, shows only when a board starts.
    """
    if platform.system() != "Linux" or platform.machine() not in namespace.PIVOT_ROOT:
        return MissingDependencyError(
            f"an emulated board needs a Linux host, this is {platform.system()}",
            hint="Use a real board over SSH, or the board 'host'.",
        )
    if platform.machine() == arch:
        return MissingDependencyError(
            "binfmt_misc cannot run qemu-aarch64 on a machine that is aarch64 itself",
            hint="Use --mode full-system.",
        )
    if qemu(arch) is None:
        return MissingDependencyError(
            f"{_QEMU[arch]} is not installed", hint="Install it with: sudo apt install qemu-user"
        )
    if os.geteuid() == 0:
        return None
    if shutil.which("newuidmap") is None:
        return MissingDependencyError(
            "newuidmap is not installed", hint="Install it with: sudo apt install uidmap"
        )
    user = pwd.getpwuid(os.geteuid()).pw_name
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        owners = {x.split(":")[0] for x in path.read_text().splitlines()} if path.exists() else ()
        if user not in owners and str(os.geteuid()) not in owners:
            return MissingDependencyError(
                f"{path} has no range for {user}; sshd on the board needs an id to drop to",
                hint="Add one with: sudo usermod --add-subuids 100000-165535 "
                f"--add-subgids 100000-165535 {user}",
            )
    return None


def qemu(arch: str = "aarch64") -> str | None:
    """Return the path of QEMU for ``arch``; the dynamic one is faster than the static one."""
    return shutil.which(_QEMU[arch]) or shutil.which(f"{_QEMU[arch]}-static")


def core_names(arch: str = "aarch64") -> tuple[str, ...]:
    """Return the cores that the installed QEMU models."""
    command = [str(qemu(arch)), "-cpu", "help"]  # exits with 1
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return tuple(done.stdout.split()[2:])  # after "Available CPUs:"


def cpuinfo(core: EmulatedCore, cores: int, isa: tuple[str, ...]) -> str:
    """Return ``/proc/cpuinfo`` as the core's kernel prints it for ``cores`` equal cores."""
    model = ""
    if core.architecture == 7:
        model = f"model name\t: ARMv7 Processor rev {core.revision} (v7l)\n"
    one = (
        f"{model}BogoMIPS\t: 108.00\n"
        f"Features\t: {' '.join(isa)}\n"
        f"CPU implementer\t: {core.implementer:#04x}\n"
        f"CPU architecture: {core.architecture}\n"
        f"CPU variant\t: {core.variant:#x}\n"
        f"CPU part\t: {core.part:#05x}\n"
        f"CPU revision\t: {core.revision}\n"
    )
    return "".join(f"processor\t: {n}\n{one}\n" for n in range(cores))


def sysfs(core: EmulatedCore, cores: int, max_ghz: float) -> dict[str, str]:
    """Return the files under /sys that engines read to learn the cores: path -> text.

    Without them onnxruntime warns and OpenVINO crashes ("Can't open MIDR_EL1 sysfs entry").
    """
    span, every = f"0-{cores - 1}\n", f"{(1 << cores) - 1:x}\n"
    files = {f"cpu/{name}": span for name in ("possible", "present", "online")}
    files |= {"node/node0/cpulist": span, "node/node0/cpumap": every}
    files |= {"node/online": "0\n", "node/possible": "0\n"}
    for n in range(cores):
        alone = f"{1 << n:x}\n"
        if core.architecture == 8:
            files[f"cpu/cpu{n}/regs/identification/midr_el1"] = f"{core.midr:#018x}\n"
        for name, text in {
            "online": "1\n",
            "topology/core_id": f"{n}\n",
            "topology/physical_package_id": "0\n",
            "topology/core_siblings": every,
            "topology/core_siblings_list": span,
            "topology/package_cpus": every,
            "topology/thread_siblings": alone,
            "topology/thread_siblings_list": f"{n}\n",
            "topology/core_cpus": alone,
            "cpufreq/cpuinfo_max_freq": f"{int(max_ghz * 1e6)}\n",
            "cpufreq/cpuinfo_min_freq": f"{int(max_ghz * 1e6)}\n",
        }.items():
            files[f"cpu/cpu{n}/{name}"] = text
    return {f"/sys/devices/system/{path}": text for path, text in files.items()}


def start(machine: Machine) -> int:
    """Start the board and return the host's process id of its process 1, an sshd.

    The port may not answer yet. Raises RefusedError if the kernel does not let us.
    SIGKILL to the returned process ends everything that runs on the board.
    """
    state, core, log = machine.state, machine.core, machine.log
    home, mount = state / "home", state / "mount"
    home.mkdir(mode=0o700, exist_ok=True)
    mount.mkdir(exist_ok=True)
    (state / "cpuinfo").write_text(cpuinfo(core, machine.cores, machine.isa))
    system_files = sysfs(core, machine.cores, machine.device.clusters[0].max_ghz)
    program = qemu(machine.device.arch)
    config = {
        "arch": machine.device.arch,
        "root": str(machine.root),
        "mount": str(mount),
        "home": str(home),
        "hostname": machine.hostname,
        "qemu": program,
        "libraries": _libraries(str(program)),
        "files": {**machine.files, **{path: (t, 0o644) for path, t in system_files.items()}},
        "proc": {"cpuinfo": str(state / "cpuinfo")},
        "log": str(log),
        # sshd hands its own environment to nobody, so the core goes in by SetEnv as well.
        "argv": [
            *("/usr/sbin/sshd", "-D", "-e"),
            *("-o", f"ListenAddress=127.0.0.1:{machine.port}"),
            *("-o", f"SetEnv=QEMU_CPU={core.name}"),
        ],
        "env": {"PATH": _PATH, "HOME": "/root", "QEMU_CPU": core.name},
    }
    path = state / "namespace.json"
    path.touch(mode=0o600)  # it holds the host key
    path.write_text(json.dumps(config))
    process = subprocess.Popen(
        [sys.executable, "-I", namespace.__file__, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=30)
    except BaseException:  # Ctrl-C: the board is in this process group until it is on record
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    finally:
        path.unlink()
    if process.returncode:
        raise RefusedError(
            f"the kernel refuses the board's namespaces ({errors.strip() or 'no reason given'})",
            where=machine.hostname,
            hint="Rootless binfmt_misc needs Linux 6.7 or newer and user namespaces allowed. "
            "Try --mode full-system.",
        )
    return int(output)


def _libraries(program: str) -> list[str]:
    """Return the shared libraries of a program of the host; none for a static one."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", done.stdout)
