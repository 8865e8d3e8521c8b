# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt card``."""

from __future__ import annotations

import click

from edgeopt.cli.output import emit, json_option


@click.command()
@click.argument("bundle")
@click.argument("measurements", nargs=-1, required=True, metavar="MEASUREMENT...")
@click.option("--evaluation", metavar="FILE", help="What edgeopt evaluate --json printed of it.")
@click.option("--output", "-o", metavar="DIR|FILE.md", help="Where to write it [cards/].")
@json_option
def card(
    bundle: str,
    measurements: tuple[str, ...],
    evaluation: str | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Write what BUNDLE does on a board as a page of Markdown, with its JSON beside it.

    Of what edgeopt profile measured there: latency with bounds, starts, memory, energy where it was
    measured, accuracy (--evaluation), conditions, versions, hashes, and how to repeat it. A figure
    that the samples do not support is left out, and nothing is ranked. Only a card is overwritten.
    """
    from edgeopt.report.card import card as make
    from edgeopt.report.card_file import places, write

    document = make(bundle, measurements, evaluation)
    page, beside = places(document, output)
    write(document, page, beside)
    emit(document, as_json, lambda console: console.print(f"{page}\n{beside}"))
