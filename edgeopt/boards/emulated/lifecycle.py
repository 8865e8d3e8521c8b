# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Start, find and stop emulated boards.

A board's state lives in ``$XDG_STATE_HOME/edgeopt/boards/NAME``: its keys, its home directory (the
only thing that survives ``down``), its log, and ``running.json`` with the process id and that
process's start time, so that a reused process id is never taken for the board.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeopt import progress, retention
from edgeopt.boards import cores, facts, registry
from edgeopt.boards.address import Address
from edgeopt.boards.cores import EmulatedCore
from edgeopt.boards.emulated import full_system, rootfs, user_mode
from edgeopt.boards.emulated.machine import Machine
from edgeopt.boards.registry import DETERMINISTIC, BoardEntry
from edgeopt.boards.ssh import SshTransport
from edgeopt.device import DeviceProfile
from edgeopt.engines.releases import SYSTEM, releases
from edgeopt.errors import BoardError, BusyError, InputError
from edgeopt.retention import start_ticks
from edgeopt.target import Target

MODES = ("auto", "user", "full-system", DETERMINISTIC)
_LOCK_S = 120
_BANNER_S = {"user": 20.0, "full-system": 120.0, DETERMINISTIC: 240.0}
# How long one connection waits for it. Those that were given up reach a slow board later, and its
# sshd answers them one by one: some 15 million instructions each, in the middle of what is counted.
_PROBE_S = {"user": 5.0, "full-system": 5.0, DETERMINISTIC: 120.0}

SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PidFile none
MaxStartups 50
MaxSessions 50
Subsystem sftp /usr/lib/openssh/sftp-server
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """The process of a running board: SIGKILL to it is a power cut."""

    pid: int
    start_ticks: int  # /proc/PID/stat, field 22
    port: int
    mode: str


def up(name: str, target: Target, *, mode: str = "auto") -> BoardEntry:
    """Start an emulated board of ``target``'s kind, or find it running, and return its entry.

    ``auto`` takes the user-mode board, and the full-system one if this machine cannot run
    that; ``deterministic`` is a full-system one whose clock counts instructions. Raises
    InputError if the name is taken or the device cannot be emulated, MissingDependencyError if a
    package is absent, BusyError while another process holds the board, BoardError if it does not
    come up; nothing is then left running.
    """
    registry.check_name(name)
    with _locked(name):
        known = registry.get(name)
        if known is not None and known.kind != "emulated":
            raise InputError(f"{name!r} is a board over SSH", hint="Choose another name.")
        if known is not None and running(name):
            if known.target != target.name or mode not in ("auto", known.mode):
                raise InputError(
                    f"{name!r} is running as {known.target} ({known.mode})",
                    hint=f"Run: edgeopt board down {name}",
                )
            progress.note(f"{name} is already running")
            return known
        if (stray := running(name)) is not None:  # its entry was removed by hand
            _end(stray.pid)
        try:
            return _start(name, target, _plan(target, mode))
        except user_mode.RefusedError as exc:
            if mode != "auto" or not _has_full_system(target.device):
                raise
            progress.note(f"Starting a full-system board: {exc.message}")
            return _start(name, target, _plan(target, "full-system"))


def down(name: str) -> bool:
    """Stop the board; its home stays. False if it was not running."""
    with _locked(name):
        found = running(name)
        if found is not None:
            if found.mode != "user":
                _write_out(name)
            _end(found.pid)
        (_state(name) / "running.json").unlink(missing_ok=True)
        return found is not None


def forget(name: str) -> None:
    """Stop the board and delete its state, its home included."""
    down(name)
    shutil.rmtree(_state(name), ignore_errors=True)


