# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a shared library asks of the machine that loads it, read off its ELF file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.architectures import ELF_MACHINES
from edgeopt.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """``glibc`` and ``glibcxx`` are the highest symbol versions asked for, None without any;
    ``libraries`` are the names in DT_NEEDED."""

    arch: str
    glibc: str | None
    glibcxx: str | None
    libraries: tuple[str, ...]


def needs_of_all(paths: Sequence[Path]) -> Needs:
    """Return what several files of one architecture need together."""
    each = [read_needs(path) for path in paths]
    own = {path.name for path in paths}
    return Needs(
        arch=each[0].arch,
        glibc=max((n.glibc for n in each if n.glibc), key=version_key, default=None),
        glibcxx=max((n.glibcxx for n in each if n.glibcxx), key=version_key, default=None),
        libraries=tuple(sorted({name for n in each for name in n.libraries} - own)),
    )


def version_key(version: str) -> tuple[int, ...]:
    """Return ``version`` (digits and dots) as something that compares."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def read_needs(path: Path) -> Needs:
    """Read the needs of a shared library or program. Raises InputError if it is not ELF."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as file:
            return _needs(ELFFile(file), path)
    except (ELFError, OSError) as exc:
        raise InputError(f"is not an ELF file ({exc})", where=str(path)) from exc


def _needs(elf: Any, path: Path) -> Needs:
    from elftools.elf.enums import ENUM_E_MACHINE

    machine = elf.header["e_machine"]  # a name, or a number that has none
    arch = ELF_MACHINES.get(ENUM_E_MACHINE.get(machine, machine))
    if arch is None:
        raise InputError(f"is for {machine}, which edgeopt does not know", where=str(path))
    symbols: set[str] = set()
    versions = elf.get_section_by_name(".gnu.version_r")
    if versions is not None:
        for _, auxiliaries in versions.iter_versions():
            symbols |= {auxiliary.name for auxiliary in auxiliaries}
    dynamic = elf.get_section_by_name(".dynamic")
    tags = dynamic.iter_tags() if dynamic is not None else ()
    return Needs(
        arch=arch,
        glibc=_highest(symbols, "GLIBC_"),
        glibcxx=_highest(symbols, "GLIBCXX_"),
        libraries=tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
    )


def _highest(symbols: set[str], prefix: str) -> str | None:
    found = [s.removeprefix(prefix) for s in symbols if re.fullmatch(prefix + r"[\d.]+", s)]
    return max(found, key=version_key, default=None)
