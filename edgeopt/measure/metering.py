# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An external meter beside a run, and the board's clock against ours before and after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeopt.boards import Board
from edgeopt.errors import InputError
from edgeopt.measure.trace import Metered
from edgeopt.power import clock, meters
from edgeopt.power.clock import Sync

IDLE_MS = 10_000
"""How long the board rests before a run that a meter measures: a smart plug tells once a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeterPlan:
    """An external meter: its address, watts by the number it tells, and its largest relative error
    (None: not known)."""

    address: str
    scale_w: float = 1.0
    gain: float | None = None


@dataclass(slots=True)
class Beside:
    """What came of it; filled when the block ends."""

    clock: list[Sync] = field(default_factory=list)
    metered: Metered | None = None

    def fields(self) -> dict[str, Any]:
        """Return them as fields of a trace."""
        return {"clock": tuple(self.clock), "metered": self.metered}


def check(board: Board, plan: MeterPlan | None) -> None:
    """Raise InputError for a meter on an emulated board, which has no power of its own."""
    if plan is not None and board.emulated:
        raise InputError(
            "is emulated and has no power: a meter would measure this machine",
            where=board.entry.name,
            hint="Leave --meter out.",
        )


@contextlib.contextmanager
def recorded(board: Board, agent: str, plan: MeterPlan | None) -> Iterator[Beside]:
    """Read the meter of ``plan`` until the block ends, and the board's clock before and after.

    ``agent`` is the path of edgeopt-agent there. An emulated board's clock is not asked: nothing is
    measured on it by another clock. Raises what ``meters.open_meter`` and ``clock.ask`` raise.
    """
    beside = Beside()
    if board.emulated:
        yield beside
        return
    beside.clock.append(clock.ask(board.transport, agent))
    if plan is None:
        yield beside
    else:
        with meters.Log(plan.address) as log:
            yield beside
        beside.metered = Metered(
            meter=meters.shown(plan.address),
            scale_w=plan.scale_w,
            gain=plan.gain,
            begin_ns=tuple(reading.begin_ns for reading in log.readings),
            took_ns=tuple(reading.end_ns - reading.begin_ns for reading in log.readings),
            text=tuple(reading.text for reading in log.readings),
            failure=log.failure or "",
        )
    beside.clock.append(clock.ask(board.transport, agent))