def running(name: str) -> Running | None:
    """Return the board's process, or None if it is down."""
    try:
        found = Running(**json.loads((_state(name) / "running.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if start_ticks(found.pid) == found.start_ticks else None


def require_running(entry: BoardEntry) -> None:
    """Raise BoardError if the emulated board of ``entry`` is down."""
    if running(entry.name) is None:
        raise BoardError(
            "this emulated board is down",
            where=entry.name,
            hint=f"Run: edgeopt board up {entry.name} --target {entry.target}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    mode: str
    core: EmulatedCore
    isa: tuple[str, ...]
    suite: str
    remarks: tuple[str, ...]


def _plan(target: Target, mode: str) -> _Plan:
    device = target.device
    _refuse(device, mode)
    chosen, remarks = mode, []
    reason = None
    if mode in ("auto", "user"):
        reason = user_mode.missing(device.arch)
        chosen = "user"
        if reason is not None:
            if mode == "user" or not _has_full_system(device):
                raise reason
            chosen = "full-system"
            remarks.append(f"Starting a full-system board: {reason.message}")
    elif (absent := full_system.missing()) is not None:
        raise absent
    user = chosen == "user"
    available = user_mode.core_names(device.arch) if user else full_system.core_names()
    core, difference = choose_core(device, available)
    suite = rootfs.suite_for(device)
    remarks += [note for note in (difference, rootfs.libc_note(device, suite)) if note]
    if packages := _system_engines(target):
        remarks.append(f"{', '.join(packages)} is installed")
    if chosen == DETERMINISTIC:
        remarks.append("its clock counts instructions")
    if user:
        remarks.append("memory and the number of cores that work at once are this machine's")
    return _Plan(
        mode=chosen,
        core=core,
        isa=tuple(f for f in device.isa if f in core.isa),
        suite=suite,
        remarks=tuple(remarks),
    )


def _has_full_system(device: DeviceProfile) -> bool:
    return device.arch == full_system.ARCH and full_system.missing() is None


def _refuse(device: DeviceProfile, mode: str) -> None:
    if device.reach == "app":
        raise InputError(
            "this device has no shell and cannot be emulated",
            where=device.id,
            hint="Its artifacts run in an app on the device itself.",
        )
    if device.reach == "adb" or device.os.libc == "bionic":
        raise InputError(
            "this is an Android device; its userland (bionic) cannot be emulated here",
            where=device.id,
            hint="Connect the device itself, with sshd in Termux: edgeopt board add.",
        )
    if device.arch not in rootfs.ARCHITECTURES:
        raise InputError(
            f"emulated boards are {' or '.join(rootfs.ARCHITECTURES)}, this device is "
            f"{device.arch}",
            where=device.id,
            hint="Use the board 'host', or a real one with: edgeopt board add.",
        )
    if mode in ("full-system", DETERMINISTIC) and device.arch != full_system.ARCH:
        raise InputError(
            f"{mode} boards are {full_system.ARCH}, this device is {device.arch}",
            where=device.id,
            hint="Use --mode user.",
        )


def choose_core(
    device: DeviceProfile, available: tuple[str, ...]
) -> tuple[EmulatedCore, str | None]:
    """Return the core to emulate for the device's biggest one, and what differs, if anything."""
    wanted = device.clusters[0].core
    name = wanted if wanted in available and wanted in cores.EMULATED else cores.NEAREST.get(wanted)
    if name is None or name not in available:
        raise InputError(
            f"the installed QEMU models no core like {wanted}",
            where=device.id,
            hint=f"It models {', '.join(sorted(set(available) & set(cores.EMULATED)))}.",
        )
    core = cores.EMULATED[name]
    parts = []
    if name != wanted:
        parts.append(f"{wanted} is emulated as {name}")
    if lacking := [f for f in device.isa if f not in core.isa]:
        parts.append(f"without {', '.join(lacking)}")
    if len({c.core for c in device.clusters}) > 1:
        parts.append(f"all {sum(c.count for c in device.clusters)} cores are equal")
    return core, ", ".join(parts) or None


def _start(name: str, target: Target, plan: _Plan) -> BoardEntry:
    for remark in plan.remarks:
        progress.note(remark)
    state = _state(name)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    host_key, login_key = _key(state / "host_key"), _key(state / "login_key")
    files = {
        "/etc/ssh/ssh_host_ed25519_key": ((state / "host_key").read_text(), 0o600),
        "/etc/ssh/authorized_keys": (f"{login_key}\n", 0o644),
        "/etc/ssh/sshd_config": (SSHD_CONFIG, 0o644),
        facts.EMULATED_FILE: (f"{target.name}\n", 0o644),
        "/etc/hostname": (f"{name}\n", 0o644),
        "/etc/hosts": (f"127.0.0.1 localhost {name}\n", 0o644),
    }
    (state / "log").unlink(missing_ok=True)
    machine = Machine(
        state=state,
        root=rootfs.userland(plan.suite, target.device.arch, _system_engines(target)),
        device=target.device,
        core=plan.core,
        isa=plan.isa,
        hostname=name,
        port=_free_port(),
        files=files,
        counts_instructions=plan.mode == DETERMINISTIC,
    )
    begin = user_mode.start if plan.mode == "user" else full_system.start
    with progress.step(f"Starting {name} ({plan.core.name}, {plan.mode})"):
        pid = begin(machine)
        try:
            ticks = start_ticks(pid)
            if ticks is None:
                raise _did_not_start(state, name, "it ended at once")
            found = Running(pid=pid, start_ticks=ticks, port=machine.port, mode=plan.mode)
            (state / "running.json").write_text(json.dumps(asdict(found)))
            retention.lend(machine.root.parent, pid, ticks)  # it lies under the board's own files
            _await_banner(state, name, found)
            entry = BoardEntry(
                name=name,
                kind="emulated",
                user="root",
                host="127.0.0.1",
                port=machine.port,
                key=str(state / "login_key"),
                host_key=host_key,
                target=target.name,
                libc_version=target.device.os.libc_version,
                mode=plan.mode,
                note="; ".join(("emulated", *plan.remarks)),
            )
            registry.save(entry, replace=True)
        except BaseException:  # Ctrl-C as well: nothing stays behind
            _end(pid)
            (state / "running.json").unlink(missing_ok=True)
            raise
    return entry


def _system_engines(target: Target) -> tuple[str, ...]:
    """Return the packages that a user installs on such a board to run what is built for it."""
    known = [r for r in releases() if r.registry == SYSTEM and target.device.arch in r.arch]
    wanted = {(spec.engine, spec.version) for spec in target.engines}
    return tuple(r.packages[0].name for r in known if (r.engine, r.version) in wanted)


def _await_banner(state: Path, name: str, found: Running) -> None:
    """Wait until sshd itself answers; a forwarded port accepts before sshd is up."""
    until = time.monotonic() + _BANNER_S[found.mode]
    while time.monotonic() < until:
        if start_ticks(found.pid) != found.start_ticks:
            raise _did_not_start(state, name, "it ended")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(
                ("127.0.0.1", found.port), timeout=_PROBE_S[found.mode]
            ) as probe,
        ):
            if probe.recv(8).startswith(b"SSH-"):
                return
        time.sleep(0.03)
    raise _did_not_start(state, name, f"no sshd after {_BANNER_S[found.mode]:g} s")


def _did_not_start(state: Path, name: str, why: str) -> BoardError:
    log = state / "log"
    tail = log.read_text(errors="replace")[-600:].strip() if log.exists() else ""
    return BoardError(f"the board did not come up: {why}. {tail}", where=name, hint=f"Log: {log}")


def _write_out(name: str) -> None:
    """Have the board's own kernel write its home disk, if it still answers."""
    entry = registry.get(name)
    if entry is None:
        return
    address = Address(user=entry.user, host=entry.host, port=entry.port, key=entry.key)
    try:
        with SshTransport(name, address, host_key=entry.host_key) as transport:
            transport.run(["sync"], timeout_s=10)
    except BoardError as exc:
        progress.note(f"{name} is stopped without writing its disk out: {exc.message}")


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while start_ticks(pid) is not None and time.monotonic() < until:
        time.sleep(0.01)


def _key(path: Path) -> str:
    """Make an Ed25519 key pair if there is none, and return the public ``type base64``."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_suffix(".pub")
    if not public.exists():
        key = Ed25519PrivateKey.generate()
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        )
        line = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        public.write_bytes(line)
    return public.read_text().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _state(name: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "edgeopt" / "boards" / name


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the board's name: its up and down run one at a time."""
    from filelock import FileLock, Timeout

    folder = _state(name).parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(folder / f".{name}.lock", timeout=_LOCK_S):
            yield
    except Timeout as exc:
        raise BusyError("another edgeopt process is starting or stopping it", where=name) from exc
