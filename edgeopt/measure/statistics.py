# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures derived from raw samples: percentiles with bounds, and what so many samples support."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeopt.measure.distributions import binomial_at_most

CONFIDENCE = 0.95

Bounds = tuple[int | None, int | None]
"""The lower and the upper bound of a percentile, ns; None if the samples are too few for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles of ``n`` samples, and the largest: each was really taken.

    ``p50`` is the median. ``p90`` and ``p99`` are None if fewer samples than ``needed`` of them
    could be independent. Each bound holds by itself with 95 % confidence. ``independent`` is how
    many independent samples tell as much of the median as these.
    """

    p50: int
    p90: int | None
    p99: int | None
    max: int
    n: int
    p50_bounds: Bounds
    p90_bounds: Bounds
    p99_bounds: Bounds
    independent: int


def needed(share: float) -> int:
    """Return how many samples a percentile takes, as in 0.9 for p90.

    So many that the largest of them lies above it with 95 % confidence, whatever the distribution
    (Wilks 1941, one-sided): the least n with 1 - share^n >= 0.95. p90 takes 29, p99 takes 299.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(share))


def percentiles(samples: Sequence[int]) -> Percentiles:
    """Return the percentiles of ``samples``, one or more, in the order they were taken."""
    ordered = sorted(samples)
    n = len(ordered)

    def rank(share: float) -> int:
        return ordered[math.ceil(share * n) - 1]

    middle = independent_of([x > rank(0.50) for x in samples])
    independent = {0.50: middle}
    for share in (0.90, 0.99):
        beyond = [x > rank(share) for x in samples]
        # If none is beyond, as of times that are alike, the median's tells.
        independent[share] = independent_of(beyond) if any(beyond) else middle

    def supported(share: float) -> int | None:
        return rank(share) if independent[share] >= needed(share) else None

    p90 = supported(0.90)

    def bounds(share: float) -> Bounds:
        low, high = bound_ranks(independent[share], share)
        # A rank among so many independent samples, as one among all that there are.
        stretch = n / independent[share]
        return (
            ordered[math.floor((low - 1) * stretch)] if low else None,
            ordered[min(math.ceil(high * stretch), n) - 1] if high else None,
        )

    return Percentiles(
        p50=rank(0.50),
        p90=p90,
        # What lies beyond p99 may come singly where slow times come in rows.
        p99=None if p90 is None else supported(0.99),
        max=ordered[-1],
        n=n,
        p50_bounds=bounds(0.50),
        p90_bounds=bounds(0.90),
        p99_bounds=bounds(0.99),
        independent=independent[0.50],
    )


def bound_ranks(n: int, share: float) -> tuple[int | None, int | None]:
    """Return the ranks, from 1, of ``n`` sorted samples that bound a percentile from both sides.

    Each bound is wrong in at most 5 % of all cases, whatever the distribution: how many of ``n``
    samples lie below a percentile is binomial (David and Nagaraja, Order Statistics, 2003, sec.
    7.1). None if no sample is such a bound.
    """
    risk = 1 - CONFIDENCE
    low = _least(n, lambda k: binomial_at_most(k, n, share) > risk)
    high = _least(n, lambda k: binomial_at_most(k, n, share) >= CONFIDENCE) + 1
    return (low if low > 0 else None, high if high <= n else None)


def _least(most: int, holds: Callable[[int], bool]) -> int:
    """Return the least k of 0 to ``most`` from which on ``holds(k)`` is true, by halving."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def independent_of(marks: Sequence[float]) -> int:
    """Return how many independent samples tell as much of the mean as ``marks``, one after another.

    Samples that are like those before them tell less. By Geyer's initial positive sequence
    (Statistical Science 7:473, 1992): n over the sum of the autocorrelations, whose sums of
    neighbours are taken up to the first that is not above 0. All n if the first of them is no more
    than chance gives (above 1.645 / sqrt(n) in 5 % of all cases), and of fewer than 20, of which
    that cannot be said.
    """
    import numpy as np

    n = len(marks)
    values = np.asarray(marks, dtype=np.float64)
    values = values - values.mean()
    power = float(values @ values)
    if n < _FEWEST_RELATED or power <= 0:
        return n

    def correlation(lag: int) -> float:
        return float(values[lag:] @ values[: n - lag]) / power

    if correlation(1) < 1.645 / math.sqrt(n):
        return n
    total = -1.0
    for lag in range(0, n - 1, 2):
        pair = correlation(lag) + correlation(lag + 1)
        if pair <= 0:
            break
        total += 2 * pair
    return max(1, min(n, math.floor(n / max(total, 1.0))))


_FEWEST_RELATED = 20

LOADGEN_CONFIDENCE = 0.99


def early_stopping(samples: Sequence[int], share: float) -> int | None:
    """Return MLPerf's estimate of a percentile from fewer queries than its tables ask for.

    That of loadgen (mlcommons/inference, loadgen/early_stopping.cc): of the largest samples as
    many are left out as still are, with 99 % confidence, less than the share beyond the percentile;
    the largest of the rest is the estimate, an upper bound. None if two samples beyond would be too
    many already: p90 takes 64, p99 takes 662. It counts the samples as independent.
    """
    n = len(samples)
    risk = 1 - LOADGEN_CONFIDENCE
    beyond = _least(n, lambda t: binomial_at_most(t, n, 1 - share) >= risk) - 1
    return sorted(samples)[n - beyond] if beyond >= 1 else None


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
