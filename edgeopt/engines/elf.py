"""What a shared library asks of the board it is loaded on, read from its ELF file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeopt.errors import InputError

_MACHINES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64", "EM_ARM": "armv7"}
_VERSIONED = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)*)")


def version_tuple(text: str) -> tuple[int, ...]:
    """Return ``"2.28"`` as ``(2, 28)``. Raises InputError where it is not digits and dots."""
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError as exc:
        raise InputError(f"expected a version such as 2.28, found {text!r}") from exc


def newest(versions: list[str]) -> str | None:
    """Return the highest of ``versions``, or None for an empty list."""
    return max(versions, key=version_tuple, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ElfNeeds:
    """``arch`` as in a device profile; ``needed`` are DT_NEEDED names; the rest are the highest
    symbol versions asked for, None where the file asks for none.
    """

    arch: str
    needed: tuple[str, ...]
    glibc: str | None
    glibcxx: str | None
    cxxabi: str | None


def read_needs(path: Path) -> ElfNeeds:
    """Read the needs of the executable or library ``path``.

    Raises InputError where it is not an ELF file of a known machine. Sources: ELF gABI; the Linux
    Standard Base on ``.gnu.version_r``.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    versions: dict[str, list[str]] = {"GLIBC": [], "GLIBCXX": [], "CXXABI": []}
    needed: list[str] = []
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            machine = elf["e_machine"]
            for section in elf.iter_sections():
                if isinstance(section, DynamicSection):
                    needed += [t.needed for t in section.iter_tags() if t.entry.d_tag == "DT_NEEDED"]
                elif isinstance(section, GNUVerNeedSection):
                    for _, symbols in section.iter_versions():
                        for symbol in symbols:
                            if match := _VERSIONED.fullmatch(symbol.name):
                                versions[match[1]].append(match[2])
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except (ELFError, UnicodeDecodeError) as exc:
        raise InputError(f"is not a whole ELF file ({exc})", where=str(path)) from exc
    if machine not in _MACHINES:
        known = ", ".join(_MACHINES.values())
        raise InputError(f"is built for {machine}, expected one of {known}", where=str(path))
    return ElfNeeds(
        arch=_MACHINES[machine],
        needed=tuple(needed),
        glibc=newest(versions["GLIBC"]),
        glibcxx=newest(versions["GLIBCXX"]),
        cxxabi=newest(versions["CXXABI"]),
    )
