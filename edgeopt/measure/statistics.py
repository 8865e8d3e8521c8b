"""Figures derived from raw samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles of ``n`` samples: each is a sample that was really taken.

    With few samples the high ones are the maximum (p99 of fewer than 100); ``n`` tells.
    """

    p50: int
    p90: int
    p99: int
    n: int


def percentiles(samples: Sequence[int]) -> Percentiles:
    """Return the percentiles of ``samples``, which holds at least one."""
    ordered = sorted(samples)

    def rank(share: float) -> int:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Percentiles(p50=rank(0.50), p90=rank(0.90), p99=rank(0.99), n=len(ordered))
