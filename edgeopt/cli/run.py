"""``edgeopt run``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.measure.reading import Reading, Result

_SHOWN = 3  # findings of one text


@click.command()
@click.argument("bundle")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--context", help="The second part of each text: what a question is asked about.")
@click.option("--board", "-b", help="A board's name [this machine].")
@click.option("--engine", "-e", metavar="ENGINE", help="[the first that opens]")
@click.option("--precision", "-p", metavar="P", help="[int8, int4, fp16, fp32]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads [the target's].")
@json_option
def run(
    bundle: str,
    texts: tuple[str, ...],
    context: str | None,
    board: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Run TEXTs through BUNDLE with the runtime library, here or on a board.

    Without TEXT, each line of standard input is one.
    """
    from edgeopt.measure.reading import read

    given = texts or tuple(line.rstrip("\n") for line in sys.stdin)
    pairs = [text if context is None else (text, context) for text in given]
    reading = read(bundle, pairs, board=board, engine=engine, precision=precision, threads=threads)
    emit(asdict(reading), as_json, lambda console: _render(reading, given, console))


def _render(reading: Reading, texts: tuple[str, ...], console: Console) -> None:
    for text, result in zip(texts, reading.results, strict=True):
        for line in _lines(result):
            console.print(line, highlight=False, markup=False)
        console.print(f"    {text[:90]}", style="dim", highlight=False, markup=False)
    place = f" on {reading.board}" if reading.board else ""
    emulated = " (emulated)" if reading.emulated else ""
    console.print(
        f"{reading.engine} {reading.engine_version} {reading.precision}{place}{emulated}",
        style="dim",
        highlight=False,
    )


def _lines(result: Result) -> list[str]:
    more = "  (cut: the model takes no more tokens)" if result.truncated else ""
    if result.vector is not None:
        head = " ".join(f"{value:+.4f}" for value in result.vector[:6])
        return [f"{head} ... ({len(result.vector)} values){more}"]
    if not result.items:
        return [f"nothing found{more}"]
    if result.items[0].begin is None:
        shown = ", ".join(f"{i.label} {i.score:.3f}" for i in result.items[:_SHOWN])
        return [shown + more]
    return [
        f"{item.label or ''} {item.text!r} {item.begin}-{item.end} {item.score:.3f}".strip() + more
        for item in result.items[: _SHOWN if result.items[0].label is None else None]
    ]
