# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What was read on the board beside a measurement: raw text, with the board's own clock."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeopt.power.clock import Sync
from edgeopt.power.rail import Rail

MOST_READS = 1 << 22
"""As many may come of one run: a board that sends more is not ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What the board reads again and again: a file's path, or a command, each ``every_ms``.

    Of the text only what ``keep`` matches is kept, all of it if that is empty.
    """

    what: str
    every_ms: int
    keep: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reads:
    """What came of one source. A read began at ``begin_ns`` and took ``took_ns``.

    ``failures`` counts the reads that failed, which have no place here, and ``failure`` is what the
    kernel said of the last.
    """

    what: str
    every_ms: int
    begin_ns: tuple[int, ...]
    took_ns: tuple[int, ...]
    text: tuple[str, ...]
    failures: int = 0
    failure: str = ""

    @property
    def end_ns(self) -> tuple[int, ...]:
        """When each was over."""
        return tuple(b + t for b, t in zip(self.begin_ns, self.took_ns, strict=True))

    def within(self, begin_ns: int, end_ns: int) -> list[str]:
        """Return the texts that were read from ``begin_ns`` to ``end_ns``."""
        low, high = (bisect.bisect(self.begin_ns, t) for t in (begin_ns - 1, end_ns))
        return list(self.text[low:high])


@dataclass(frozen=True, kw_only=True, slots=True)
class Metered:
    """What an external meter said, on the clock of the machine that read it (``clock.now_ns``).

    A reading was taken at some time in the ``took_ns`` after ``begin_ns``. The number in its text
    times ``scale_w`` is watts, and ``gain`` its largest relative error, None if that is not known.
    ``failure`` is why it ended early, "" if it did not. ``utc`` is true if the times are those of
    day (Unix), which the meter's clock may be ``apart_ns`` off each way.
    """

    meter: str
    scale_w: float
    gain: float | None
    begin_ns: tuple[int, ...]
    took_ns: tuple[int, ...]
    text: tuple[str, ...]
    failure: str = ""
    utc: bool = False
    apart_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """All that was read beside one run, on the clock of ``Run``: nanoseconds, monotonic.

    The board idled from ``idle_begin_ns`` to ``idle_end_ns`` (both 0: it was not asked to), and the
    timed calls went from ``run_begin_ns`` to ``run_end_ns``. The sampler itself took
    ``sampler_cpu_ns`` of a core in ``sampler_ns``. ``rails`` say how the texts become watts, and
    ``total`` which of them add up to what ``covers`` tells; ``leaves_out`` is what they do not see.
    ``metered`` is what an external meter said, and ``clock`` what is known of its clock against the
    board's.
    """

    reads: tuple[Reads, ...]
    run_begin_ns: int
    run_end_ns: int
    idle_begin_ns: int = 0
    idle_end_ns: int = 0
    sampler_cpu_ns: int = 0
    sampler_ns: int = 0
    rails: tuple[Rail, ...] = ()
    total: tuple[str, ...] = ()
    covers: str = ""
    leaves_out: str = ""
    metered: Metered | None = None
    clock: tuple[Sync, ...] = ()

    def of(self, what: str) -> Reads | None:
        """Return what came of a file or command, None if it was not read."""
        return next((reads for reads in self.reads if reads.what == what), None)


@dataclass(slots=True)
class Gathered:
    """A trace while it comes in, filled event by event."""

    begin_ns: list[list[int]] = field(default_factory=list)
    took_ns: list[list[int]] = field(default_factory=list)
    text: list[list[str]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    failure: list[str] = field(default_factory=list)
    count: int = 0
    idle: tuple[int, int] = (0, 0)
    run: tuple[int, int] = (0, 0)
    sampler_cpu_ns: int = 0
    sampler_ns: int = 0


def arguments(sources: tuple[Source, ...], idle_ms: int) -> list[str]:
    """Return the agent's words for it; what runs as a command gets no standard input."""
    words = ["--idle-ms", str(idle_ms)] if idle_ms else []
    for source in sources:
        is_file = source.what.startswith("/")
        words += ["--read", f"{source.every_ms}={source.what}{'' if is_file else ' </dev/null'}"]
    return words


def of(
    gathered: Gathered, sources: tuple[Source, ...], more: Mapping[str, Any] | None = None
) -> Trace:
    """Return the trace of ``sources``; ``more`` are fields of it on rails, a meter and clocks."""
    reads = [
        Reads(
            what=source.what,
            every_ms=source.every_ms,
            begin_ns=tuple(gathered.begin_ns[i]),
            took_ns=tuple(gathered.took_ns[i]),
            text=tuple(gathered.text[i]),
            failures=gathered.failures[i],
            failure=gathered.failure[i],
        )
        for i, source in enumerate(sources)
    ]
    return Trace(
        reads=tuple(reads),
        run_begin_ns=gathered.run[0],
        run_end_ns=gathered.run[1],
        idle_begin_ns=gathered.idle[0],
        idle_end_ns=gathered.idle[1],
        sampler_cpu_ns=gathered.sampler_cpu_ns,
        sampler_ns=gathered.sampler_ns,
        **(more or {}),
    )
