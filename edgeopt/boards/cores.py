# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Arm cores: the names behind the ids in ``/proc/cpuinfo``, and what QEMU emulates of them.

Sources: implementer and part ids from Linux ``arch/arm64/include/asm/cputype.h`` and util-linux
``lscpu-arm.c``; MIDR values from QEMU 7.2 ``target/arm``; features from each core's
Technical Reference Manual, under the names that Linux prints.
"""

from __future__ import annotations

from dataclasses import dataclass

# (implementer, part) -> name
PARTS = {
    (0x41, 0xC05): "cortex-a5",
    (0x41, 0xC07): "cortex-a7",
    (0x41, 0xC08): "cortex-a8",
    (0x41, 0xC09): "cortex-a9",
    (0x41, 0xC0F): "cortex-a15",
    (0x41, 0xC0E): "cortex-a17",
    (0x41, 0xB76): "arm1176",
    (0x41, 0xD01): "cortex-a32",
    (0x41, 0xD02): "cortex-a34",
    (0x41, 0xD03): "cortex-a53",
    (0x41, 0xD04): "cortex-a35",
    (0x41, 0xD05): "cortex-a55",
    (0x41, 0xD06): "cortex-a65",
    (0x41, 0xD07): "cortex-a57",
    (0x41, 0xD08): "cortex-a72",
    (0x41, 0xD09): "cortex-a73",
    (0x41, 0xD0A): "cortex-a75",
    (0x41, 0xD0B): "cortex-a76",
    (0x41, 0xD0C): "neoverse-n1",
    (0x41, 0xD0D): "cortex-a77",
    (0x41, 0xD0E): "cortex-a76ae",
    (0x41, 0xD40): "neoverse-v1",
    (0x41, 0xD41): "cortex-a78",
    (0x41, 0xD42): "cortex-a78ae",
    (0x41, 0xD44): "cortex-x1",
    (0x41, 0xD46): "cortex-a510",
    (0x41, 0xD47): "cortex-a710",
    (0x41, 0xD48): "cortex-x2",
    (0x41, 0xD49): "neoverse-n2",
    (0x41, 0xD4B): "cortex-a78c",
    (0x41, 0xD4D): "cortex-a715",
    (0x41, 0xD4E): "cortex-x3",
    (0x41, 0xD4F): "neoverse-v2",
    (0x41, 0xD80): "cortex-a520",
    (0x41, 0xD81): "cortex-a720",
    (0x41, 0xD82): "cortex-x4",
    (0x46, 0x001): "a64fx",
    (0x4E, 0x003): "denver-2",
    (0x4E, 0x004): "carmel",
    (0x51, 0x802): "kryo-385-gold",
    (0x51, 0x803): "kryo-385-silver",
    (0x51, 0x804): "kryo-485-gold",
    (0x51, 0x805): "kryo-485-silver",
    (0x61, 0x022): "apple-icestorm",
    (0x61, 0x023): "apple-firestorm",
    (0x61, 0x032): "apple-blizzard",
    (0x61, 0x033): "apple-avalanche",
}

_V8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)


# arch/arm/kernel/setup.c's names of a 32-bit kernel, as a Cortex-A7 has them.
_V7_VE = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"


@dataclass(frozen=True, kw_only=True, slots=True)
class EmulatedCore:
    """A core that QEMU models: its ``-cpu`` name, MIDR, and features by Linux's names.

    ``architecture`` is 7 for a 32-bit core.
    """

    name: str
    midr: int
    isa: tuple[str, ...]
    architecture: int = 8

    @property
    def implementer(self) -> int:
        """Bits 31:24 of the MIDR; 0x41 is Arm."""
        return self.midr >> 24 & 0xFF

    @property
    def variant(self) -> int:
        """Bits 23:20 of the MIDR: the major revision."""
        return self.midr >> 20 & 0xF

    @property
    def part(self) -> int:
        """Bits 15:4 of the MIDR."""
        return self.midr >> 4 & 0xFFF

    @property
    def revision(self) -> int:
        """Bits 3:0 of the MIDR: the minor revision."""
        return self.midr & 0xF


EMULATED = {
    core.name: core
    for core in (
        EmulatedCore(name="cortex-a7", midr=0x410FC075, isa=tuple(_V7_VE.split()), architecture=7),
        EmulatedCore(name="cortex-a35", midr=0x410FD040, isa=tuple(_V8_0.split())),
        EmulatedCore(name="cortex-a53", midr=0x410FD034, isa=tuple(_V8_0.split())),
        EmulatedCore(name="cortex-a57", midr=0x411FD070, isa=tuple(_V8_0.split())),
        EmulatedCore(name="cortex-a72", midr=0x410FD083, isa=tuple(_V8_0.split())),
        EmulatedCore(name="cortex-a76", midr=0x414FD0B1, isa=tuple(_V8_2.split())),
        EmulatedCore(name="neoverse-n1", midr=0x414FD0C1, isa=tuple(_V8_2.split())),
    )
}

# Cores without a model in QEMU 7.2 -> the nearest with one, by architecture version and features.
NEAREST = {
    "cortex-a73": "cortex-a72",
    "cortex-a55": "cortex-a76",
    "cortex-a75": "cortex-a76",
    "cortex-a76ae": "cortex-a76",
    "cortex-a77": "cortex-a76",
    "cortex-a78": "cortex-a76",
    "cortex-a78ae": "cortex-a76",
    "cortex-a78c": "cortex-a76",
    "cortex-x1": "cortex-a76",
    "carmel": "cortex-a76",
}


def name_of(implementer: int, part: int) -> str:
    """Return the core's name, or its ids in hex if the table has none."""
    return PARTS.get((implementer, part), f"{implementer:#04x}:{part:#05x}")
