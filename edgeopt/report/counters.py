# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeopt.measure.counters import REPEATABLE, Counters
from edgeopt.measure.measurement import Measurement

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = {
    "integer": ("integer",),
    "branch": ("branch",),
    "load": ("load", "vector_load"),
    "store": ("store", "vector_store"),
    "vector": ("vector",),
    "multiply-add": ("multiply_add",),
    "dot": ("dot",),
}
"""Heads and the classes that they are the sum of."""


def render(m: Measurement, console: Console) -> None:
    """Print the instructions of an inference by artifact, if they were counted."""
    from rich.table import Table
    from rich.text import Text

    counted = {run.name: run.counters for run in m.runs if run.counters is not None}
    if not counted:
        return
    heads = _COLUMNS if any(c.classes for c in counted.values()) else {}
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    for head in ("instructions\nemulated", *heads):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for name, counters in counted.items():
        found = counters.by_class
        sums = (sum(found.get(part, 0) for part in parts) for parts in heads.values())
        table.add_row(name, *map(_millions, (counters.per_inference, *sums)))
    console.print(table)
    console.print("millions of instructions an inference, emulated, one thread; no time")
    console.print()
    _render_caches(counted, console)
    for name, counters in counted.items():
        if counters.spread > REPEATABLE:
            console.print(
                f"{name}: its inferences differ by up to {counters.spread:.2%} in instructions; "
                "the figure is the median one's",
                style="yellow",
            )


def _render_caches(counted: Mapping[str, Counters], console: Console) -> None:
    """Print what moved in the model of the device's caches."""
    from rich.table import Table

    caches = next((c.caches for c in counted.values() if c.caches is not None), None)
    if caches is None:
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    for head in (*(f"{level.name}\nrefills" for level in caches.levels), "read\nMB", "written\nMB"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, counters in counted.items():
        moved = (f"{size / 1e6:.1f}" for size in counters.memory_bytes or ())
        table.add_row(name, *(f"{n:,}" for n in counters.refills.values()), *moved)
    console.print(table)
    sizes = ", ".join(f"{level.name} {level.kib} KiB" for level in caches.levels)
    console.print(
        f"an inference in a model of {sizes}, emulated, one thread: no prefetcher; no time"
    )
    console.print()


def _millions(count: int) -> str:
    value = count / 1e6
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}" if count else "0"
