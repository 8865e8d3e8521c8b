# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What an emulated board is made of; both kinds are started from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeopt.boards.cores import EmulatedCore
from edgeopt.device import DeviceProfile


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One board to start.

    ``state`` is its own directory, ``root`` the shared userland that nothing may write to;
    ``isa`` are the features to show; sshd shall listen on ``port`` of 127.0.0.1. ``files`` (path
    on the board -> text, mode) hold the sshd's configuration and keys. With
    ``counts_instructions`` its clock does so, and is no time.
    """

    state: Path
    root: Path
    device: DeviceProfile
    core: EmulatedCore
    isa: tuple[str, ...]
    hostname: str
    port: int
    files: Mapping[str, tuple[str, int]]
    counts_instructions: bool = False

    @property
    def cores(self) -> int:
        """How many cores the device has, of all kinds."""
        return sum(cluster.count for cluster in self.device.clusters)

    @property
    def log(self) -> Path:
        """Where the board's console goes."""
        return self.state / "log"
