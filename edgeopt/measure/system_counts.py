# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How many instructions an inference takes of a whole emulated system. That is no time.

A deterministic board's clock goes on by one with each instruction that any of its cores executes,
in steps of ``GRAIN``: what its agent reads off it before and after a run is their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.boards import Board
from edgeopt.errors import InputError, MeasurementError
from edgeopt.fields import Table
from edgeopt.measure.statistics import Bounds, percentiles

GRAIN = 16
"""Instructions between two values of the clock: Arm's generic timer, 62.5 MHz in QEMU's boards."""

ELSEWHERE = 0.01
"""The share of an inference in which its process held no core, from which on that is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemCounts:
    """Instructions of a whole emulated system during single inferences in a row.

    They are of user programs and the kernel, on all cores. ``first`` are those of the first
    inference of the process. ``held`` is how long threads of the process held a core meanwhile, by
    the same clock: less than the instructions if other programs ran, or if all of them waited,
    when the clock goes on without instructions.
    """

    instructions: tuple[int, ...]
    held: tuple[int, ...]
    first: int

    def check(self, table: Table) -> None:
        """Raise InputError if the numbers are not of the same inferences, or of none."""
        if not self.instructions or len(self.held) != len(self.instructions):
            raise table.wrong("instructions", "counts are not of the same inferences")
        if min(self.instructions) <= 0 or min(self.held) < 0:
            raise table.wrong("instructions", "expected instructions of each inference")

    @property
    def per_inference(self) -> int:
        """The instructions of the median inference (the lower one of two)."""
        return sorted(self.instructions)[(len(self.instructions) - 1) // 2]

    @property
    def within(self) -> Bounds:
        """What bounds that median from each side with 95 % confidence, None if nothing does."""
        return percentiles(self.instructions).p50_bounds

    @property
    def elsewhere(self) -> float:
        """The share of all these inferences in which the process held no core."""
        return max(0.0, 1 - sum(self.held) / sum(self.instructions))

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints."""
        low, high = self.within
        return {
            "emulated": True,
            "inferences": len(self.instructions),
            "instructions": self.per_inference,
            "low": low,
            "high": high,
            "first_inference": self.first,
            "elsewhere": self.elsewhere,
        }


def of_clock(
    wall_ns: Sequence[int], cpu_ns: Sequence[int], first_ns: int, where: str
) -> SystemCounts:
    """Return what an agent read off a clock that counts instructions, run by run.

    Raises MeasurementError, naming ``where``, if the clock stood still.
    """
    if min(wall_ns) <= 0:
        raise MeasurementError("the board's clock does not count instructions", where=where)
    return SystemCounts(instructions=tuple(wall_ns), held=tuple(cpu_ns), first=first_ns)


def check_board(board: Board, *, deterministic: bool) -> None:
    """Raise InputError if instructions are to be counted and it has time, or the other way round.

    What its clock says would be shown as what it is not.
    """
    if deterministic and board.has_time:
        raise InputError(
            "--deterministic is for a board whose clock counts instructions; this one's tells time",
            where=board.entry.name,
            hint="Start one with: edgeopt board up NAME --target TARGET --mode deterministic",
        )
    if not deterministic and not board.has_time:
        raise InputError(
            "its clock counts instructions, and nothing there can be timed",
            where=board.entry.name,
            hint="Count them with: edgeopt profile BUNDLE --board "
            f"{board.entry.name} --deterministic",
        )


def check_alone(**asked: object) -> None:
    """Raise InputError if anything is ``asked`` for, by its option, that takes time."""
    for name, value in asked.items():
        if value:
            raise InputError(
                f"--{name.replace('_', '-')} takes time, of which a deterministic board has none",
                where="profile",
                hint="Ask for it on a board of another mode.",
            )
