# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The userland of an emulated board: Debian packages, unpacked without root.

The host's apt resolves and downloads them with private state directories, so that the host's own
package lists and architectures stay untouched. No maintainer script runs; the few files that
those would have written are written here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.device import DeviceProfile
from edgeopt.errors import BoardError, MissingDependencyError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# glibc of each suite's libc6 package. Debian 11 is the oldest that the mirrors still carry.
GLIBC = {"bullseye": "2.31", "bookworm": "2.36", "trixie": "2.41"}
ARCHITECTURES = {"aarch64": "arm64", "armv7": "armhf"}
"""What Debian calls those of which there are emulated boards."""
# What a small board has: a C and C++ library, sshd, ps, ip, and the mount that ?essential lacks.
PACKAGES = (
    "?essential",
    "libstdc++6",
    "mount",
    "openssh-server",
    "openssh-sftp-server",
    "procps",
    "iproute2",
)
_LAYOUT = 1  # raise it if what is made out of the packages changes

_DEBIAN_SUITE = re.compile(
    r"(bullseye|bookworm|trixie|forky|sid|(old)*stable|testing|unstable)(-updates|-backports)?"
)
_CARRIED = re.compile(r"Acquire::(https?|socks|Force|Check-|Proxy)", re.IGNORECASE)


def suite_for(device: DeviceProfile) -> str:
    """Return the Debian suite whose glibc is nearest to the device's: equal, else just newer.

    A device with a glibc above the newest suite here gets the newest. Musl and bionic devices
    have no such userland: BoardError.
    """
    if device.os.libc != "glibc":
        raise BoardError(
            f"an emulated board has glibc, this device has {device.os.libc}", where=device.id
        )
    wanted = _numbers(device.os.libc_version or GLIBC["bookworm"])
    fitting = (suite for suite, glibc in GLIBC.items() if wanted <= _numbers(glibc))
    return next(fitting, next(reversed(GLIBC)))


def libc_note(device: DeviceProfile, suite: str) -> str | None:
    """Return what differs between the suite's glibc and the device's, or None if nothing."""
    real = device.os.libc_version
    if real is None or real == GLIBC[suite]:
        return None
    relation = "newer" if _numbers(GLIBC[suite]) > _numbers(real) else "older"
    return f"userland has glibc {GLIBC[suite]}, {relation} than the real board's {real}"


def userland(suite: str, arch: str = "aarch64", besides: tuple[str, ...] = ()) -> Path:
    """Return the root directory of ``suite``'s userland, made on first use (cached).

    ``arch`` is one of ``ARCHITECTURES``, and ``besides`` are packages that a board like this has
    besides ``PACKAGES``. Nothing may write into it: boards put a writable layer over it. Raises
    MissingDependencyError if apt or the archive's keys are absent, BoardError if the packages
    cannot be had.
    """

    architecture, packages = ARCHITECTURES[arch], PACKAGES + besides

    def build(folder: Path) -> None:
        with progress.step(f"Unpacking Debian {suite} for {architecture}"):
            debs = download(suite, packages, folder / "apt", architecture)
            (folder / "packages.txt").write_text("".join(f"{d.name}\n" for d in debs))
            unpack(debs, folder / "root")
            _configure(folder / "root")
            shutil.rmtree(folder / "apt")

    key = cache.key(layout=_LAYOUT, suite=suite, packages=packages, architecture=architecture)
    return cache.entry("userland", key, build) / "root"


