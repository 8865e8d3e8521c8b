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


RARE_BEAT_S = 30.0
"""That of a board on which each beat counts: a deterministic one, whose clock is not the faster."""


@contextlib.contextmanager
def heartbeat(every_s: float = BEAT_S) -> Iterator[Iterator[bytes]]:
    """Give a ``stdin`` for ``Transport.lines``: a line ``every_s`` until the block ends."""
    over = threading.Event()

    def beats() -> Iterator[bytes]:
        yield b"\n"
        while not over.wait(every_s):
            yield b"\n"

    try:
        yield beats()
    finally:
        over.set()
