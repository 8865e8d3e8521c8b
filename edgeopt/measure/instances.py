# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Several processes of one artifact at once: what they do together, and what each one takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from edgeopt.fields import Table
from edgeopt.measure.course import course
from edgeopt.measure.statistics import Percentiles, percentiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One process. Times are of the board's clock, which all of them read.

    ``begin_ns`` is when the first of its runs began and ``end_ns`` when the last ended, ``wall_ns``
    what each took. The memory is what the kernel told while all of them waited, having run; None
    if it did not tell.
    """

    begin_ns: int
    end_ns: int
    wall_ns: tuple[int, ...]
    rss_bytes: int | None
    pss_bytes: int | None

    def edges_ns(self) -> list[float]:
        """When its first run began, and when each one ended.

        What lies between runs, where samples are sent, is spread over all of them: it is under a
        thousandth.
        """
        whole = sum(self.wall_ns)
        scale = (self.end_ns - self.begin_ns) / whole if whole else 0.0
        ends = itertools.accumulate(self.wall_ns)
        return [float(self.begin_ns), *(self.begin_ns + scale * end for end in ends)]

    def steady_from(self) -> int | None:
        """How many of its runs came before the steady ones; None if they never were steady."""
        return course(self.wall_ns).warmup


@dataclass(frozen=True, kw_only=True, slots=True)
class Instances:
    """What was taken of several; each has ``threads`` of its own."""

    threads: int
    instances: tuple[Instance, ...]

    def check(self, table: Table) -> None:
        """Raise InputError if there is none: see ``edgeopt.values``."""
        if not self.instances:
            raise table.wrong("instances", "expected one or more")

    @property
    def window_ns(self) -> tuple[float, float] | None:
        """The time in which all of them ran and were steady, None if there was none.

        One that never was steady counts from its first run on: see ``is_steady``.
        """
        begin = max(one.edges_ns()[one.steady_from() or 0] for one in self.instances)
        end = min(one.end_ns for one in self.instances)
        return (begin, float(end)) if begin < end else None

    @property
    def is_steady(self) -> bool:
        """Whether the times of each became steady."""
        return all(one.steady_from() is not None for one in self.instances)

    @property
    def inferences(self) -> float:
        """How many inferences lie in the window; those at its ends by their share in it."""
        return sum(share for one in self.instances for _, share in self._shares(one))

    @property
    def throughput_per_s(self) -> float | None:
        """Inferences of all in the window, by its length."""
        if self.window_ns is None:
            return None
        begin, end = self.window_ns
        return 1e9 * self.inferences / (end - begin)

    @property
    def latencies(self) -> tuple[Percentiles | None, ...]:
        """Of each, over its runs that lie wholly in the window; None if none does."""
        found = []
        for one in self.instances:
            inside = [ns for ns, share in self._shares(one) if share == 1]
            found.append(percentiles(inside) if inside else None)
        return tuple(found)

    @property
    def rss_bytes(self) -> int | None:
        """The sum of what each has resident: what they share counts for each."""
        return _sum([one.rss_bytes for one in self.instances])

    @property
    def pss_bytes(self) -> int | None:
        """What all of them take together: what they share counts once."""
        return _sum([one.pss_bytes for one in self.instances])

    def _shares(self, one: Instance) -> Iterator[tuple[int, float]]:
        """Yield each of its times, with the share of it that lies in the window."""
        if self.window_ns is None:
            return
        begin, end = self.window_ns
        for ns, (start, stop) in zip(one.wall_ns, itertools.pairwise(one.edges_ns()), strict=True):
            if start < stop:
                inside = max(0.0, min(stop, end) - max(start, begin))
                yield ns, 1.0 if begin <= start and stop <= end else inside / (stop - start)

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints."""
        window = self.window_ns
        return {
            "count": len(self.instances),
            "threads": self.threads,
            "is_steady": self.is_steady,
            "window_ns": window and window[1] - window[0],
            "inferences": self.inferences,
            "throughput_per_s": self.throughput_per_s,
            "latency_ns": [found and asdict(found) for found in self.latencies],
            "rss_bytes": self.rss_bytes,
            "pss_bytes": self.pss_bytes,
        }


def _sum(counts: list[int | None]) -> int | None:
    return None if None in counts else sum(count or 0 for count in counts)
