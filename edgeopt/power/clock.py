# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The board's clock against this machine's: bracketed by round trips, never assumed.

We note the time, ask the board for its clock, and note the time of the answer: the board's reading
lies between the two (Cristian 1989). What runs between two clocks is bounded by their crystals.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeopt.boards.transport import Transport
from edgeopt.errors import MeasurementError

DRIFT = 200e-6
"""How much two clocks may drift apart, relative: twice the 100 ppm of an ordinary crystal over its
temperatures (IEEE 802.3 allows as much of a network's)."""

_ASKED = 5
_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sync:
    """One reading of the board's clock, ``board_ns``, and when we asked for it and had it.

    ``sent_ns`` and ``received_ns`` are of ``now_ns``, the other two, microseconds, of the time
    of day (Unix).
    """

    board_ns: int
    sent_ns: int
    received_ns: int
    sent_utc_us: int
    received_utc_us: int


def now_ns() -> int:
    """Return this machine's monotonic clock, which nobody sets."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def ask(transport: Transport, agent: str) -> Sync:
    """Ask the board's clock some times and return the answer that came soonest.

    ``agent`` is the path of edgeopt-agent there. Raises BoardError, and MeasurementError if what
    comes is no answer.
    """
    turns: queue.Queue[bool] = queue.Queue()
    sent: list[tuple[int, int]] = []

    def asks() -> Iterator[bytes]:
        for _ in range(_ASKED):
            if not turns.get():
                return
            sent.append((now_ns(), time.time_ns() // 1000))
            yield b"\n"

    found: list[Sync] = []
    lines = transport.lines([agent, "clock"], stdin=asks(), timeout_s=_TIMEOUT_S)
    try:
        for line in lines:
            received = now_ns(), -(-time.time_ns() // 1000)
            try:
                event = json.loads(line)
                if event["event"] == "clock":
                    begin = sent[len(found)]
                    found.append(
                        Sync(
                            board_ns=int(event["ns"]), sent_ns=begin[0], received_ns=received[0],
                            sent_utc_us=begin[1], received_utc_us=received[1],
                        )
                    )  # fmt: skip
            except (ValueError, KeyError, TypeError, IndexError) as exc:
                raise MeasurementError(
                    f"the agent sent a line that is not its protocol: {line[:200]!r}",
                    where=transport.name,
                ) from exc
            turns.put(True)
    finally:
        turns.put(False)
        lines.close()
    if len(found) < _ASKED:
        raise MeasurementError("the board did not tell its clock", where=transport.name)
    return min(found, key=lambda sync: sync.received_ns - sync.sent_ns)


def offset(syncs: Sequence[Sync], at_ns: int, *, utc: bool = False) -> tuple[int, int]:
    """Return the bounds of board clock minus ours, nanoseconds, at ``at_ns`` of the board's.

    Each of ``syncs`` bounds it, the looser the longer ago. ``utc`` is for our time of day. Raises
    MeasurementError if there is none, or they contradict each other: a clock was set.
    """
    lows, highs = [], []
    for sync in syncs:
        drift = int(abs(at_ns - sync.board_ns) * DRIFT)
        begin, end = sync.sent_ns, sync.received_ns
        if utc:
            begin, end = sync.sent_utc_us * 1000, sync.received_utc_us * 1000
        lows.append(sync.board_ns - end - drift)
        highs.append(sync.board_ns - begin + drift)
    if not lows:
        raise MeasurementError("nothing is known of the board's clock against this machine's")
    low, high = max(lows), min(highs)
    if low > high:
        raise MeasurementError(
            f"the clocks of the board and of this machine contradict themselves by {low - high} ns",
            hint="Was a clock set meanwhile? Measure again.",
        )
    return low, high
