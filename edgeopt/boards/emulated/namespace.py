# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Turn this process into an Arm userland: namespaces, mounts, binfmt_misc, then exec.

Run as a program by ``user_mode`` (``python -I namespace.py CONFIG``); standard library only, and
nothing of edgeopt is imported. Three processes: this one maps user ids for the child, the child
makes the namespaces, and the grandchild, process 1 of the board, mounts and executes. Once it
has executed, its process id on the host is printed. Errors go to stderr, exit status 1.

CONFIG is a JSON file:
    root      directory of the userland; stays untouched (an overlay lies on it)
    mount     empty directory that the board's file system is put together in
    home      directory of this user that becomes the board's /root
    hostname  the board's
    arch      of its programs: aarch64 or armv7
    qemu      QEMU of the host for them, opened once and kept by the kernel (flag F)
    libraries absolute paths of the host's files that a dynamic qemu needs inside
    files     path -> [text, mode], written into the board
    proc      file name -> host path, bound over /proc/NAME
    log       host path for the board's stdout and stderr
    argv, env what to execute
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

# <linux/sched.h>, <linux/mount.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}  # system call numbers

# Magic of little-endian ELF programs: 64-bit AArch64 and 32-bit Arm, and the mask for both (QEMU
# scripts/qemu-binfmt-conf.sh). Flags: O the kernel opens the binary, C with its credentials, F the
# interpreter is opened now.
MAGIC = {
    "aarch64": r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    "armv7": r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00",
}
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError naming ``what`` if a C call returned below zero."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, at: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    arguments = [x.encode() or None for x in (source, at, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), f"mount {at}")


def bind(source: str, at: str) -> None:
    """Bind a file or directory, making the mount point if it is absent."""
    target = Path(at)
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, at, "", MS_BIND | MS_REC)


def map_ids(pid: int) -> None:
    """Map user and group ids of the user namespace of ``pid``, which has none yet.

    Root of the host maps all ids to themselves. Anybody else becomes root of the board, and the
    ranges of /etc/subuid and /etc/subgid follow from 1 on: sshd needs an id to drop to.
    """
    if os.geteuid() == 0:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 0 65536\n")
        return
    user = pwd.getpwuid(os.geteuid()).pw_name
    for tool, path, own in (
        ("newuidmap", "/etc/subuid", os.geteuid()),
        ("newgidmap", "/etc/subgid", os.getegid()),
    ):
        for line in Path(path).read_text().splitlines():
            owner, start, count = line.split(":")
            if owner in (user, str(os.geteuid())):
                break
        else:
            raise OSError(f"{path} has no range for {user}")
        subprocess.run([tool, str(pid), "0", str(own), "1", "1", start, count], check=True)


def build(config: dict) -> None:
    """Put the board's file system together under ``config["mount"]`` and make it the root."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    # What the board writes to its system lies in memory and goes with it; its home stays.
    mount("tmpfs", config["mount"], "tmpfs", 0, "mode=755")
    os.chdir(config["mount"])
    for name in ("lower", "upper", "work", "root"):
        os.mkdir(name)
    mount(config["root"], "lower", "", MS_BIND)
    mount("overlay", "root", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work,userxattr")
    os.chdir("root")
    mount("proc", "proc", "proc")
    mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        bind(f"/dev/{name}", f"dev/{name}")
    os.mkdir("dev/pts")
    os.mkdir("dev/shm")
    mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", "dev/ptmx")
    os.symlink("/proc/self/fd", "dev/fd")
    mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    # The real sysfs needs a network namespace of its own, and would show the host's cores.
    mount("tmpfs", "sys", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    bind(config["home"], "root")
    os.mkdir("run/sshd", 0o755)
    for path, (text, mode) in config["files"].items():
        file = Path(path.lstrip("/"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    for name, path in config["proc"].items():
        bind(path, f"proc/{name}")
    for path in config["libraries"]:
        if path.startswith("/lib64/") and not Path("lib64").exists():
            Path("usr/lib64").mkdir(exist_ok=True)
            os.symlink("usr/lib64", "lib64")
        bind(os.path.realpath(path), path.lstrip("/"))
    os.mkdir("run/binfmt_misc")
    mount("none", "run/binfmt_misc", "binfmt_misc")
    rule = f":qemu:M::{MAGIC[config['arch']]}:{MASK}:{config['qemu']}:OCF"
    Path("run/binfmt_misc/register").write_text(rule)
    check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount")  # the host's files are out of reach from here
    os.chdir("/")
    socket.sethostname(config["hostname"])


def become_board(config: dict, error: int) -> None:
    """Build the root and execute; what fails is written to the pipe ``error`` (never returns)."""
    try:
        log = os.open(config["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        build(config)
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.umask(0o022)
        os.execve(config["argv"][0], config["argv"], config["env"])
    except Exception as exc:  # noqa: BLE001  a forked child has nobody else to tell
        os.write(error, f"{type(exc).__name__}: {exc}".encode())
    os._exit(1)


def make_namespaces(config: dict, ready: int, mapped: int) -> None:
    """Make the namespaces, start process 1 of the board, and print its process id."""
    check(libc.unshare(CLONE_NEWUSER), "a user namespace")
    os.write(ready, b"1")
    if os.read(mapped, 1) != b"1":
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setgroups([0])
    os.setresuid(0, 0, 0)
    kinds = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC
    check(libc.unshare(kinds), "namespaces")
    failed, error = os.pipe()  # closed by exec, so that its end tells that exec came about
    board = os.fork()
    if board == 0:
        os.close(failed)
        become_board(config, error)
    os.close(error)
    if text := os.read(failed, 4096):
        raise OSError(text.decode())
    print(board, flush=True)


def main() -> int:
    """Start the board that the file ``argv[1]`` describes; return the exit status."""
    config = json.loads(Path(sys.argv[1]).read_text())
    wait_ready, ready = os.pipe()
    wait_mapped, mapped = os.pipe()
    child = os.fork()
    try:
        if child == 0:
            os.close(mapped)
            make_namespaces(config, ready, wait_mapped)
            return 0
        os.close(ready)
        os.close(wait_mapped)
        if os.read(wait_ready, 1) == b"1":
            map_ids(child)
            os.write(mapped, b"1")
        os.close(mapped)
        return 1 if os.waitpid(child, 0)[1] else 0
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"{exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main())