def download(
    suite: str, packages: tuple[str, ...], work: Path, architecture: str = "arm64"
) -> list[Path]:
    """Download ``packages`` and all they depend on into ``work``; return the .deb files.

    ``architecture`` is Debian's word for it. The mirror is ``$EDGEOPT_DEBIAN_MIRROR``, else the
    first Debian one in the host's apt sources. Raises what ``userland`` raises.
    """
    for tool in ("apt-get", "apt-config", "dpkg-deb", "tar"):
        if shutil.which(tool) is None:
            raise MissingDependencyError(
                f"an emulated board's userland comes from Debian packages, and {tool} is absent",
                hint="Emulated boards need a Debian or Ubuntu host; a real board needs none of it.",
            )
    if not KEYRING.is_file():
        raise MissingDependencyError(
            f"the Debian archive's keys are absent ({KEYRING})",
            hint="Install them with: sudo apt install debian-archive-keyring",
        )
    for folder in ("state/lists/partial", "cache/archives/partial", "empty"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    (work / "apt.conf").write_text(_network_settings())
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the private folders are ours, not _apt's
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "Debug::NoLocking": "true",
        "Dir::Cache": str(work / "cache"),
        "Dir::Etc::Parts": str(work / "empty"),  # the host's hooks would run otherwise
        "Dir::Etc::PreferencesParts": str(work / "empty"),
        "Dir::Etc::SourceList": str(work / "sources.list"),
        "Dir::Etc::SourceParts": str(work / "empty"),
        "Dir::State": str(work / "state"),
        "Dir::State::status": str(work / "status"),
    }
    flags = [f for k, v in options.items() for f in ("-o", f"{k}={v}")]
    _apt([*flags, "-q", "update"], work, architecture)
    _apt([*flags, "-q", "-y", "--download-only", "install", *packages], work, architecture)
    return sorted((work / "cache/archives").glob("*.deb"))


def unpack(debs: list[Path], root: Path) -> None:
    """Unpack the .deb files into ``root``, with /bin, /sbin and /lib merged into /usr."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE
        ) as archive:
            into = ["-x", "--keep-directory-symlink", "--no-same-owner"]
            done = subprocess.run(["tar", "-C", str(root), *into], stdin=archive.stdout)
        if archive.returncode or done.returncode:
            raise BoardError("cannot be unpacked", where=deb.name, hint="Is the disk full?")


def _configure(root: Path) -> None:
    """Write what the maintainer scripts of these packages would have written."""
    for name in ("passwd", "group"):
        text = (root / f"usr/share/base-passwd/{name}.master").read_text()
        if name == "passwd":
            text = re.sub(r"^root:[^:]*:", "root:x:", text, flags=re.MULTILINE)
            text += "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        (root / "etc" / name).write_text(text)
    (root / "etc/shadow").write_text("root:*:19700:0:99999:7:::\nsshd:!:19700::::::\n")
    if not (root / "usr/bin/awk").exists():
        (root / "usr/bin/awk").symlink_to("mawk")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    for name in ("run", "tmp", "root", "dev", "proc", "sys"):
        (root / name).mkdir(exist_ok=True)


def _apt(arguments: list[str], work: Path, architecture: str) -> None:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        errors = [x for x in done.stderr.splitlines() if x.startswith("E:")] or ["E: no reason"]
        text = re.sub(r"//[^/@\s]*@", "//", " ".join(errors[:3]))  # a mirror may carry a password
        raise BoardError(
            f"the {architecture} packages cannot be had: apt says {text}",
            where="emulated board",
            hint="Check the network, or set EDGEOPT_DEBIAN_MIRROR to a Debian mirror.",
        )


def _mirror() -> str:
    if own := os.environ.get("EDGEOPT_DEBIAN_MIRROR"):
        return own
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for path in files:
        if path.suffix in (".list", ".sources") and path.is_file():
            for mirror in mirrors(path.read_text(errors="replace"), path.suffix == ".sources"):
                return mirror
    raise MissingDependencyError(
        "the host's apt sources name no Debian mirror",
        where=str(apt),
        hint="Set EDGEOPT_DEBIAN_MIRROR to one, such as the address of your nearest mirror.",
    )


def mirrors(text: str, deb822: bool) -> Iterator[str]:
    """Yield the Debian mirrors of an apt sources file, deb822 (``.sources``) or one-line."""
    if deb822:
        for stanza in re.split(r"\n\s*\n", text):
            lines = [x for x in stanza.splitlines() if not x.startswith("#")]
            fields: dict[str, list[str]] = {}
            name = ""
            for line in lines:
                if line[:1].isspace():
                    fields[name] += line.split()
                elif ":" in line:
                    name, _, value = line.partition(":")
                    name = name.lower()
                    fields[name] = value.split()
            if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
                yield from _debian(fields.get("uris", []), fields.get("suites", []))
        return
    for line in text.splitlines():
        if found := re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+\S", line):
            yield from _debian([found[1]], [found[2]])


def _debian(uris: list[str], suites: list[str]) -> Iterator[str]:
    if any(_DEBIAN_SUITE.fullmatch(s) for s in suites):
        yield from uris


def _network_settings() -> str:
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    return "".join(f"{line}\n" for line in dump.stdout.splitlines() if _CARRIED.match(line))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))
