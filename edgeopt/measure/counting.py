# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Count an artifact's instructions on a user-mode emulated board, under a plugin of its QEMU."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.boards import Board
from edgeopt.boards.emulated.caches import Level, geometry, levels
from edgeopt.boards.emulated.plugin import counting_plugin
from edgeopt.boards.heartbeat import heartbeat
from edgeopt.errors import MeasurementError
from edgeopt.measure import agent
from edgeopt.measure.counters import Counters, of_lines
from edgeopt.target import load_target

WARMUP, RUNS = 1, 5
"""Inferences differ by what allocating takes, some thousand instructions: the median is told."""

_SHORT_S, _TIMEOUT_S = 60.0, 4 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """The plugin that counts on a board, and the caches that it models, if it does."""

    plugin: Path
    levels: tuple[Level, ...] = ()


def counting_on(board: Board, *, cache_model: bool) -> Counting:
    """Return what counts on ``board``. Raises as ``counting_plugin``, and as ``levels``."""
    plugin = counting_plugin(board.entry, board.facts.arch)
    if not cache_model:
        return Counting(plugin=plugin)
    return Counting(plugin=plugin, levels=levels(load_target(str(board.entry.target)).device))


def count(
    board: Board, counting: Counting, arguments: Callable[..., list[str]], name: str
) -> Counters:
    """Run the agent under the plugin in a process of its own, and return what was counted.

    ``arguments`` makes its command line (``agent.arguments``). It is run with one thread: those of
    a pool wait for each other by spinning, which takes another number of instructions each time.
    Raises MeasurementError if outputs disagree or nothing was counted, BoardError.
    """
    where = f"{board.entry.name}: counting {name}"

    def listen(lines: Iterator[str]) -> bool:
        return agent.listen(lines, where=where, warmup=WARMUP, runs=RUNS).outputs_agree

    text = counted(board, counting, arguments(threads=1, warmup=WARMUP, runs=RUNS), listen, where)
    return of_lines(text, warmup=WARMUP, runs=RUNS, where=where, levels=counting.levels)


def counted(
    board: Board,
    counting: Counting,
    words: Sequence[str],
    listen: Callable[[Iterator[str]], bool],
    where: str,
) -> str:
    """Run the agent ``words`` under the plugin, and return what that wrote.

    ``listen`` reads the agent's lines to their end and returns whether outputs agree. Raises
    MeasurementError, naming ``where``, if they do not.
    """
    transport = board.transport
    there = f"/tmp/edgeopt-count-{secrets.token_hex(8)}"
    plugin = f"file={there}.so,out={there}"
    if counting.levels:
        plugin += f",caches={geometry(counting.levels)}"
    transport.put(counting.plugin, f"{there}.so")
    try:
        with (
            heartbeat() as stdin,
            contextlib.closing(
                transport.lines(
                    ["env", f"QEMU_PLUGIN={plugin}", *words],
                    stdin=stdin,
                    timeout_s=_TIMEOUT_S,
                )
            ) as lines,
        ):
            agree = listen(lines)
        if not agree:
            raise MeasurementError("outputs disagreed while instructions were counted", where=where)
        text = transport.run(["cat", there], timeout_s=_SHORT_S).stdout
    finally:
        transport.run(["rm", "-f", there, f"{there}.so"], timeout_s=_SHORT_S)
    return text.decode(errors="replace")
