"""``edgeopt compress``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.compress.run import Compression


@click.command()
@click.argument("model")
@click.option("--recipe", "-r", default="prune", help="A recipe's name, or a .toml file [prune].")
@click.option("--data", "-d", required=True, help="Your texts: .jsonl[.gz] with labels, or lines.")
@click.option("--held-out", help="Texts to check each step on [a fifth of --data].")
@click.option("--output", "-o", help="The folder of the new model [NAME-RECIPE].")
@json_option
def compress(
    model: str,
    recipe: str,
    data: str,
    held_out: str | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Make MODEL smaller by the steps of a recipe.

    MODEL is a Hugging Face directory or hub name. Each step is checked on texts that it has not
    seen: accuracy where they have labels, else agreement with the original. Give texts that MODEL
    itself has not seen either with --held-out: what it has learnt by heart makes losses look larger
    than they are. A step that loses more than its bound is rolled back. 'edgeopt compile' takes the
    new folder.
    """
    from edgeopt.compress.run import compress as run

    found = run(model, recipe=recipe, data=data, held_out=held_out, output=output)
    document = {"path": str(found.path)} | found.document()
    emit(document, as_json, lambda console: render(found, console))


def render(found: Compression, console: Console) -> None:
    """Print one row for each step."""
    from rich.table import Table

    from edgeopt.report.tables import size

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step")
    for column in ("parameters", "size", found.measure):
        table.add_column(column, justify="right")
    table.add_column("")

    def row(name: str, parameters: int, count: int, score: float, text: str) -> None:
        table.add_row(name, f"{parameters:,}", size(count), f"{score:.4f}", text)

    row("original", found.parameters_before, found.bytes_before, found.score_before, "")
    for step in found.steps:
        note = "" if step.kept else f"ROLLED BACK: loses {step.drop:.4f}, over {step.max_drop:g}; "
        row(
            step.technique,
            step.parameters_after,
            step.bytes_after,
            step.score_after,
            note + step.change,
        )
    row("result", found.parameters_after, found.bytes_after, found.score_after, "")
    console.print(table)
    console.print(f"{found.measure} on {found.held_out} held-out texts\n\n{found.path}")
