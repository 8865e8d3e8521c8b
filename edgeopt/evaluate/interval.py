# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How sure a figure is, and the difference of two systems' figures on the same units.

Intervals of 95 %, for the sampling of the units alone: other texts of the same kind would give
figures within them. A share of units that are right or wrong has the score interval (Wilson, J. Am.
Stat. Assoc. 22, 1927), and two shares of the same units that of Newcombe's method 10 (Statistics in
Medicine 17:2635-2650, 1998), which is made of it. All other figures have percentiles of the paired
bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13; for two systems on
one test set Koehn, EMNLP 2004, and Berg-Kirkpatrick et al., EMNLP 2012): units are drawn again with
replacement, the same ones for both systems. As these are too narrow for few units, they are
expanded (Hesterberg, The American Statistician 69:371-386, 2015, sec. 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edgeopt.extras import require

CONFIDENCE = 0.95
RESAMPLES = 2000
"""The ends of an interval are then off by about a twentieth of its half (Efron and Tibshirani,
sec. 14.6, take 1000 to be the least)."""

_SEED = 0
_FEWEST = 2  # units that have a spread
_MOST_COUNTS = 1 << 22  # held at a time

Interval = tuple[float, float]
At = Callable[[np.ndarray], np.ndarray]
"""A figure of resamples: counts (resamples, units), float64, to values (resamples,); NaN if the
figure is not defined on one."""


def share(hits: np.ndarray) -> Interval:
    """Return the interval of the share of ``hits`` (units,), each 0 or 1."""
    stats = require("scipy.stats", "evaluate")
    found = stats.binomtest(int(hits.sum()), len(hits))
    low, high = found.proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def share_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Return the interval of the share of ``first`` minus that of ``second``, of the same units."""
    n = len(first)
    both, one = float(first @ second), float(first @ (1 - second))
    other = float((1 - first) @ second)
    neither = n - both - one - other
    p, q = (both + one) / n, (both + other) / n
    (p_low, p_high), (q_low, q_high) = share(first), share(second)
    spread = math.sqrt((both + one) * (other + neither) * (both + other) * (one + neither))
    product = both * neither - one * other
    # Method 10 takes half a unit off if both are right together.
    product = max(product - n / 2, 0.0) if product > 0 else product
    phi = product / spread if spread else 0.0
    low = _aside(p - p_low, q_high - q, phi)
    high = _aside(p_high - p, q - q_low, phi)
    return p - q - low, p - q + high


def _aside(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))


def bootstrap(
    figures: Mapping[str, Sequence[At]],
    units: int,
    width: int = 0,
    around: Mapping[str, Sequence[float | None]] = MappingProxyType({}),
) -> dict[str, list[list[Interval]]]:
    """Return for each name the intervals of each of its figures, and of their differences.

    ``figures[name]`` are the figures of one kind, one for each system, the first being what others
    are held against. Of each system come [its interval, that of its difference from the first].
    NaN ends stand for a figure that too few resamples define. ``width`` is how many units a figure
    itself counts, if those are but a part of them: memory goes by it. ``around`` has the values of
    figures whose resamples are larger on the average than what they are resamples of, since they
    have fewer different units: that bias is taken off (Efron and Tibshirani, ch. 10).
    """
    drawn: dict[str, list[list[np.ndarray]]] = {n: [[] for _ in ats] for n, ats in figures.items()}
    for counts in _resamples(units, max(units, width)):
        for name, ats in figures.items():
            for kept, at in zip(drawn[name], ats, strict=True):
                kept.append(at(counts))
    found: dict[str, list[list[Interval]]] = {}
    for name, kept_all in drawn.items():
        values = [np.concatenate(kept) for kept in kept_all]
        if name in around:
            values = [_put(v, value) for v, value in zip(values, around[name], strict=True)]
        found[name] = [[_percentiles(side, units) for side in (v, v - values[0])] for v in values]
    return found


def _put(values: np.ndarray, around: float | None) -> np.ndarray:
    """Return ``values`` with the mean ``around``."""
    defined = values[np.isfinite(values)]
    return values if around is None or not len(defined) else values - (defined.mean() - around)


def _resamples(units: int, width: int) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn, float64 (some resamples, units), the same every time."""
    generator = np.random.default_rng(_SEED)
    some = max(1, _MOST_COUNTS // width)
    for start in range(0, RESAMPLES, some):
        rows = min(some, RESAMPLES - start)
        drawn = generator.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


def tail(units: int) -> float:
    """Return the share of resamples below the interval of a figure of ``units``, as above it.

    It is chosen so that the interval of a mean of normal values is that of Student's t.
    """
    stats = require("scipy.stats", "evaluate")
    if units < _FEWEST:
        return 0.0
    ends = math.sqrt(units / (units - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, units - 1)
    return float(stats.norm.cdf(-ends))


def _percentiles(values: np.ndarray, units: int) -> Interval:
    defined = values[np.isfinite(values)]
    if len(defined) < RESAMPLES / 2:
        return math.nan, math.nan
    low, high = np.quantile(defined, [tail(units), 1 - tail(units)])
    return float(low), float(high)
