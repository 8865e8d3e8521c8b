# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run several processes of one artifact on a board at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from edgeopt.boards.transport import Transport
from edgeopt.measure.blocks import BlockAgent
from edgeopt.measure.instances import Instance, Instances

_SHORT_S = 60.0
_FILES = ("smaps_rollup", "smaps")
"""Of /proc/PID; the first came with Linux 4.14, and the second has the same for each mapping."""


def run_together(
    transport: Transport, words: Sequence[str], where: str, *, count: int, runs: int, threads: int
) -> Instances:
    """Load ``count`` agents, one after the other, and have all do ``runs`` at the same time.

    ``words`` are the command line of each, ``edgeopt-agent blocks``. Raises as ``BlockAgent``: the
    board has to hold all of them, and open a channel for each.
    """
    with ExitStack() as stack:
        agents = [
            stack.enter_context(BlockAgent(transport, words, f"{where}, instance {number}"))
            for number in range(1, count + 1)
        ]
        with ThreadPoolExecutor(count) as pool:
            running = [pool.submit(one.run, runs) for one in agents]
            try:
                times = [future.result()[0] for future in running]
            except BaseException:  # one was killed, or the user's Ctrl-C: the others go on else
                for one in agents:
                    one.stop()
                raise
        taken = tuple(
            Instance(
                begin_ns=one.report.beside.run[0],
                end_ns=one.report.beside.run[1],
                wall_ns=wall_ns,
                **_memory(transport, one.report.pid),
            )
            for one, wall_ns in zip(agents, times, strict=True)
        )
        for one in agents:
            one.finish()
    return Instances(threads=threads, instances=taken)


def _memory(transport: Transport, pid: int) -> dict[str, int | None]:
    """Return what the board's kernel says of a process that waits."""
    for name in _FILES:
        done = transport.run(["cat", f"/proc/{pid}/{name}"], timeout_s=_SHORT_S)
        told = done.stdout.decode(errors="replace")
        rss, pss = (
            1024 * sum(map(int, re.findall(rf"^{key}: +(\d{{1,15}}) kB$", told, re.MULTILINE)))
            for key in ("Rss", "Pss")
        )
        if done.exit_status == 0 and rss:
            return {"rss_bytes": rss, "pss_bytes": pss}
    return {"rss_bytes": None, "pss_bytes": None}
