# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures derived from raw samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles of ``n`` samples, and the largest: each was really taken.

    ``p50`` is the median. ``p90`` and ``p99`` are None if ``n`` is less than ``needed`` of them.
    """

    p50: int
    p90: int | None
    p99: int | None
    max: int
    n: int


def needed(share: float) -> int:
    """Return how many samples a percentile takes, as in 0.9 for p90.

    So many that the largest of them lies above it with 95 % confidence, whatever the distribution
    (Wilks 1941, one-sided): the least n with 1 - share^n >= 0.95. p90 takes 29, p99 takes 299.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(share))


def percentiles(samples: Sequence[int]) -> Percentiles:
    """Return the percentiles of ``samples``, which holds at least one."""
    ordered = sorted(samples)

    def rank(share: float) -> int:
        return ordered[math.ceil(share * len(ordered)) - 1]

    def supported(share: float) -> int | None:
        return rank(share) if len(ordered) >= needed(share) else None

    return Percentiles(
        p50=rank(0.50), p90=supported(0.90), p99=supported(0.99), max=ordered[-1], n=len(ordered)
    )


BATCHES = 20
_LEAST_BATCH = 5


def batches(samples: Sequence[int]) -> list[Sequence[int]]:
    """Return up to 20 stretches of ``samples``, one after the other, of five or more each.

    Stretches are nearly independent if single samples are not (batch means: Law, Simulation
    Modeling and Analysis, ch. 9). What is left over at the front is left out.
    """
    count = min(BATCHES, len(samples) // _LEAST_BATCH)
    size = len(samples) // count if count else 0
    first = len(samples) - count * size
    return [samples[first + i * size : first + (i + 1) * size] for i in range(count)]
