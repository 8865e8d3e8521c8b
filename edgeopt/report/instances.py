# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of what several processes of an artifact do at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.instances import Instances
from edgeopt.measure.report import Report
from edgeopt.report.tables import ms, size

if TYPE_CHECKING:
    from rich.console import Console


def _medians(found: Instances) -> str:
    medians = [one.p50 for one in found.latencies if one is not None]
    if len(medians) < len(found.instances):
        return "-"
    return f"{ms(min(medians))}-{ms(max(medians))}"


def render(report: Report, console: Console) -> None:
    """Print a row for each run of which several were started at once."""
    from rich.table import Table
    from rich.text import Text

    m = report.measurement
    mark = "\nemulated" if m.emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("at once", overflow="fold")
    heads = (f"per s{mark}", f"one alone{mark}", f"p50 ms of each{mark}", f"window s{mark}")
    for head in (*heads, f"PSS of all{mark}", f"RSS of all{mark}"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    counts = set()
    for item in report.runs:
        found = item.run.instances
        if found is None:
            continue
        counts.add((len(found.instances), found.threads))
        window, rate, alone = found.window_ns, found.throughput_per_s, item.throughput_per_s
        table.add_row(
            item.run.name,
            f"{rate:.3g}" if rate else "-",
            f"{alone:.3g}" if alone else "-",
            _medians(found),
            f"{(window[1] - window[0]) / 1e9:.3g}" if window else "-",
            size(found.pss_bytes),
            size(found.rss_bytes),
        )
    for run in m.runs:
        if run.no_instances:
            console.print(f"{run.name}: not several at once: {run.no_instances}", style="yellow")
    if not table.row_count:
        return
    console.print(table)
    for count, threads in sorted(counts):
        each = f"{threads} thread{'' if threads == 1 else 's'}"
        console.print(
            f"{count} processes at once, {each} each: inferences of all, one at a time in each, "
            "in the time in\nwhich all ran and were steady"
        )
    for item in report.runs:
        if item.run.instances is not None and not item.run.instances.is_steady:
            console.print(
                f"{item.run.name}: at once, its times never became steady: the window has all runs",
                style="yellow",
            )
    console.print()
