# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.report import Report
from edgeopt.measure.statistics import needed
from edgeopt.report.tables import size

if TYPE_CHECKING:
    from rich.console import Console


def ms(value_ns: int | None) -> str:
    """Return milliseconds in four digits."""
    if value_ns is None:
        return "-"
    value = value_ns / 1e6
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _supported(report: Report) -> list[str]:
    """Return the figures that some run has samples enough for; the largest stands in for p99."""
    timed = [item.latency for item in report.runs if item.latency]
    shown = ["p50"] + [p for p in ("p90", "p99") if any(getattr(t, p) is not None for t in timed)]
    return shown if "p99" in shown else [*shown, "max"]


def _lengths(report: Report) -> list[int]:
    return [run.seq_len for run in report.measurement.runs]


def render(report: Report, console: Console) -> None:
    """Print the table; ``emulated`` stands beside every figure that an emulated board gave."""
    from rich.table import Table
    from rich.text import Text

    m = report.measurement
    mark = "\nemulated" if m.emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    shown = _supported(report)
    for name in (*(f"{name} ms{mark}" for name in shown), "n", f"per s{mark}"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for name in (f"memory{mark}", "size", "outputs"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for item in report.runs:
        run, times = item.run, item.latency
        table.add_row(
            run.name,
            *(ms(getattr(times, name, None)) for name in shown),
            str(len(run.wall_ns)),
            f"{item.throughput_per_s:.3g}" if item.throughput_per_s else "-",
            size(run.peak_memory_bytes),
            size(run.artifact_bytes),
            Text("agree") if run.outputs_agree else Text("DISAGREE", "red"),
        )
    if m.runs:
        calls = dict.fromkeys(f"{n} tokens" if n else "an image" for n in _lengths(report))
        threads = _plural(m.runs[0].threads, "thread")
        console.print(f"{m.board_name}: {' and '.join(calls)}, {threads}\n")
    console.print(table)
    console.print()
    lacking = [name for name in ("p90", "p99") if name not in shown]
    if report.runs and lacking:
        runs = ", ".join(f"{name} takes {needed(int(name[1:]) / 100)}" for name in lacking)
        console.print(f"too few runs for more percentiles: {runs}")
    reasons: dict[str, list[str]] = {}
    for absent in m.not_run:
        reasons.setdefault(absent.reason, []).append(absent.name)
    for reason, names in reasons.items():
        console.print(f"not measured: {', '.join(names)}: {reason}", style="yellow")
    if m.emulated:
        console.print(
            f"{m.board_name} is emulated: its times and memory are the emulator's, not a device's. "
            "Whether it runs and what it computes is as on the device.",
            style="yellow",
        )
    console.print(f"raw measurement: {report.path}")
    if report.current is not None:
        console.print(f"an app on {m.board_name} opens: {report.current}")
