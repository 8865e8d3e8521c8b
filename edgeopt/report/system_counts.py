# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of what a deterministic board counted: instructions, and no time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.measurement import Measurement
from edgeopt.measure.system_counts import ELSEWHERE, SystemCounts
from edgeopt.report.tables import size

if TYPE_CHECKING:
    from rich.console import Console


def render(m: Measurement, console: Console) -> None:
    """Print the instructions of an inference by artifact, with memory, size and outputs."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    for head in ("instructions", "within", "first run"):
        table.add_column(Text(f"{head}\nemulated"), justify="right", no_wrap=True)
    for head in ("n", "memory\nemulated", "size", "outputs"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for run in m.runs:
        found = run.system
        counts = ("-",) * 4
        if found is not None:
            count, first = f"{found.per_inference:,}", f"{found.first:,}"
            counts = (count, _within(found), first, str(len(found.instructions)))
        table.add_row(
            run.name,
            *counts,
            size(run.peak_memory_bytes),
            size(run.artifact_bytes),
            Text("agree") if run.outputs_agree else Text("DISAGREE", "red"),
        )
    console.print(table)
    console.print(
        "instructions of the whole emulated system for an inference, its kernel's with them, on "
        "all cores; no time\nwithin: what bounds the median from each side with 95 % confidence"
    )
    console.print()
    for run in m.runs:
        if run.system is not None and run.system.elsewhere > ELSEWHERE:
            console.print(
                f"{run.name}: in {run.system.elsewhere:.1%} of it other programs ran, or all "
                "waited: count again on a board that does nothing else",
                style="yellow",
            )


def _within(found: SystemCounts) -> str:
    """Return the bounds of the median as shares of it, "-" if it has none."""
    if found.within == (None, None):
        return "-"
    shares = (
        "?" if end is None else f"{end / found.per_inference - 1:+.2%}" for end in found.within
    )
    return " ".join(shares)
