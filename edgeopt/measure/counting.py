# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Count an artifact's instructions on a user-mode emulated board, under a plugin of its QEMU."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

from edgeopt.boards import Board
from edgeopt.boards.emulated.plugin import counting_plugin
from edgeopt.boards.heartbeat import heartbeat
from edgeopt.errors import MeasurementError
from edgeopt.measure import agent
from edgeopt.measure.counters import Counters, of_lines

WARMUP, RUNS = 1, 5
"""Inferences differ by what allocating takes, some thousand instructions: the median is told."""

_SHORT_S, _TIMEOUT_S = 60.0, 4 * 3600.0


def plugin_for(board: Board) -> Path:
    """Return the plugin that counts on ``board``. Raises as ``counting_plugin``."""
    return counting_plugin(board.entry, board.facts.arch)


def count(board: Board, plugin: Path, arguments: Callable[..., list[str]], name: str) -> Counters:
    """Run the agent under ``plugin`` in a process of its own, and return what was counted.

    ``arguments`` makes its command line (``agent.arguments``). It is run with one thread: those of
    a pool wait for each other by spinning, which takes another number of instructions each time.
    Raises MeasurementError if outputs disagree or nothing was counted, BoardError.
    """
    transport, where = board.transport, f"{board.entry.name}: counting {name}"
    there = f"/tmp/edgeopt-count-{secrets.token_hex(8)}"
    words = arguments(threads=1, warmup=WARMUP, runs=RUNS)
    transport.put(plugin, f"{there}.so")
    try:
        with (
            heartbeat() as stdin,
            contextlib.closing(
                transport.lines(
                    ["env", f"QEMU_PLUGIN=file={there}.so,out={there}", *words],
                    stdin=stdin,
                    timeout_s=_TIMEOUT_S,
                )
            ) as lines,
        ):
            told = agent.listen(lines, where=where, warmup=WARMUP, runs=RUNS)
        if not told.outputs_agree:
            raise MeasurementError("outputs disagreed while instructions were counted", where=where)
        text = transport.run(["cat", there], timeout_s=_SHORT_S).stdout
    finally:
        transport.run(["rm", "-f", there, f"{there}.so"], timeout_s=_SHORT_S)
    return of_lines(text.decode(errors="replace"), warmup=WARMUP, runs=RUNS, where=where)
