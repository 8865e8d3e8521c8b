# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""One emulated board for all tests that need a real sshd on a real (emulated) arm64 userland."""

from collections.abc import Iterator

import pytest

from edgeopt.boards import open_transport
from edgeopt.boards.emulated import lifecycle, user_mode
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.transport import Transport
from edgeopt.errors import BoardError, MissingDependencyError
from edgeopt.target import load_target


@pytest.fixture(scope="session")
def emulated_board() -> Iterator[BoardEntry]:
    """A running user-mode Raspberry Pi 4; skipped where this machine cannot run one."""
    if (reason := user_mode.missing()) is not None:
        pytest.skip(f"no user-mode board here: {reason}")
    try:
        entry = lifecycle.up("test-pi", load_target("raspberry-pi-4"), mode="user")
    except (BoardError, MissingDependencyError) as exc:
        pytest.skip(f"no user-mode board here: {exc}")
    yield entry
    lifecycle.forget("test-pi")


@pytest.fixture
def wire(emulated_board: BoardEntry) -> Iterator[Transport]:
    """An SSH connection to that board."""
    with open_transport(emulated_board) as transport:
        yield transport
