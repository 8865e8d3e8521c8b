# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which build of an engine a board can run, decided on facts before anything is uploaded."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.engines.elf import version_key
from edgeopt.engines.releases import SYSTEM, Release, find, releases
from edgeopt.errors import BoardError
from edgeopt.target import ENGINES


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """What decides whether a library loads: architecture, C and C++ library, instruction set.

    ``isa`` are feature names of /proc/cpuinfo, ``cores`` names such as cortex-a72; ``glibcxx`` is
    the newest symbol version of libstdc++.so.6, None if the board has none. ``libraries`` are
    paths of the engine libraries that its system has.
    """

    arch: str
    libc: str
    libc_version: str | None
    glibcxx: str | None
    isa: tuple[str, ...]
    cores: tuple[str, ...]
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The newest build of ``engine`` that runs, or (``runs`` false, ``version`` the newest for
    this architecture, else of all) why none does. For one that runs, ``reason`` tells why a newer
    one does not."""

    engine: str
    version: str
    runs: bool
    reason: str


def verdicts(platform: Platform) -> tuple[Verdict, ...]:
    """Return one verdict for each engine."""
    found = []
    for engine in ENGINES:
        every = [r for r in releases() if r.engine == engine]
        known = [r for r in every if platform.arch in r.arch] or every
        reasons = [_misfit(r, platform) for r in known]
        fitting = next((i for i, reason in enumerate(reasons) if reason is None), None)
        chosen = 0 if fitting is None else fitting
        found.append(
            Verdict(
                engine=engine,
                version=known[chosen].version,
                runs=fitting is not None,
                reason=reasons[0] or "",
            )
        )
    return tuple(found)


def choose(engine: str, version: str, platform: Platform) -> Release:
    """Return the release ``version`` of ``engine`` if this board can run it.

    Raises BoardError, naming the version that would run, if it cannot.
    """
    release = find(engine, version, platform.arch)
    reason = _misfit(release, platform)
    if reason is None:
        return release
    known = [r for r in releases() if r.engine == engine]
    fitting = next((r for r in known if _misfit(r, platform) is None), None)
    missing = next((r for r in known if _unfit(r, platform) is None), None)
    if fitting is not None:
        hint = (
            f"{engine} {fitting.version} would run: set it as the version in a target of your own."
        )
    elif missing is release:
        hint = "Do that on the board, and then run the same command again."
    elif missing is not None:
        hint = f"{engine} {missing.version} would run: {_command(missing)}, and set it as the "
        hint += "version in a target of your own."
    else:
        hint = f"No known build of {engine} runs there."
    raise BoardError(reason, hint=hint)


def _misfit(release: Release, platform: Platform) -> str | None:
    """Return why ``release`` does not run on such a board; None if nothing speaks against it."""
    if reason := _unfit(release, platform):
        return reason
    if release.registry == SYSTEM and not release.library_among(platform.libraries):
        return f"{release.name} is not installed there: {_command(release)}"
    return None


def _command(release: Release) -> str:
    return f"sudo apt install {release.packages[0].name}"


def _unfit(release: Release, platform: Platform) -> str | None:
    """Return why such a board cannot load ``release``, whether or not it has it."""
    arch, isa, cores = platform.arch, platform.isa, platform.cores
    if arch not in release.arch:
        return f"{release.name} has no build for {arch}"
    if release.library_among(platform.libraries):
        return None  # installed there, or built for it
    if platform.libc != "glibc":
        return f"{release.name} needs glibc, the board has {platform.libc}"
    glibc, stdcxx = release.glibc[arch], release.glibcxx[arch]
    version = platform.libc_version
    if version is not None and version_key(version) < version_key(glibc):
        return f"{release.name} needs GLIBC {glibc}, the board has {version}"
    if platform.glibcxx is None:
        return f"{release.name} needs libstdc++.so.6, which the board does not have"
    if version_key(platform.glibcxx) < version_key(stdcxx):
        return f"{release.name} needs GLIBCXX {stdcxx}, the board has {platform.glibcxx}"
    lacking = [f for f in release.needs_isa.get(arch, ()) if f not in isa]
    if lacking:
        core = cores[0] if cores else arch
        return (
            f"{release.name} dies with an illegal instruction on {core}, "
            f"which lacks {', '.join(lacking)}"
        )
    return None
