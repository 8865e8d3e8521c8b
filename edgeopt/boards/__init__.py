# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Boards: machines that a bundle runs on, reached over SSH, emulated, or this one itself.

with boards.connect("pi") as board:
    board.transport.run(["uname", "-m"], timeout_s=10)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from edgeopt.boards.facts import BoardFacts
    from edgeopt.boards.registry import BoardEntry
    from edgeopt.boards.transport import Transport
    from edgeopt.engines.select import Platform


_EMULATED_S = 60.0  # its own kernel, on a busy machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A connected board; leaving the context closes the connection."""

    entry: BoardEntry
    transport: Transport
    facts: BoardFacts

    @property
    def emulated(self) -> bool:
        """True if its wall time is not a device's latency."""
        return self.entry.kind == "emulated" or self.facts.emulated

    @property
    def has_time(self) -> bool:
        """False if its clock counts instructions: nothing there is a time, not even its own."""
        from edgeopt.boards.registry import DETERMINISTIC

        return self.entry.mode != DETERMINISTIC

    @property
    def beat_s(self) -> float:
        """How often a program there is told that the host lives, which its clock may count."""
        from edgeopt.boards.heartbeat import BEAT_S, RARE_BEAT_S

        return BEAT_S if self.has_time else RARE_BEAT_S

    @property
    def note(self) -> str | None:
        """What differs between this board and the real one, in a sentence; None if nothing."""
        return self.entry.note

    @property
    def platform(self) -> Platform:
        """What decides which engine builds run here.

        An emulated board stands for its device: if its userland has a newer glibc than the
        device, the device's counts.
        """
        from edgeopt.engines.elf import version_key

        found, real = self.facts.platform, self.entry.libc_version
        if real is None or found.libc_version is None:
            return found
        return replace(found, libc_version=min(real, found.libc_version, key=version_key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.transport.close()


def connect(name: str) -> Board:
    """Connect to the user's board ``name`` and read its facts.

    Raises InputError if there is no such board, BoardError if it cannot be reached or
    trusted.
    """
    from edgeopt.boards import facts, registry

    entry = registry.find(name)
    transport = open_transport(entry)
    try:
        timeout_s = _EMULATED_S if entry.kind == "emulated" else facts.TIMEOUT_S
        told = facts.gather(transport, timeout_s=timeout_s)
        return Board(entry=entry, transport=transport, facts=told)
    except BaseException:
        transport.close()
        raise


def open_transport(entry: BoardEntry) -> Transport:
    """Connect to the board of ``entry``. Raises BoardError."""
    if entry.kind == "local":
        from edgeopt.boards.local import LocalTransport

        return LocalTransport()
    if entry.kind == "emulated":
        from edgeopt.boards.emulated import lifecycle

        lifecycle.require_running(entry)
    from edgeopt.boards.address import Address
    from edgeopt.boards.registry import DETERMINISTIC
    from edgeopt.boards.ssh import SshTransport

    if entry.ssh is not None:
        from edgeopt.boards.enrol import parse_address

        address = parse_address(entry.ssh, entry.key)
        return SshTransport(entry.name, address, host_key=entry.host_key)
    address = Address(user=entry.user, host=entry.host, port=entry.port, key=entry.key)
    asks = entry.mode != DETERMINISTIC  # its clock would count the answers
    return SshTransport(entry.name, address, host_key=entry.host_key, asks=asks)
