# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of calls of several inputs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.report import Report
from edgeopt.report.tables import ms, size

if TYPE_CHECKING:
    from rich.console import Console


def render(report: Report, console: Console) -> None:
    """Print a row for each batch of each run, and why there is none."""
    from rich.table import Table
    from rich.text import Text

    mark = "\nemulated" if report.measurement.emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("in batches", overflow="fold")
    heads = (f"inputs per s{mark}", f"one by one{mark}", f"p50 ms of a call{mark}")
    for head in (*heads, f"memory{mark}", "outputs"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for item in report.runs:
        alone = item.throughput_per_s
        for found in item.run.batches:
            rate, latency = found.throughput_per_s, found.latency
            table.add_row(
                f"{item.run.name}, {found.batch}",
                f"{rate:.3g}" if rate else "-",
                f"{alone:.3g}" if alone else "-",
                ms(latency.p50 if latency else None),
                size(found.peak_memory_bytes),
                Text("agree") if found.outputs_agree else Text("DISAGREE", "red"),
            )
    for run in report.measurement.runs:
        if run.no_batches:
            console.print(f"{run.name}: not in batches: {run.no_batches}", style="yellow")
    if not table.row_count:
        return
    console.print(table)
    console.print(
        "so many inputs in a call, all of one length; each waits for the whole call. One by one\n"
        "and in batches ran one after the other, in processes of their own"
    )
    for item in report.runs:
        for score in item.batch_scores:
            console.print(
                f"{item.run.name}: by the rules of {score.rules}, and no result of theirs: "
                f"{score.per_s:.4g} per s ({score.text})"
            )
    console.print()
