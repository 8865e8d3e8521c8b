# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt gate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import columns, emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.measure.gate import Gate


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="MEASUREMENT|EVALUATION|BUNDLE...")
@click.option("--budget", "budget_file", required=True, metavar="FILE", help="Limits, as TOML.")
@json_option
def gate(sources: tuple[str, ...], budget_file: str, as_json: bool) -> None:
    """Tell whether artifacts keep to a budget, by what was measured of them.

    A figure with an interval keeps to its limit only if the whole interval does. Exits with 1 if a
    limit is broken, or if what was measured cannot tell; with 2 if a figure was not measured.
    """
    from edgeopt.measure.gate import gate as check

    found = check(budget_file, sources)
    emit(found.document(), as_json, lambda console: _render(found, console))
    if not found.passed:
        click.get_current_context().exit(1)


def _render(found: Gate, console: Console) -> None:
    from rich.text import Text

    styles = {"kept": "", "broken": "red", "cannot tell": "yellow"}
    table = columns("artifact", "limit", "", "why")
    for check in found.checks:
        status = Text(check.status, styles[check.status])
        table.add_row(check.artifact, check.limit, status, check.text)
    console.print(table)
    broken = sum(check.status == "broken" for check in found.checks)
    unsure = sum(check.status == "cannot tell" for check in found.checks)
    console.print()
    console.print(
        f"all {len(found.checks)} limits of {found.budget} are kept"
        if found.passed
        else f"of {len(found.checks)} limits of {found.budget} {broken} are broken, and of "
        f"{unsure} the samples cannot tell"
    )
