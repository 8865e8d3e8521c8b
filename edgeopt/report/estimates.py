# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Estimates for the terminal: no figure without the word, and none without its error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeopt.report.shown import one_line
from edgeopt.report.tables import size

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.estimate.prediction import Estimate
    from edgeopt.estimate_pipeline import Estimated, Estimates


def figure(ms: float) -> str:
    """Return a time in two figures, which is more than an estimate is good for: ``8.3``."""
    digits = 1 - math.floor(math.log10(ms))
    return f"{round(ms, digits):.{max(digits, 0)}f}"


def render(found: Estimates, console: Console) -> None:
    """Print the estimates, where their errors come from, and what can be told apart."""
    from rich.table import Table

    console.print(
        one_line(f"Estimates for {found.device}, {_threads(found.threads)}{_unless(found)}"),
        style="bold",
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("artifact", overflow="fold")
    for name in ("size", "tokens", "estimate", "4 of 5 within", "median error", ""):
        table.add_column(name, justify="right", no_wrap=True)
    sources: list[str] = []
    for row in found.rows:
        length = str(row.seq_len) if row.seq_len else "-"
        stored = "-" if row.bytes is None else size(row.bytes)
        table.add_row(one_line(row.name), stored, length, *_cells(row, sources))
    console.print(table)
    for i, text in enumerate(sources):
        console.print(f"[{_letter(i)}] {text}.", style="dim")
    for row in found.rows:
        if row.reason:
            console.print(one_line(f"{row.name}: no estimate: {row.reason}"), style="yellow")
        if row.estimate and row.estimate.own_error is not None:
            console.print(
                f"{row.name}: of your own {row.estimate.calibrated_on} networks, each left out in "
                f"turn, the median error of the estimate is {row.estimate.own_error:.0%}."
            )
        if row.floor_ms is not None and row.instructions is not None:
            console.print(
                one_line(
                    f"{row.name}: no faster than {figure(row.floor_ms)} ms, which its "
                    f"{row.instructions / 1e6:.3g} million instructions (counted emulated, one "
                    f"thread) take if every cycle starts as many as the core can."
                )
            )
    for note in found.notes:
        console.print(one_line(note), style="yellow")
    _told_apart(found, console)
    if any(row.estimate and not row.estimate.calibrated_on for row in found.rows):
        console.print("Measurements of yours on the board narrow an estimate: --measurement FILE.")


def _cells(row: Estimated, sources: list[str]) -> tuple[str, str, str, str]:
    if row.measured_ms is not None:
        return f"{figure(row.measured_ms)} ms", "measured", "by you", ""
    if row.estimate is None:
        return "none", "", "", ""
    e = row.estimate
    text = _source(e)
    if text not in sources:
        sources.append(text)
    return (
        f"{figure(e.ms)} ms",
        f"{figure(e.low_ms)}-{figure(e.high_ms)} ms",
        f"{e.error.median:.0%}",
        f"[{_letter(sources.index(text))}]",
    )


def _source(estimate: Estimate) -> str:
    kind = {"cnn": "convolutions", "transformer": "transformers"}[estimate.kind]
    return f"Error of estimates of {kind}; {estimate.error}"


def _letter(index: int) -> str:
    return chr(ord("a") + index)


def _unless(found: Estimates) -> str:
    own = any(row.measured_ms is not None for row in found.rows)
    return ": not measured" + (", unless it says so" if own else "")


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _told_apart(found: Estimates, console: Console) -> None:
    estimated = [row for row in found.rows if row.estimate]
    if len(estimated) < 2:
        return
    for fast, slow in found.told_apart:
        console.print(one_line(f"{fast} is estimated faster than {slow}, beyond the error."))
    if not found.told_apart:
        console.print("Which of them is faster is not known: the ranges overlap.")
    else:
        console.print("Of all other pairs that is not known: the ranges overlap.")
