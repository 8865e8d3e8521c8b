# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How the times of a run went: where it became steady, whether it drifts, whether it has two modes.

Nothing here assumes how long a warm-up is: where figures begin is found in the samples themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from edgeopt.measure.statistics import batches

FEWEST = 20
"""Samples from which on a course is looked for."""

TOLERANCE = 0.02
"""Runs of a warm-up are further than that from the later ones, or it is none."""

DRIFT_LEAST = 0.01
_DRIFT_ERROR = 0.01
_WINDOW = 5
_MODES_FEWEST, _MODE_SHARE, _MODES_APART, _MODES_LEAST = 40, 0.1, 5.0, 0.05
_SIGMA = 1.4826  # of the median absolute deviation, for normal values


@dataclass(frozen=True, kw_only=True, slots=True)
class Mode:
    """One of two levels that times keep to: its median, ns, and the share of samples."""

    value_ns: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What times, in the order they were taken, did.

    ``warmup`` is how many runs, from the very first on, came before the steady ones; None if more
    than half did, so that none can be called steady. ``drift`` is how much the times rose over the
    steady ones, as a share; None if no more than chance would. ``modes`` are two, or none.
    """

    warmup: int | None
    drift: float | None
    modes: tuple[Mode, ...]


def course(times_ns: Sequence[int]) -> Course:
    """Return how ``times_ns`` went, of all runs in a row, those meant as warm-up with them."""
    if len(times_ns) < FEWEST:
        return Course(warmup=0, drift=None, modes=())
    warmup = _warmup(times_ns)
    steady = times_ns[warmup or 0 :]
    return Course(warmup=warmup, drift=_drift(steady), modes=_modes(steady))


def _warmup(times: Sequence[int]) -> int | None:
    """Return after how many runs a window of five is as the later half is, and each single one.

    As it is: within 4 standard deviations of the later half's, or 2 %.
    """
    later = times[len(times) // 2 :]
    center = median(later)
    single = _SIGMA * median(abs(t - center) for t in later)
    windows = [median(later[i : i + _WINDOW]) for i in range(len(later) - _WINDOW + 1)]
    several = _SIGMA * median(abs(w - center) for w in windows)
    count = 0
    while count < len(times) // 2 and (
        abs(times[count] - center) > max(4 * single, TOLERANCE * center)
        or abs(median(times[count : count + _WINDOW]) - center)
        > max(4 * several, TOLERANCE * center)
    ):
        count += 1
    return count if count < len(times) // 2 else None


def _drift(times: Sequence[int]) -> float | None:
    """Return how far batches' medians rise or fall over all of them, if they do.

    By Kendall's rank correlation with the order (Mann, Econometrica 13:245, 1945), at 1 %; how far
    is Theil and Sen's slope (Sen, JASA 63:1379, 1968).
    """
    values = [median(part) for part in batches(times)]
    n = len(values)
    if n < 8:
        return None
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for i, j in pairs)
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if (abs(score) - 1) / spread < NormalDist().inv_cdf(1 - _DRIFT_ERROR / 2):
        return None
    slope = median((values[j] - values[i]) / (j - i) for i, j in pairs)
    found = slope * (n - 1) / median(values)
    return found if abs(found) >= DRIFT_LEAST else None


def _modes(times: Sequence[int]) -> tuple[Mode, ...]:
    """Return the two levels of ``times``, if they keep to two, else none.

    They are parted where the two sides scatter least (Otsu, IEEE Trans. SMC 9:62, 1979). They are
    two if each side has a tenth of the samples, their means are five times their spread apart
    (Ashman's D, AJ 108:2348, 1994; a normal distribution, parted so, has 2.7, an even one 3.5), and
    5 % at least.
    """
    n = len(times)
    if n < _MODES_FEWEST:
        return ()
    values = sorted(math.log(t) for t in times if t > 0)
    total, squares = sum(values), sum(v * v for v in values)
    best: tuple[float, int] | None = None
    low = low_squares = 0.0
    fewest = math.ceil(_MODE_SHARE * len(values))
    for k, value in enumerate(values, 1):
        low += value
        low_squares += value * value
        if fewest <= k <= len(values) - fewest:
            high, count = total - low, len(values) - k
            within = low_squares - low * low / k + squares - low_squares - high * high / count
            best = min(best or (within, k), (within, k))
    if best is None:
        return ()
    parts = (values[: best[1]], values[best[1] :])
    means = [sum(part) / len(part) for part in parts]
    # The spread of a level is told by its middle half: a single slow run is no level.
    spreads = [
        (part[3 * len(part) // 4] - part[len(part) // 4]) / (2 * NormalDist().inv_cdf(0.75))
        for part in parts
    ]
    apart = means[1] - means[0]
    spread = math.sqrt(sum(s * s for s in spreads) / 2)
    if apart < math.log1p(_MODES_LEAST) or apart < _MODES_APART * spread:
        return ()
    return tuple(
        Mode(value_ns=round(math.exp(median(part))), share=len(part) / len(values))
        for part in parts
    )
