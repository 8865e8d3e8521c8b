# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which layers cost the difference of two artifacts, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.explain import Difference, Explanation
from edgeopt.report.operators import us

if TYPE_CHECKING:
    from rich.console import Console

TOP = 12
"""Groups of layers that are shown; the JSON has all."""


def render(found: Explanation, console: Console) -> None:
    """Print the groups that are told apart, what is known of why, and which to ship."""
    mark = " (emulated)" if found.emulated else ""
    for letter, name, i in (("A", found.names[0], 0), ("B", found.names[1], 1)):
        console.print(
            f"{letter}: {name}: {us(found.timed_ns[i])} us an inference, "
            f"{us(found.profiled_ns[i])} while profiled; {found.joined[i]:.0%} of its operators' "
            f"time is joined{mark}"
        )
    whole = found.whole
    console.print(
        f"all operators: A {us(whole.a_ns)} us, B {us(whole.b_ns)} us; B takes {_signed(whole)} "
        f"us{mark} ({_interval(whole)}, {found.rounds[0]} and {found.rounds[1]} rounds"
        f"{' in turns' if found.paired else ''})"
    )
    console.print()
    if found.groups:
        _table(found, console)
    elif found.unknown:
        console.print("no layer is told apart: every interval holds 0")
    rest = len(found.groups) - TOP
    if rest > 0:
        console.print(f"and {rest} more that are told apart: --json has them")
    if found.unknown:
        console.print(
            f"of {len(found.unknown)} groups of layers it cannot be told whether B takes longer: "
            f"together {us(sum(one.center for one in found.unknown))} us"
        )
    console.print()
    if found.reasons:
        console.print("INT8 here:")
        for line in found.reasons:
            console.print(f"  {line}{mark if ' us' in line else ''}")
        console.print()
    for note in found.notes:
        console.print(note, style="yellow")
    if not found.paired:
        console.print(
            "The two were not profiled in turns: what differs from session to session is not in "
            "the intervals.",
            style="yellow",
        )
    if found.emulated:
        console.print(
            f"{' and '.join(dict.fromkeys(found.board_names))} is emulated: these are times of the "
            "emulator, and which layer costs more on a device may be another.",
            style="yellow",
        )
    console.print(f"ship: {found.advice}", style="bold")


def _table(found: Explanation, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    mark = "\nemulated" if found.emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layers", overflow="fold")
    for head in ("A us", "B us", "B-A", "95 % interval"):
        table.add_column(Text(f"{head}{mark}"), justify="right", no_wrap=True)
    for one in found.groups[:TOP]:
        low, high = (f"{us(end)}" for end in (one.low, one.high))
        table.add_row(one.name, us(one.a_ns), us(one.b_ns), _signed(one), f"{low} to {high}")
    console.print(table)


def _signed(one: Difference) -> str:
    return f"{'+' if one.center >= 0 else ''}{us(one.center)}"


def _interval(one: Difference) -> str:
    return f"95 % interval {us(one.low)} to {us(one.high)}"
