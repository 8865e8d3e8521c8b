# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A program's stdin that tells it that the host still lives.

A link that stalls has no end: sshd and what it started would run on for hours, and a measurement
that is taken up again would share the board with the one before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

BEAT_S = 10.0
"""A beat's distance; the agent waits for 60 s (EO_SILENCE_S of runtime/agent/events.h)."""


@contextlib.contextmanager
def heartbeat() -> Iterator[Iterator[bytes]]:
    """Give a ``stdin`` for ``Transport.lines``: a line now and again until the block ends."""
    over = threading.Event()

    def beats() -> Iterator[bytes]:
        yield b"\n"
        while not over.wait(BEAT_S):
            yield b"\n"

    try:
        yield beats()
    finally:
        over.set()
