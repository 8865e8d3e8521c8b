# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt explain``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.engine_names import ENGINES
from edgeopt.errors import InputError

if TYPE_CHECKING:
    from edgeopt.measure.explain import Source


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--engine", "-e", metavar="ENGINE", help="Only this one, of both.")
@click.option("--precision", "-p", metavar="P", help="Only this one, of both.")
@click.option("--graph", metavar="NAME", help="A dual encoder's: text or image.")
@json_option
def explain(
    first: str,
    second: str,
    engine: str | None,
    precision: str | None,
    graph: str | None,
    as_json: bool,
) -> None:
    """Tell which layers make B slower or faster than A, why INT8 is, and which to ship.

    A and B are measurements that `edgeopt profile --operators` wrote, each with the artifact that
    is meant, as in m.json@onnx,fp32. If both lie in one file, B can be @onnx,int8 alone. Only what
    the scatter of the rounds tells apart is ranked.
    """
    from edgeopt.measure.explain import explain as find
    from edgeopt.report.explain import render

    a = _source(first, None, engine, precision, graph)
    b = _source(second, a.path, engine, precision, graph)
    found = find(a, b)
    emit(found.document(), as_json, lambda console: render(found, console))


def _source(
    word: str, same: Path | None, engine: str | None, precision: str | None, graph: str | None
) -> Source:
    from edgeopt.measure.explain import Source

    name, words = word, ""
    if "@" in word and not Path(word).exists():
        name, _, words = word.rpartition("@")
    for part in words.split(",") if words else ():
        if part in ENGINES:
            engine = part
        elif re.fullmatch("[a-z]+[0-9]+", part):
            precision = part
        else:
            raise InputError(
                f"{part!r} is no engine and no precision",
                where=word,
                hint=f"Engines are {', '.join(ENGINES)}; a precision is like int8.",
            )
    if not name and same is None:
        raise InputError(
            "names no measurement",
            where=word,
            hint="As in m.json@onnx,fp32; B alone can leave it out.",
        )
    path = Path(name) if name or same is None else same
    return Source(path=path, engine=engine, precision=precision, graph=graph)
