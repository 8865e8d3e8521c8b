# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Put the runtime for one platform into a folder that an app can use at once.

DIR/include/edgeopt_rt.h     DIR/lib/libedgeopt_rt.so     DIR/bin/edgeopt-agent
DIR/python/edgeopt_rt.py     DIR/python/edgeopt_pool.py     DIR/ABI.md
DIR/LICENSE     DIR/NOTICE     DIR/THIRD_PARTY_NOTICES.txt
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.engine_names import ENGINES
from edgeopt.engines.elf import needs_of_all, version_key
from edgeopt.errors import InputError
from edgeopt.runtime.build import AGENT, LIBRARY, NOTICES, ROOT, build_runtime
from edgeopt.target import Target

_BUILT_BY_APPS = {"bionic": "Android's NDK (CMake)", "apple": "Xcode"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """What was put where. ``glibc`` is the oldest that loads it, None for musl; ``needs`` are the
    system libraries that the runtime library asks for."""

    folder: Path
    arch: str
    libc: str
    glibc: str | None
    needs: tuple[str, ...]
    files: tuple[Path, ...]


def platform_of(target: Target) -> tuple[str, str]:
    """Return (arch, libc) of a target's device. Raises InputError if it runs apps only."""
    system = target.device.os
    if system.libc in _BUILT_BY_APPS:
        raise InputError(
            f"is for {target.device.name}, whose apps compile their own native code",
            where=target.name,
            hint="Write the sources with `edgeopt runtime export DIR` and build them with "
            f"{_BUILT_BY_APPS[system.libc]} as part of the app.",
        )
    return target.device.arch, system.libc


def install(
    folder: Path, arch: str, libc: str = "glibc", engines: Sequence[str] = ENGINES
) -> Installed:
    """Build the runtime for ``arch`` and ``libc`` and put it into ``folder``.

    ``folder`` is made; it may hold an earlier installation, which is replaced file by file, but
    nothing else. Raises InputError if it does or cannot be written, and what ``build_runtime``
    raises.
    """
    sources = {f"include/{path.name}": path for path in sorted((ROOT / "include").glob("*.h*"))}
    sources |= {f"python/{path.name}": path for path in sorted((ROOT / "python").glob("*.py"))}
    sources |= {name: ROOT / name for name in ("ABI.md", *NOTICES)}
    _check_folder(folder, [*sources, f"lib/{LIBRARY}", f"bin/{AGENT}"])  # before a minute's build
    built = build_runtime(arch, libc, engines=engines)
    needs = needs_of_all([built.library, built.agent])
    files: dict[str, bytes | Path] = {
        **sources,
        f"lib/{LIBRARY}": built.library,
        f"bin/{AGENT}": built.agent,
    }
    return Installed(
        folder=folder,
        arch=arch,
        libc=libc,
        glibc=needs.glibc,
        needs=needs.libraries,
        files=tuple(write_files(folder, files)),
    )


def install_for(
    target: Target, folder: Path, libc: str | None = None, engines: Sequence[str] = ENGINES
) -> Installed:
    """``install`` for a target's device; ``libc`` in place of that of its usual system.

    Raises InputError if the device's glibc is older than what was built.
    """
    arch, usual = platform_of(target)
    installed = install(folder, arch, libc or usual, engines)
    system = target.device.os
    if (
        installed.glibc is not None
        and system.libc == "glibc"
        and system.libc_version is not None
        and version_key(system.libc_version) < version_key(installed.glibc)
    ):
        raise InputError(
            f"has glibc {system.libc_version}, the runtime needs {installed.glibc}",
            where=target.name,
            hint="Take the static agent of `--libc musl`, or write the sources with "
            "`edgeopt runtime export DIR` and compile them on the board.",
        )
    return installed


def write_files(folder: Path, files: Mapping[str, bytes | Path]) -> list[Path]:
    """Write bytes, or copies of files, below ``folder``, each in one rename; bin/ is executable.

    Raises InputError if ``folder`` holds anything else or cannot be written.
    """
    _check_folder(folder, list(files))
    paths = []
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, new = tempfile.mkstemp(dir=path.parent, prefix=".edgeopt-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content if isinstance(content, bytes) else content.read_bytes())
                os.chmod(new, 0o755 if name.startswith("bin/") else 0o644)
                os.replace(new, path)
            except BaseException:
                os.unlink(new)
                raise
            paths.append(path)
    except OSError as exc:
        raise _unwritable(folder, exc) from exc
    return paths


def _check_folder(folder: Path, known: list[str]) -> None:
    """Raise InputError if something is in ``folder`` that is not ``known``, or it is a file."""
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise InputError("is a file, expected a folder", where=str(parent))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError("cannot be written", where=str(parent))
    try:
        found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    except OSError as exc:
        raise _unwritable(folder, exc) from exc
    foreign = [str(path.relative_to(folder)) for path in found]
    foreign = [name for name in foreign if name not in known]
    if foreign:
        raise InputError(
            f"holds {foreign[0]}, which is not of an earlier run",
            where=str(folder),
            hint="Give a new or empty folder.",
        )


def _unwritable(folder: Path, exc: OSError) -> InputError:
    return InputError(f"cannot be written ({exc.strerror})", where=str(folder))
