# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A process on a board that holds one artifact, and times runs or a text whenever it is told to.

Two of them in turns are what a comparison is made of: both are loaded, and only one runs.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Self

from edgeopt.boards.heartbeat import BEAT_S
from edgeopt.boards.transport import Transport
from edgeopt.errors import MeasurementError
from edgeopt.measure.agent import AgentReport, count, event_of, flag, protocol, take

_TIMEOUT_S = 4 * 3600.0


class BlockAgent:
    """A running ``edgeopt-agent blocks``, or ``texts``; leaving the context ends it.

    ``report`` holds what it said of the engine, the golden outputs and the warm-up; of samples
    those of the last block.
    """

    def __init__(self, transport: Transport, words: Sequence[str], where: str) -> None:
        self.report = AgentReport()
        self._where = where
        self._asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lines: Generator[str, None, None] = transport.lines(
            words, stdin=self._stdin(), timeout_s=_TIMEOUT_S
        )

    def _stdin(self) -> Iterator[bytes]:
        """Yield what is asked for, and empty lines meanwhile, which say that this side lives."""
        yield b"\n"
        while True:
            try:
                line = self._asked.get(timeout=BEAT_S)
            except queue.Empty:
                line = b"\n"
            if not line:
                return
            yield line

    def __enter__(self) -> Self:
        """Wait until it is warm. Raises MeasurementError, and BoardError as ``Transport.lines``."""
        try:
            if self._until("ready") is None:
                raise MeasurementError(
                    "its outputs there disagree with the golden ones: nothing is timed",
                    where=self._where,
                )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def _end(self) -> None:
        self.stop()
        self._lines.close()

    def stop(self) -> None:
        """Have it end within a second or an inference, whatever it does; any thread may call it."""
        self._asked.put(b"\n")  # it ends if a host is gone that it had heard of while it ran
        self._asked.put(b"")

    def run(self, runs: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Time ``runs`` runs; return wall and CPU time of each, ns.

        Raises MeasurementError, and BoardError as ``Transport.lines``.
        """
        self.report.wall_ns.clear()
        self.report.cpu_ns.clear()
        self._asked.put(b"%d\n" % runs)
        if self._until("block") is None or len(self.report.wall_ns) != runs:
            raise MeasurementError(
                f"the agent sent {len(self.report.wall_ns)} samples of {runs}", where=self._where
            )
        return tuple(self.report.wall_ns), tuple(self.report.cpu_ns)

    def serve(self, text: str, pair: str | None) -> tuple[int, int, bool]:
        """Time a text; return its wall time, ns, how many tokens it has, and whether it was cut.

        Raises as ``run``.
        """
        self.report.wall_ns.clear()
        self.report.cpu_ns.clear()
        asked = {"text": text} | ({} if pair is None else {"pair": pair})
        self._asked.put(json.dumps(asked).encode() + b"\n")
        told = self._until("text")
        if told is None or len(self.report.wall_ns) != 1:
            raise MeasurementError("the agent timed no text", where=self._where)
        with protocol(json.dumps(told), self._where):
            return self.report.wall_ns[0], count(told["tokens"]), flag(told["truncated"])

    def finish(self) -> AgentReport:
        """Have it end by itself, and return all that it said, memory with it."""
        self.stop()
        self._until("done")
        return self.report

    def _until(self, last: str) -> dict[str, Any] | None:
        """Take events up to ``last``, and return that; None if the agent is done before."""
        for line in self._lines:
            with protocol(line, self._where):
                event = event_of(line)
                kind = event["event"]
                if kind == last and kind in ("ready", "block", "text"):
                    return event
                take(self.report, event, self._where)
            if kind == "done":
                return event if last == "done" else None
        raise MeasurementError("the agent ended before it was done", where=self._where)
