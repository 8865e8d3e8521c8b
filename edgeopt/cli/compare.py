# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt compare``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.engine_names import ENGINES
from edgeopt.errors import InputError

if TYPE_CHECKING:
    from edgeopt.measure.compare import Comparison
    from edgeopt.measure.interleaved import Contender


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@click.option("--board", "-b", help="Where bundles are timed: a board's name, or 'host'.")
@click.option("--engine", "-e", metavar="ENGINE", help="Only this one, of both.")
@click.option("--precision", "-p", metavar="P", help="Only this one, of both.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of both [the target's].")
@click.option("--seq-len", type=click.IntRange(1), help="Tokens [the bundles' longest].")
@click.option("--graph", metavar="NAME", help="A dual encoder's: text or image.")
@click.option("--rounds", type=click.IntRange(2), help="Just so many [as many as it needs].")
@click.option("--duration", type=click.FloatRange(min=0.001), metavar="S", help="At most so long.")
@click.option("--output", "-o", help="File for the raw samples [measurements/compare-...json].")
@json_option
def compare(
    first: str,
    second: str | None,
    board: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    seq_len: int | None,
    graph: str | None,
    rounds: int | None,
    duration: float | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Tell whether B is slower or faster than A, or that they cannot be told apart.

    A and B are bundles, timed in turns on a board: each may name an engine, a precision and a
    number of threads, as in b.edgeopt@onnx,int8,2. Or they are measurements that `edgeopt profile`
    wrote. A alone is the file of an earlier comparison, which is shown again.
    """
    from edgeopt.report.compare import render

    paths = [_path(word) for word in (first, second) if word]
    options = {"--rounds": rounds, "--duration": duration, "--output": output, "--board": board}
    options |= {"--threads": threads, "--seq-len": seq_len, "--graph": graph}
    found = (
        _of_files(paths, engine, precision, options)
        if _are_files(paths)
        else _of_bundles(
            [_contender(word, engine, precision, threads) for word in (first, second) if word],
            board,
            seq_len=seq_len,
            graph=graph,
            rounds=rounds,
            duration_s=duration,
            output=output,
        )
    )
    emit(found.document(), as_json, lambda console: render(found, console))


def _path(word: str) -> Path:
    """Return the file that ``word`` names, which may end in @ENGINE,PRECISION,THREADS."""
    return Path(word if Path(word).exists() else word.rpartition("@")[0] or word)


def _are_files(paths: list[Path]) -> bool:
    """Return whether they are measurements or a trial, not bundles."""
    from edgeopt.measure.compare import kind_of

    kinds = [kind_of(path) for path in paths]
    if len(paths) == 1:
        if kinds != ["trial"]:
            raise InputError(
                "is compared with nothing", where=str(paths[0]), hint="Give A and B: see --help."
            )
        return True
    for path, kind in zip(paths, kinds, strict=True):
        if kind == "trial":
            raise InputError(
                "is of a comparison, which is shown by itself",
                where=str(path),
                hint=f"edgeopt compare {path}",
            )
    if len(set(kinds)) > 1:
        raise InputError(f"is a {kinds[0]}, and {paths[1]} is a {kinds[1]}", where=str(paths[0]))
    return kinds[0] == "measurement"


def _of_files(
    paths: list[Path], engine: str | None, precision: str | None, options: Mapping[str, object]
) -> Comparison:
    from edgeopt.measure import trial
    from edgeopt.measure.compare import of_measurements, of_trial

    for name, given in options.items():
        if given is not None:
            raise InputError(
                f"{name} is for bundles, which are timed now; a file is what it is",
                where=str(paths[0]),
            )
    if len(paths) == 1:
        return of_trial(trial.read(paths[0]), paths[0])
    return of_measurements(
        *paths,
        engines=[engine] if engine else [],
        precisions=[precision] if precision else [],
    )


def _of_bundles(contenders: list[Contender], board: str | None, **options: object) -> Comparison:
    from edgeopt.measure.compare import in_turns

    if board is None:
        raise InputError(
            "bundles are timed in turns on a board, and none is named",
            where="compare",
            hint="Give --board NAME, or --board host for this machine.",
        )
    return in_turns(contenders[0], contenders[1], board, **options)  # type: ignore[arg-type]


def _contender(
    word: str, engine: str | None, precision: str | None, threads: int | None
) -> Contender:
    from edgeopt.measure.interleaved import Contender

    path = _path(word)
    words = [] if str(path) == word else word[len(str(path)) + 1 :].split(",")
    for part in words:
        if part in ENGINES:
            engine = part
        elif re.fullmatch("[1-9][0-9]{0,3}", part):
            threads = int(part)
        elif re.fullmatch("[a-z]+[0-9]+", part):
            precision = part
        else:
            raise InputError(
                f"{part!r} is no engine, precision or number of threads",
                where=word,
                hint=f"Engines are {', '.join(ENGINES)}; a precision is like int8.",
            )
    return Contender(bundle=path, engine=engine, precision=precision, threads=threads)
