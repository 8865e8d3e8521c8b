# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Calls of several inputs at once: what they took, and what they do in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from edgeopt.measure.course import course
from edgeopt.measure.statistics import Percentiles, percentiles
from edgeopt.values import Range

FEWEST_CALLS = 10
"""Of a batch, even if fewer hold as many inputs as the single runs had."""

MOST = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Batched:
    """Calls of ``batch`` inputs, in a process of their own.

    ``wall_ns`` is of each call, empty if an output of a row disagreed with the golden one of its
    input. ``cosine_min`` is the least of all rows and of the single runs before them, None if one
    was not finite.
    """

    batch: Annotated[int, Range(2, MOST)]
    load_ns: int
    warmup_ns: tuple[int, ...]
    wall_ns: tuple[int, ...]
    peak_memory_bytes: int | None
    cosine_min: float | None
    outputs_agree: bool

    @property
    def steady_ns(self) -> Sequence[int]:
        """The calls from where they are steady: all, if they never are."""
        found = course((*self.warmup_ns, *self.wall_ns)).warmup
        return self.wall_ns[max(0, (found or 0) - len(self.warmup_ns)) :]

    @property
    def latency(self) -> Percentiles | None:
        """Of a call, which is what each of its inputs waits for."""
        return percentiles(self.steady_ns) if self.wall_ns else None

    @property
    def throughput_per_s(self) -> float | None:
        """Inputs in a second of steady calls."""
        steady = self.steady_ns
        return 1e9 * self.batch * len(steady) / sum(steady) if any(steady) else None

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints."""
        return {
            "batch": self.batch,
            "throughput_per_s": self.throughput_per_s,
            "latency_ns": asdict(self.latency) if self.latency else None,
            "load_ns": self.load_ns,
            "peak_memory_bytes": self.peak_memory_bytes,
            "cosine_min": self.cosine_min,
            "outputs_agree": self.outputs_agree,
        }


def calls(batch: int, runs: int) -> int:
    """Return how many calls hold as many inputs as ``runs`` single ones, or are enough."""
    return max(FEWEST_CALLS, -(-runs // batch))
