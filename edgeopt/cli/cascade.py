# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt cascade``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from edgeopt.run.early_exit import Cascade


@click.command()
@click.argument("small")
@click.argument("large")
@click.option("--data", "-d", required=True, help="Your texts: .jsonl[.gz] with labels, or lines.")
@click.option("--max-drop", type=float, default=0.01, help="Accuracy that may be lost [0.01].")
@click.option("--doubt", type=float, default=0.1, help="Probability that more is lost [0.1].")
@click.option("--output", "-o", default="cascade.json", help="The file to write [cascade.json].")
@click.option("--board", "-b", help="Run them on this board [this machine].")
@click.option("--engine", "-e", metavar="ENGINE", help="[the first that opens]")
@click.option("--precision", "-p", metavar="P", help="[int8, int4, fp16, fp32]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads [the target's].")
@json_option
def cascade(
    small: str,
    large: str,
    data: str,
    max_drop: float,
    doubt: float,
    output: str,
    board: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find when the answer of SMALL is good enough, so that LARGE need not run.

    SMALL and LARGE are bundles with the same labels. Both run on your texts, which neither has
    learnt from: one half of them chooses how sure SMALL must be, the other half measures. Without
    labels LARGE is taken to be right. 'edgeopt run SMALL --cascade FILE --large LARGE' runs them.

    Exits with 1, and writes no file, if the texts do not show that any answer of SMALL may
    stand.
    """
    from pathlib import Path

    from edgeopt.run.cascade import cascade as find
    from edgeopt.run.early_exit import check_writable

    path = Path(output)
    check_writable(path)
    found = find(
        small,
        large,
        data,
        max_drop=max_drop,
        doubt=doubt,
        board=board,
        engine=engine,
        precision=precision,
        threads=threads,
    )
    if found.shown:
        found.save(path)
    document = {
        "path": str(path) if found.shown else None,
        "needed": None if found.shown else found.needed(),
    } | asdict(found)
    emit(document, as_json, lambda console: _render(found, path, console))
    if not found.shown:
        click.get_current_context().exit(1)


def _render(found: Cascade, path: Path, console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column(found.measure, justify="right")
    table.add_column("")
    for name, part, accuracy in (
        ("small", found.first, found.accuracy_first),
        ("large", found.second, found.accuracy_second),
    ):
        table.add_row(name, f"{accuracy:.4f}", f"{part.name}, {part.engine} {part.precision}")
    early = f"{100 * found.early:.1f} %"
    table.add_row("cascade", f"{found.accuracy:.4f}", f"{early} of the texts leave early")
    console.print(table)
    console.print(f"measured on {found.texts} texts; {found.chosen_on} others chose the threshold")
    if found.shown:
        console.print(f"temperature {found.temperature:.3f}, threshold {found.threshold:.4f}")
        console.print(f"faster than large alone where small takes under {early} of its time")
        if found.accuracy_first >= found.accuracy_second:
            console.print("small alone is as good on these texts", style="yellow")
        console.print(f"\n{path}")
        return
    needed = found.needed()
    console.print(
        f"not shown: {found.spoilt} of the surest texts would be spoilt, too many of"
        f" {found.chosen_on} for a drop of at most {found.max_drop:g} with a doubt of"
        f" {found.doubt:g}",
        style="yellow",
    )
    console.print(
        "no reasonable number of texts would show it at this rate; no file was written"
        if needed is None
        else f"at this rate about {needed:,} texts would be needed; no file was written"
    )
