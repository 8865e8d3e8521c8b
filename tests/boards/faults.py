# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Break deploys in every way, and look at what is left: ``tools/faults [ROW...]``.

A try is *lost* if ``current-NAME`` does not lead to a whole, working bundle of the old version
or the new one, if the command ends otherwise than it should, or if the next deploy
needs cleaning by hand. After each try the link is read, every file hashed against its list and its
manifest, the agent run through the link, and the same bundle deployed again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeopt.boards import open_transport, registry
from edgeopt.boards.registry import BoardEntry
from edgeopt.bundle import open_bundle
from edgeopt.bundle.manifest import FILE, FileEntry, dump
from edgeopt.deploy.store import link_word
from edgeopt.errors import BoardError, EdgeoptError
from edgeopt.runtime.build import AGENT
from tests.boards.native import ROOT, Link, Native
from tests.runtime.agent_runs import Case, write_model

PAYLOAD_BYTES = 6_000_000  # of each version's own model: about a second of a deploy
_MODEL = "artifacts/onnx-fp32/model.onnx"
_DEADLINE_S = 240


class LostError(Exception):
    """What was found after a try."""


def variant(
    bundle: Path, folder: Path, *, version: str, name: str = "app", arch: str | None = None
) -> Path:
    """Write another version of ``bundle``, which computes the same but shares no model with it."""
    shutil.copytree(bundle, folder)
    model = folder / _MODEL
    text = random.Random(version).randbytes(PAYLOAD_BYTES // 2).hex().encode()
    length, left = b"", len(text)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    # ModelProto.doc_string, field 6
    model.write_bytes(model.read_bytes() + b"\x32" + length + bytes([left]) + text)
    data = model.read_bytes()
    manifest = open_bundle(bundle).manifest
    entry = FileEntry(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    artifacts = tuple(replace(a, bytes=len(data)) for a in manifest.artifacts)
    target = replace(manifest.target, arch=arch or manifest.target.arch)
    changed = replace(
        manifest,
        name=name,
        artifacts=artifacts,
        target=target,
        files={**manifest.files, _MODEL: entry},
    )
    (folder / FILE).write_bytes(dump(changed))
    return folder


@dataclass
class Deploy:
    """A started ``edgeopt``; what it wrote is in ``out``."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def out(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self) -> int:
        return self.process.wait(timeout=_DEADLINE_S)

    def strike(self, begun: threading.Event, after_s: float) -> None:
        """Wait until the command reached the board, and then ``after_s``."""
        while not begun.wait(0.02):
            if self.process.poll() is not None:
                raise LostError(f"never came to the board: {self.out[-300:]}")
        time.sleep(after_s)

    def until(self, text: str) -> None:
        """Wait until it wrote ``text``."""
        while text not in self.out:
            if self.process.poll() is not None:
                raise LostError(f"ended before {text!r}: {self.out[-300:]}")
            time.sleep(0.01)


class Site:
    """A board to break, what is deployed on it, and the commands that do so."""

    def __init__(self, scratch: Path, name: str, home: Path, base: Path, arch: str) -> None:
        self.scratch, self.name, self.home, self.base, self.arch = scratch, name, home, base, arch
        self.count = 0
        self.usual_s = 60.0
        self.old = ""

    @property
    def folder(self) -> Path:
        return self.home / ".edgeopt"

    def make(self, name: str = "app", version: str | None = None) -> Path:
        """Return a new version of the bundle."""
        self.count += 1
        folder = self.scratch / f"v{self.count}.edgeopt"
        version = version or f"{self.name}-{self.count}"
        return variant(self.base, folder, version=version, name=name, arch=self.arch)

    def start(self, *words: str | Path, source: Path = ROOT) -> Deploy:
        self.count += 1
        log = self.scratch / f"log{self.count}"
        environment = os.environ | {"PYTHONPATH": str(source)}
        with log.open("wb") as file:
            # A shell's job in the background ignores SIGINT, and what it starts does so as well.
            heeding = ["env", "--default-signal=INT"]
            process = subprocess.Popen(
                [*heeding, sys.executable, "-m", "edgeopt", *map(str, words)],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                cwd=self.scratch,
                env=environment,
            )
        return Deploy(process, log)

    def profile(self, bundle: Path, *more: str, source: Path = ROOT) -> Deploy:
        output = self.scratch / f"m{self.count}.json"
        words = ["profile", bundle, "--board", self.name, "--warmup", "0", "-o", output]
        return self.start(*words, *(more or ("--runs", "2")), source=source)

    def reached(self) -> threading.Event:
        """Return what is set once the next command talks to the board."""
        raise NotImplementedError

    def deploy(self, bundle: Path, *, fresh: bool = False, stalled: bool = False) -> None:
        """Deploy as a user does next: nothing is cleaned by hand."""
        begun = self.reached()
        done = self.profile(bundle)
        done.strike(begun, 0)
        began = time.monotonic()
        if done.wait():
            raise LostError(f"the next deploy failed: {done.out[-600:]}")
        if fresh:  # from the connection on, with all to upload
            self.usual_s = min(self.usual_s, time.monotonic() - began)
        self.old = open_bundle(bundle).manifest.digest
        if self.whole(open_bundle(bundle).manifest.name) != self.old:
            raise LostError("the next deploy did not switch")
        if (left := self.leftovers()) and not stalled:
            raise LostError(f"left after the next deploy: {left}")

    def whole(self, name: str = "app") -> str:
        """Return the digest of what ``current-NAME`` leads to, every byte of it checked."""
        link = self.folder / f"current-{link_word(name)}"
        if not (link / FILE).is_file():
            raise LostError(f"{link.name} leads to nothing ({os.path.lexists(link)})")
        manifest = open_bundle(link).manifest  # checks its digest
        listed = (link / ".files").read_text().splitlines()
        for line in listed:
            sha256, _, file = line.partition("  ")
            if hashlib.sha256((link / file).read_bytes()).hexdigest() != sha256:
                raise LostError(f"{file} is damaged")
            if file in manifest.files and manifest.files[file].sha256 != sha256:
                raise LostError(f"{file} is of another bundle")
        agents = sorted(self.folder.glob(f"bundles/*/{AGENT}"))
        if agents:
            self.run_agent(agents[0], link)
        return manifest.digest

    def run_agent(self, agent: Path, link: Path) -> None:
        words = ["run", "--bundle", link, "--libraries", link / "lib", "--engine", "onnx"]
        words += ["--precision", "fp32", "--threads", "1", "--warmup", "0", "--runs", "1"]
        done = subprocess.run([agent, *words], capture_output=True, timeout=_DEADLINE_S)
        if done.returncode or b'"outputs_agree":true' not in done.stdout.replace(b" ", b""):
            raise LostError(f"the agent fails there: {done.stdout[-300:]!r}")

    def restore(self) -> None:
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        found = [p for p in self.folder.rglob("*") if ".part-" in p.name]
        found += [*self.folder.glob("bundles/.*"), *self.folder.glob(".point-*")]
        return [str(p.relative_to(self.folder)) for p in found]

    def after(self, bundle: Path, name: str = "app") -> None:
        """Check what a fault left, and deploy again."""
        new = open_bundle(bundle).manifest.digest
        if self.whole(name) not in (self.old, new):
            raise LostError("neither the old version nor the new one")
        self.deploy(bundle)


class NativeSite(Site):
    """This machine behind a real SSH connection that can be reset and stalled."""

    def __init__(self, scratch: Path, name: str, home: Path, base: Path) -> None:
        super().__init__(scratch, name, home, base, os.uname().machine)
        self.board = Native(home, scratch / f"{name}.host")
        self.board.up()
        self.link = Link(self.board.port)
        key = scratch / "id"
        if not key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        registry.save(
            BoardEntry(
                name=name,
                kind="ssh",
                user="pi",
                host="127.0.0.1",
                port=self.link.port,
                key=str(key),
                host_key=self.board.host_key,
            )
        )
        for _ in range(3):
            self.deploy(self.make(), fresh=True)

    def reached(self) -> threading.Event:
        return self.link.after(1)

    def power_cut(self) -> None:
        self.board.cut()

    def power_on(self) -> None:
        self.board.up()

    def quiet(self, within_s: float = 15.0) -> None:
        """Wait until nothing of ours runs on the board."""
        until = time.monotonic() + within_s
        while running := self.board.processes():
            if time.monotonic() > until:
                raise LostError(f"still runs on the board: {running}")
            time.sleep(0.1)

    def agents(self) -> list[int]:
        """Return the process ids of the agent there."""
        lines = self.board.lines().items()
        return [pid for pid, line in lines if f"/{AGENT} run" in line and line.startswith("/")]

    def restore(self) -> None:
        """Put it up again after a try that ended half-way."""
        self.link.flow()
        self.board.cut()
        self.board.up()

    def close(self) -> None:
        self.link.__exit__()
        self.board.cut()
        registry.remove(self.name)


class EmulatedSite(Site):
    """An emulated Raspberry Pi 4 with OpenSSH."""

    def __init__(self, scratch: Path, base: Path) -> None:
        from edgeopt.boards.emulated import lifecycle
        from edgeopt.target import load_target

        self.lifecycle, self.target = lifecycle, load_target("raspberry-pi-4")
        self.name = "faults-pi"
        self.power_on()
        home = lifecycle._state("faults-pi") / "home"
        super().__init__(scratch, "faults-pi", home, base, "aarch64")
        for _ in range(3):
            self.deploy(self.make(), fresh=True)

    def run_agent(self, agent: Path, link: Path) -> None:
        there = "/root/.edgeopt"
        words = [f"{there}/{agent.relative_to(self.folder)}", "run", "--engine", "onnx"]
        words += ["--bundle", f"{there}/{link.name}", "--libraries", f"{there}/{link.name}/lib"]
        words += ["--precision", "fp32", "--threads", "1", "--warmup", "0", "--runs", "1"]
        with open_transport(self.entry) as transport:
            done = transport.run(words, timeout_s=_DEADLINE_S)
        if done.exit_status or b'"outputs_agree":true' not in done.stdout.replace(b" ", b""):
            raise LostError(f"the agent fails there: {done.stdout[-300:]!r}")

    def reached(self) -> threading.Event:
        now = threading.Event()
        threading.Timer(1.5, now.set).start()  # the start of Python
        return now

    def power_cut(self) -> None:
        found = self.lifecycle.running(self.name)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        while self.lifecycle.running(self.name) is not None:
            time.sleep(0.05)

    def power_on(self) -> None:
        for left in (2, 1, 0):  # a loaded machine: its start is not what is tried
            try:
                self.entry = self.lifecycle.up(self.name, self.target, mode="user")
                return
            except BoardError:
                if not left:
                    raise

    def restore(self) -> None:
        """Put it up again after a try that ended half-way."""
        self.power_on()

    def close(self) -> None:
        self.lifecycle.forget(self.name)
        registry.remove(self.name)


def _expect(done: Deploy, *codes: int) -> None:
    code = done.wait()
    if code not in codes or "Traceback" in done.out:
        raise LostError(f"exit {code}, expected {codes}: {done.out[-500:]}")


# Each row: a name, how often by default, and what one try is. A try gets the site, and its place in
# the row from 0 to 1.
def sigkill_host(site: NativeSite, place: float) -> str:
    bundle = site.make()
    begun = site.reached()
    done = site.profile(bundle)
    done.strike(begun, site.usual_s * place)
    done.process.kill()
    done.wait()
    site.quiet()
    site.after(bundle)
    return ""


def sigint_host(site: NativeSite, place: float) -> str:
    bundle = site.make()
    begun = site.reached()
    done = site.profile(bundle)
    done.strike(begun, site.usual_s * place)
    done.process.send_signal(signal.SIGINT)
    # 0: it was done; -2: it was, and Python was taking itself down. A shell shows that as 130.
    _expect(done, 130, 0, *([-2] if "raw measurement" in done.out else []))
    site.quiet()
    site.after(bundle)
    return f"exit {done.process.returncode}"


def power_cut(site: NativeSite | EmulatedSite, place: float) -> str:
    bundle = site.make()
    begun = site.reached()
    done = site.profile(bundle)
    done.strike(begun, site.usual_s * place)
    site.power_cut()
    _expect(done, 0, 6)
    site.power_on()
    left = bool(site.leftovers())
    site.after(bundle)
    return f"exit {done.process.returncode}" + (", part files" if left else "")


def link_reset(site: NativeSite, place: float) -> str:
    bundle = site.make()
    begun = site.reached()
    done = site.profile(bundle)
    done.strike(begun, site.usual_s * place)
    site.link.reset()
    began = time.monotonic()
    _expect(done, 0, 6)
    noticed_s = time.monotonic() - began
    site.quiet(15)
    site.after(bundle)
    return f"exit {done.process.returncode}, noticed after {noticed_s:.1f} s"


def stall_in_upload(site: NativeSite, place: float) -> str:
    bundle = site.make()
    reached = site.link.after(int(1_000_000 + 4_000_000 * place))
    done = site.profile(bundle)
    reached.wait(_DEADLINE_S)
    site.link.stall()
    began = time.monotonic()
    _expect(done, 6)
    noticed_s = time.monotonic() - began
    # The board does not know of it: the next deploy finds a session that it takes for alive.
    if site.whole() != site.old:
        raise LostError("another version")
    site.deploy(bundle, stalled=True)
    site.link.flow()
    site.quiet()
    site.deploy(site.make())
    return f"noticed after {noticed_s:.1f} s"


def stall_while_measuring(site: NativeSite, place: float) -> str:
    bundle = site.make()
    done = site.profile(bundle, "--runs", "100000000")
    done.until("Measuring")
    time.sleep(1 + place)
    site.link.stall()
    began = time.monotonic()
    _expect(done, 6)
    noticed_s = time.monotonic() - began
    until = time.monotonic() + 90
    while any(AGENT in line for line in site.board.processes()):
        if time.monotonic() > until:
            raise LostError("the agent runs on 90 s after the host gave up")
        time.sleep(0.5)
    agent_s = time.monotonic() - began
    site.deploy(bundle, stalled=True)
    site.link.flow()
    site.quiet()
    site.deploy(site.make())
    return f"noticed after {noticed_s:.1f} s, the agent ended after {agent_s:.1f} s"


def agent_killed(site: NativeSite, place: float) -> str:
    bundle = site.make()
    done = site.profile(bundle, "--runs", "100000000")
    done.until("Measuring")
    time.sleep(1.5 * place)
    pids = site.agents()
    if not pids:
        time.sleep(0.5)
        pids = site.agents()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    _expect(done, 7)
    if "was ended by signal 9" not in done.out:
        raise LostError(done.out[-300:])
    site.quiet()
    site.after(bundle)
    return ""


def two_hosts(site: NativeSite, place: float) -> str:
    one = site.make()
    two = one if place < 0.5 else site.make()
    both = [site.profile(one), site.profile(two)]
    for done in both:
        _expect(done, 0)
    digests = {open_bundle(b).manifest.digest for b in (one, two)}
    if site.whole() not in digests:
        raise LostError("neither of the two")
    site.quiet()
    site.deploy(one)
    return ""


def clean_during_deploy(site: NativeSite, place: float) -> str:
    bundle = site.make()
    begun = site.reached()
    done = site.profile(bundle)
    # The clean needs a while itself until it is there, so some start before the deploy does.
    done.strike(begun, max(0.0, site.usual_s * 1.1 * place - 0.5))
    clean = site.start("board", "clean", site.name)
    _expect(clean, 0, 8)
    _expect(done, 0)
    if site.whole() != open_bundle(bundle).manifest.digest:
        raise LostError("profile said 0, and it is not current")
    site.quiet()
    site.after(bundle)
    return f"clean: exit {clean.process.returncode}"


DAMAGE = [
    (what, how)
    for what in (
        "model.onnx",
        "libonnxruntime",
        "libedgeopt_rt",
        "manifest.json",
        AGENT,
    )
    for how in ("empty", "bit", "cut")
]


def store_damaged(site: NativeSite, place: float) -> str:
    """Damage a file of the live bundle in place, as a disk does, and deploy the bundle again."""
    what, how = DAMAGE[min(int(place * len(DAMAGE)), len(DAMAGE) - 1)]
    bundle = site.make()
    site.deploy(bundle)
    (path,) = [
        p
        for p in sorted((site.folder / "bundles").rglob(f"{what}*"))
        if what == AGENT or site.old in str(p)
    ][:1]
    data = path.read_bytes()
    changed = {
        "empty": b"",
        "bit": data[: len(data) // 2]
        + bytes([data[len(data) // 2] ^ 1])
        + data[len(data) // 2 + 1 :],
        "cut": data[:-1000],
    }[how]
    with path.open("r+b") as file:
        file.write(changed)
        file.truncate()
    site.deploy(bundle)
    for entry in (site.folder / "store").iterdir():
        if hashlib.sha256(entry.read_bytes()).hexdigest() != entry.name:
            if what == AGENT and how == "bit":
                continue  # it ran and said what is right: nobody asked for its hash
            raise LostError(f"{what} is still damaged in the store")
    return f"{what} {how}"


NAMES = [
    "_x",
    "-x",
    "模型",
    "..",
    "\x1b[31mred",
    "x" * 300,
    "a b",
    "a\nb",
    "current",
    "a-b",
    "größe",
]


def odd_name(site: NativeSite, place: float) -> str:
    name = NAMES[min(int(place * len(NAMES)), len(NAMES) - 1)]
    before = os.readlink(site.folder / "current-app")
    bundle = site.make(name=name)
    done = site.start(
        "profile", bundle, "--board", site.name, "--runs", "2", "--warmup", "0", "--json"
    )
    _expect(done, 0)
    if site.whole(name) != open_bundle(bundle).manifest.digest:
        raise LostError("another bundle")
    if os.readlink(site.folder / "current-app") != before:
        raise LostError("current-app was changed")
    return repr(name[:20])


def newer_fails(site: NativeSite, place: float) -> str:
    """An edgeopt of another runtime, whose check fails, deploys the bundle that is live."""
    bundle = site.make()
    site.deploy(bundle)
    source = site.scratch / "newer"
    if not source.exists():
        shutil.copytree(ROOT / "edgeopt", source / "edgeopt")
        for part in ("targets", "profiles"):
            shutil.copytree(ROOT / part, source / part)
        calls = source / "edgeopt/runtime/agent/golden_calls.c"
        text = calls.read_text()
        agrees = "bool agrees = agreement.cosine >= job->session->entry->bound;"
        assert agrees in text
        calls.write_text(text.replace(agrees, "bool agrees = false;"))
        choose = source / "edgeopt/runtime/src/engines/discover.c"
        choose.write_text(choose.read_text().replace("or among the", "or of the"))
    live = site.folder / "current-app"
    before = {p: (p.stat().st_ino, p.read_bytes()) for p in live.rglob("*") if p.is_file()}
    done = site.profile(bundle, source=source)
    _expect(done, 1)
    after = {p: (p.stat().st_ino, p.read_bytes()) for p in live.rglob("*") if p.is_file()}
    if before != after:
        raise LostError("what is live was touched")
    site.start("board", "clean", site.name).wait()  # the newer agent would be run after each try
    site.after(bundle)
    return ""


@contextlib.contextmanager
def _mounted(scratch: Path, name: str, size_mb: int) -> Iterator[Path]:
    home = scratch / name
    home.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "faults", str(home)], check=True
    )
    try:
        yield home
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


def _remount(home: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(home)], check=True)


def disk_full_before(site: NativeSite, place: float) -> str:
    bundle = site.make()
    filler = site.home / "filler"
    free = os.statvfs(site.home)
    # Less than the upload and its spare, down to nothing at all.
    room = int((PAYLOAD_BYTES + 6_000_000) * (1 - place))
    filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - room)))
    _expect(done := site.profile(bundle), 6)
    if "are free on the disk" not in done.out and "No space left" not in done.out:
        raise LostError(done.out[-300:])
    if site.whole() != site.old:
        raise LostError("another version")
    filler.unlink()
    site.after(bundle)
    site.start("board", "clean", site.name).wait()
    return f"{room / 1e6:.1f} MB free"


def disk_full_during(site: NativeSite, place: float) -> str:
    bundle = site.make()
    filler = site.home / "filler"
    reached = site.link.after(int(200_000 + 5_000_000 * place))
    done = site.profile(bundle)
    reached.wait(_DEADLINE_S)
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while done.process.poll() is None:
            file.write(bytes(1 << 16))
    _expect(done, 6)
    within = "is full" in done.out
    if site.whole() != site.old:
        raise LostError("another version")
    filler.unlink()
    site.after(bundle)
    site.start("board", "clean", site.name).wait()
    return "within the write" if within else "before it"


def read_only_or_noexec(site: NativeSite, place: float) -> str:
    bundle = site.make()
    what = "ro" if place < 0.5 else "noexec"
    _remount(site.home, what)
    try:
        _expect(done := site.profile(bundle), 6)
        expected = "read-only" if what == "ro" else "mounted noexec"
        if expected not in done.out.lower() or "Uploading" in done.out:
            raise LostError(done.out[-300:])
    finally:
        _remount(site.home, "rw" if what == "ro" else "exec")
    site.after(bundle)
    site.start("board", "clean", site.name).wait()
    return what


@dataclass(frozen=True)
class Row:
    title: str
    tries: int
    one: Callable[..., str]
    site: str = "native"  # native, small (its disk) or emulated


ROWS = {
    "kill": Row("SIGKILL of the host", 9, sigkill_host),
    "int": Row("SIGINT of the host", 12, sigint_host),
    "power": Row("power cut, native", 19, power_cut),
    "power-emulated": Row("power cut, emulated", 10, power_cut, "emulated"),
    "reset": Row("link reset (RST)", 13, link_reset),
    "stall-upload": Row("link stalls in the upload", 3, stall_in_upload),
    "stall-measure": Row("link stalls while the agent measures", 1, stall_while_measuring),
    "agent": Row("agent SIGKILLed", 9, agent_killed),
    "two-hosts": Row("two hosts at once, same name", 8, two_hosts),
    "full-before": Row("disk full before", 5, disk_full_before, "small"),
    "full-during": Row("disk filled during the upload", 6, disk_full_during, "small"),
    "read-only": Row("read-only home, noexec home", 4, read_only_or_noexec, "small"),
    "clean": Row("board clean during a deploy", 24, clean_during_deploy),
    "damage": Row("a file of the live bundle damaged", len(DAMAGE), store_damaged),
    "newer": Row("newer edgeopt, same bundle, its check fails", 2, newer_fails),
    "names": Row("odd bundle names", len(NAMES), odd_name),
}


@contextlib.contextmanager
def site_of(kind: str, scratch: Path) -> Iterator[Site]:
    """A board with a first version deployed."""
    scratch.mkdir()
    case = Case(Path(), Path(), scratch)
    write_model(case.model)
    base = case.write()
    with contextlib.ExitStack() as stack:
        site: NativeSite | EmulatedSite
        if kind == "emulated":
            site = EmulatedSite(scratch, base)
        else:
            small = kind == "small"
            home = stack.enter_context(_mounted(scratch, "home", 80)) if small else scratch / "home"
            site = NativeSite(scratch, f"faults-{kind}", home, base)
        stack.callback(site.close)
        yield site


def run(row: Row, site: Site, tries: int | None = None) -> list[tuple[bool, str]]:
    """Return, for each try, whether it survived and what is to be said of it."""
    found = []
    count = tries or row.tries
    for i in range(count):
        try:
            found.append((True, row.one(site, (i + 0.5) / count)))
        except (LostError, EdgeoptError, OSError) as exc:
            found.append((False, str(exc)))
            site.restore()
        print(f"{row.title} {i + 1}/{count}: {found[-1]}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--tries", type=int, help="tries of each row")
    parser.add_argument("--output", type=Path, help="file for every try, as JSON")
    given = parser.parse_args()
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no row is called {unknown.pop()!r}")
    chosen = {name: ROWS[name] for name in (given.rows or ROWS)}
    results: dict[str, list[tuple[bool, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="edgeopt-faults-") as folder:
        os.environ["EDGEOPT_CONFIG"] = f"{folder}/config"
        for kind in ("native", "small", "emulated"):
            rows = {name: row for name, row in chosen.items() if row.site == kind}
            if not rows:
                continue
            with site_of(kind, Path(folder) / kind) as site:
                for name, row in rows.items():
                    results[name] = run(row, site, given.tries)
    if given.output:
        given.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print("| what was tried | tries | survived | lost |\n|---|---|---|---|")
    for name, found in results.items():
        survived = sum(ok for ok, _ in found)
        print(f"| {ROWS[name].title} | {len(found)} | {survived} | {len(found) - survived} |")
    sys.exit(any(not ok for found in results.values() for ok, _ in found))


if __name__ == "__main__":
    main()
