# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The architectures that edgeopt compiles for, and what kernels and ELF files call them."""

from __future__ import annotations

import struct

ARCHITECTURES = ("aarch64", "armv7", "x86_64")
"""All, as profiles, bundles and the runtime name them."""

MACHINES = {
    "x86_64": "x86_64",
    "AMD64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "armv7",
    "armv8l": "armv7",  # a 32-bit program under a 64-bit kernel
}
"""By what ``uname -m`` and ``platform.machine()`` say."""

ELF_MACHINES = {40: "armv7", 62: "x86_64", 183: "aarch64"}
"""By ``e_machine``, as <elf.h> numbers it."""


def of_machine(name: str) -> str:
    """Return the architecture of a machine that calls itself ``name``; unknown names stay."""
    return MACHINES.get(name, name)


def elf_machine(head: bytes) -> int | None:
    """Return ``e_machine`` of an ELF file by its first 20 bytes, None for another file."""
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    (machine,) = struct.unpack("<H", head[18:20])
    return int(machine)
