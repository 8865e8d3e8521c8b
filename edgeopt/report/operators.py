# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The operators that took longest, as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.operator_times import NOT_JOINED, Operators, by_operator, layers_text
from edgeopt.measure.report import Report

if TYPE_CHECKING:
    from rich.console import Console

TOP = 8
"""Rows of each artifact; the measurement holds all."""


def render(report: Report, console: Console) -> None:
    """Print the operators of each artifact that were timed, and why others were not."""
    emulated = report.measurement.emulated
    for item in report.runs:
        if item.run.operators is not None:
            timed = item.latency.p50 if item.latency else None
            _table(item.run.name, item.run.operators, timed, emulated, console)
        elif item.run.no_operators:
            console.print(
                f"{item.run.name}: no times of operators: {item.run.no_operators}", style="yellow"
            )
            console.print()


def _table(
    name: str, found: Operators, timed_ns: float | None, emulated: bool, console: Console
) -> None:
    from rich.table import Table
    from rich.text import Text

    mark = "\nemulated" if emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(name, overflow="fold")
    table.add_column("layer", overflow="fold")
    for head in ("calls", f"us{mark}", "share"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    calls = sum(map(len, found.wall_ns))
    rows = by_operator(found)
    for row in rows[:TOP]:
        one = row.operators[0]
        what = one.type if one.layers else one.name
        layers = layers_text(one.layers)
        table.add_row(what, layers, str(calls), us(row.median_ns), f"{row.share:.1%}")
    console.print(table)
    rest = rows[TOP:]
    whole = found.median_ns(found.operators)
    told = f"{us(whole)} us in {len(rows)} operators"
    if rest:
        told += f", {sum(row.share for row in rest):.0%} of it in the other {len(rest)}"
    told += f"; {NOT_JOINED}: {1 - found.joined_share:.1%}"
    if found.unjoined:
        told += f" ({found.unjoined})"
    console.print(told)
    cost = f"an inference took {us(found.profiled_ns)} us while it was profiled"
    if timed_ns:
        cost += f", and {us(timed_ns)} us without"
    console.print(f"{cost}{' (emulated)' if emulated else ''}; {found.how}")
    if found.unknown:
        console.print(f"not known: {found.unknown}")
    console.print()


def us(value_ns: float) -> str:
    """Return microseconds in about four digits."""
    value = value_ns / 1e3
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}"
