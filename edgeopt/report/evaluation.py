# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tables of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeopt.evaluate.evaluation import SAME, Evaluation, Figure, Mistake, System
from edgeopt.evaluate.measured import TITLES
from edgeopt.report.shown import one_line

if TYPE_CHECKING:
    from rich.console import Console

FEW = 100
"""Units with which an interval of a share is about a tenth to either side."""

_SLICES, _TEXT = 10, 160
_LARGE = 1e4  # values that are told by their first digits
_BESIDE = 6  # figures that are columns; more are rows
_ORIGINAL = "original"


def render(found: Evaluation, console: Console) -> None:
    """Print figures, slices and the worst answers."""
    place = f" on {found.board}" if found.board else ""
    emulated = " (emulated)" if found.emulated else ""
    head = f"{found.name}: {found.units} {found.noun} of {found.data}{place}{emulated}"
    console.print(one_line(head), style="bold")
    console.print()
    _main(found, console)
    _others(found, console)
    _notes(found, console)
    if found.slices:
        console.print()
        _slices(found, console)
    for system in found.artifacts or found.systems:
        _worst(system, console)


def _short(system: System) -> str:
    return f"{system.engine} {system.precision}" if system.engine else _ORIGINAL


def _value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < _LARGE else f"{value:.5g}"


def _range(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "-"
    digits = ".3f" if max(abs(low), abs(high)) < _LARGE else ".4g"
    return f"{low:{sign}{digits}} to {high:{sign}{digits}}"


def _main(found: Evaluation, console: Console) -> None:
    """Print the figure by which systems are held against each other."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column(TITLES[found.main], justify="right", no_wrap=True)
    table.add_column("95 %", justify="right", no_wrap=True)
    compared = found.original is not None and bool(found.artifacts)
    if compared:
        table.add_column(Text("minus\noriginal"), justify="right", no_wrap=True)
        table.add_column("95 %", justify="right", no_wrap=True)
        table.add_column("")
    for system in found.systems:
        figure = system.figures[found.main]
        row = [_short(system), _value(figure.value), _range(figure.low, figure.high)]
        d = figure.difference
        if d is not None:
            change = "-" if d.value is None else f"{d.value:+.4f}"
            row += [change, _range(d.low, d.high, "+"), d.verdict]
        table.add_row(*row)
    console.print(table)


def _others(found: Evaluation, console: Console) -> None:
    names = [name for name in found.systems[0].figures if name != found.main]
    if not names:
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    if len(names) > _BESIDE:
        for system in found.systems:
            table.add_column(_short(system), justify="right")
        for name in names:
            table.add_row(TITLES[name], *(_told(one.figures[name]) for one in found.systems))
    else:
        for name in names:
            table.add_column(TITLES[name], justify="right")
        for system in found.systems:
            table.add_row(_short(system), *(_told(system.figures[name]) for name in names))
    console.print()
    console.print(table)


def _told(figure: Figure) -> str:
    """Return a figure, with what its interval tells of it against the original's."""
    d = figure.difference
    apart = "" if d is None or d.verdict == SAME else f" {d.verdict}"
    return f"{_value(figure.value)}{apart}"


def _notes(found: Evaluation, console: Console) -> None:
    lines = list(_lines(found))
    if lines:
        console.print()
    for line, style in lines:
        console.print(line, style=style)


def _lines(found: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield what has to be known besides, with its style."""
    if found.original is not None:
        yield f"original: {one_line(found.original.name)}", "dim"
    if found.units < FEW:
        yield f"{found.units} {found.noun} are few: intervals are wide", "dim"
    if found.left_out:
        tool = found.original.name if found.original else "the tool"
        yield (
            f"left out: {found.left_out} {found.noun} that {one_line(tool)} does not take",
            "yellow",
        )
    for system in found.systems:
        if system.note:
            yield f"{_short(system)}: {system.note}", "dim"
        if system.cut:
            yield (
                f"{_short(system)}: {system.cut} inputs are longer than it reads, and cut",
                "yellow",
            )
    for absent in found.not_run:
        reason = one_line(absent.reason)
        yield f"not run: {one_line(f'{absent.engine} {absent.precision}')}: {reason}", "yellow"
    if found.emulated:
        yield f"{found.board} is emulated: what it computes is as on the device.", "yellow"


def _slices(found: Evaluation, console: Console) -> None:
    """Print the main figure of some of the units: the largest slices of each family."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{TITLES[found.main]} by")
    table.add_column("")
    table.add_column("n", justify="right")
    for system in found.systems:
        table.add_column(_short(system), justify="right")
    for family in dict.fromkeys(one.family for one in found.slices):
        own = [one for one in found.slices if one.family == family]
        kept = sorted(own, key=lambda one: -one.units)[:_SLICES]
        for i, one in enumerate(s for s in own if s in kept):
            figures = [_told(figure) for figure in one.figures]
            table.add_row(family if not i else "", one.name, str(one.units), *figures)
        if len(own) > len(kept):
            table.add_row("", f"{len(own) - len(kept)} more with --json", "")
    console.print(table)


def _worst(system: System, console: Console) -> None:
    if not system.worst:
        return
    console.print()
    console.print(f"worst of {_short(system)}", style="bold")
    for mistake in system.worst:
        for line in _mistake(mistake):
            console.print(one_line(line))


def _mistake(mistake: Mistake) -> Sequence[str]:
    told = [f"    expected  {_cut(mistake.expected)}", f"    got       {_cut(mistake.got)}"]
    if mistake.original is not None:
        told.append(f"    original  {_cut(mistake.original)}")
    return (f"{mistake.where}: {_cut(mistake.text)}", *told)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + "..."
