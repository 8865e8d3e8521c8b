# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of what memory artifacts took, phase by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.report import Report

if TYPE_CHECKING:
    from rich.console import Console

_HEADS = (
    *("RSS\nbefore", "\nloaded", "\n1st run", "\nsteady", "\npeak"),
    *("PSS\nsteady", "unbacked\nloaded", "unbacked\nsteady", "mapped\nsteady"),
)
_LEGEND = (
    "MB. RSS: resident. PSS: a page that n processes map counts as an n-th.\n"
    "unbacked: resident, in no file on a disk (copies of weights, tensors, the heap).\n"
    "mapped: resident of the artifact's own files."
)


def _mb(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.{0 if count >= 1e9 else 1}f}"


def render(report: Report, console: Console) -> None:
    """Print a row for each run whose memory was read, and what is over the target's budget."""
    from rich.table import Table
    from rich.text import Text

    m = report.measurement
    read = [(run.name, run.memory) for run in m.runs if run.memory is not None]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text("memory\nemulated" if m.emulated else "memory"), overflow="fold")
    for head in _HEADS:
        table.add_column(Text(head), justify="right", no_wrap=True)
    for name, memory in read:
        table.add_row(
            name,
            *(_mb(phase.rss_bytes) for phase in memory.all),
            _mb(memory.peak_bytes),
            _mb(memory.steady.pss_bytes),
            _mb(memory.loaded.unbacked_bytes),
            _mb(memory.steady.unbacked_bytes),
            _mb(memory.steady.artifact_mapped_bytes),
        )
    arenas = [
        f"{name}: its arena took {_mb(memory.loaded.arena_bytes)} MB when loaded (packed weights), "
        f"{_mb(memory.steady.arena_bytes)} steady"
        for name, memory in read
        if memory.steady.arena_bytes is not None
    ]
    if read:
        console.print(table)
        console.print(_LEGEND)
        if m.emulated:
            console.print(
                "Emulated in user mode, all of it holds the emulator and what it translated too.",
                style="yellow",
            )
        for line in arenas:
            console.print(line)
        console.print()
    for name, memory in read:
        swapped = max(phase.swap_bytes or 0 for phase in memory.all)
        if swapped:
            console.print(
                f"{name}: {_mb(swapped)} MB of it were swapped out, and are not resident",
                style="yellow",
            )
    for item in report.runs:
        if item.over_memory:
            console.print(f"{item.run.name}: {item.over_memory}", style="red")
