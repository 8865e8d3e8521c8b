# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt compress``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.compression.run import Compression


@click.command()
@click.argument("model")
@click.option("--recipe", "-r", default="prune", help="A recipe's name, or a .toml file [prune].")
@click.option(
    "--data",
    "-d",
    required=True,
    help="Your texts (.jsonl[.gz] with labels, or lines), or a folder of images.",
)
@click.option("--held-out", help="What to check each step on [a fifth of --data].")
@click.option("--output", "-o", help="The folder of the new model [NAME-RECIPE].")
@click.option("--target", "-t", help="What it is made for: a target's name, or a .toml file.")
@click.option("--board", "-b", help="Measure latency on this board; not on an emulated one.")
@click.option("--engine", "-e", help="Time this engine's artifact [the target's first].")
@click.option("--precision", "-p", help="In this precision [int8 where the target builds it].")
@click.option(
    "--seq-len", type=click.IntRange(1), help="Tokens that are timed [the target's most]."
)
@json_option
def compress(
    model: str,
    recipe: str,
    data: str,
    held_out: str | None,
    output: str | None,
    target: str | None,
    board: str | None,
    engine: str | None,
    precision: str | None,
    seq_len: int | None,
    as_json: bool,
) -> None:
    """Make MODEL smaller by the steps of a recipe.

    MODEL is a Hugging Face directory or hub name. Each step is checked on texts or images that it
    has not seen: accuracy if they have labels, else agreement with the original. Give some that
    MODEL itself has not seen either with --held-out: what it has learnt by heart makes losses look
    larger than they are. A step that loses more than its bound is rolled back. 'edgeopt compile'
    takes the new folder.

    With a target, a step that is there for latency and gains none is rolled back as well: it is
    measured on the board, or here for the target 'host', and else counted.
    """
    from edgeopt.compress_pipeline import compress as run
    from edgeopt.train.distributed import rank

    found = run(
        model,
        recipe=recipe,
        data=data,
        held_out=held_out,
        output=output,
        target=target,
        board=board,
        engine=engine,
        precision=precision,
        seq_len=seq_len,
    )
    if rank():
        return  # the main process prints it
    document = {"path": str(found.path)} | found.document()
    emit(document, as_json, lambda console: render(found, console))


def render(found: Compression, console: Console) -> None:
    """Print one row for each step."""
    from rich.table import Table
    from rich.text import Text

    from edgeopt.report.tables import size

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step")
    latency = found.latency
    faster = [] if latency is None else [f"times faster\n{latency.kind}"]
    for column in ("parameters", "size", *faster, found.measure):
        table.add_column(Text(column), justify="right")
    table.add_column("")

    def row(
        name: str, parameters: int, count: int, times: float | None, score: float, text: str
    ) -> None:
        shown = [] if latency is None else ["-" if times is None else f"{times:.2f}"]
        table.add_row(name, f"{parameters:,}", size(count), *shown, f"{score:.4f}", text)

    first = None if latency is None else 1.0
    row("original", found.parameters_before, found.bytes_before, first, found.score_before, "")
    for step in found.steps:
        note = "" if step.kept else f"ROLLED BACK: {step.rolled_back}; "
        row(
            step.technique,
            step.parameters_after,
            step.bytes_after,
            None if step.latency is None else step.latency.of_original,
            step.score_after,
            note + step.change,
        )
    row(
        "result",
        found.parameters_after,
        found.bytes_after,
        found.times_faster,
        found.score_after,
        "",
    )
    console.print(table)
    what = "texts" if found.seq_len else "images"
    console.print(f"{found.measure} on {found.held_out} held-out {what}")
    if latency is not None:
        console.print(str(latency))
        if latency.known_error:
            console.print(f"error of counted ratios: {latency.known_error}")
    console.print(f"\n{found.path}")
