# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt inspect FILE --target TARGET``: which engines run a model's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit
from edgeopt.values import write

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.support.report import EngineSupport, Support

_VERDICTS = {
    "agrees": "runs, with the file's own answers",
    "runs": "runs",
    "differs": "RUNS OTHERWISE",
    "fails": "OPENS, AND FAILS",
    "refused": "DOES NOT OPEN IT",
    "not tried": "not installed here",
}
_COLOURS = {"agrees": "green", "runs": "green", "not tried": "yellow"}


def inspect_file(path: str, target: str, engines: Sequence[str], as_json: bool) -> None:
    """Print what the engines make of the file; exits with 1 unless all that were asked run it."""
    from edgeopt.support import inspect
    from edgeopt.target import load_target

    found = inspect(Path(path), load_target(target), engines)
    document = {"runs": found.runs} | write(found)
    for engine, written in zip(found.engines, document["engines"], strict=True):
        written["runs"] = engine.runs
    emit(document, as_json, lambda console: _render(found, console))
    if not found.runs:
        click.get_current_context().exit(1)


def _render(found: Support, console: Console) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    console.print(f"{found.file}  {found.format}, {versions}", style="bold")
    console.print(f"inputs    {', '.join(found.inputs)}")
    console.print(f"outputs   {', '.join(found.outputs)}")
    counts = (f"{name} {count}" for name, count in found.operators.items())
    console.print(f"operators {', '.join(counts)}")
    if found.task:
        console.print(f"compile   takes it, for {found.task}")
    else:
        console.print(f"compile   does not take it: {found.refusal}", style="yellow")
        if found.hint:
            console.print(f"          {found.hint}", style="yellow")
    console.print(f"tried     {found.tried_as}")
    for engine in found.engines:
        console.print()
        _render_engine(engine, console)


def _render_engine(engine: EngineSupport, console: Console) -> None:
    style = _COLOURS.get(engine.stage, "red")
    version = engine.version
    if engine.tried and engine.tried != engine.version:
        version += f" (asked: {engine.tried}, which is here)"
    console.print(f"{engine.engine} {version}: {_VERDICTS[engine.stage]}", style=style)
    above = [n for n, most in engine.takes.items() if engine.needs.get(n, 0) > most]
    if above and engine.runs:
        numbers = ", ".join(f"{n} {engine.needs[n]} as {engine.takes[n]}" for n in above)
        console.print(f"  rewritten for it: {numbers}")
    if engine.reason:
        console.print(f"  {engine.reason}")
    if engine.hint and not engine.runs:
        console.print(f"  {engine.hint}")
    for operator in engine.operators:
        more = operator.count - len(operator.nodes)
        nodes = ", ".join(operator.nodes) + (f" and {more} more" if more else "")
        console.print(f"  {operator.name} ({nodes}) {operator.stage}: {operator.reason}")
