# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How many times the one's time the other takes, how sure that is, and when to stop measuring.

The unit is a round: a process of each, their blocks of runs in turns. Runs are no units, for those
near each other are alike (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013):
what a process is given by chance, as where its memory lies, is in all of its runs, and what else
runs on the board lasts for many. A round's value is the median, over its pairs of neighbouring
blocks, of the log of the ratio of the blocks' medians. Of two that are alike it is as often above 0
as below, by the order being drawn; so the interval is Student's t over the rounds' values.

Looking again and again until a difference shows finds one in what has none. Rounds are therefore
looked at after fixed numbers of them only, and the 5 % of being wrong is shared out among the looks
(Bonferroni, so that no assumption on how looks hang together is needed): the interval of whichever
look is the last holds in 95 % of all cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from edgeopt.measure.distributions import student_quantile
from edgeopt.measure.statistics import CONFIDENCE

SLOWER, FASTER, SAME = "slower", "faster", "cannot tell apart"
SESSIONS = "the sessions differ"
"""Two sessions took other times; whether the artifacts do, sessions by turns would tell."""
LOOKS = (6, 10, 20, 40, 80)
"""After so many rounds it is decided whether to go on. The last are so many that 3 % were found in
95 % of tries on a machine with three times as much to do as it had cores
(docs/reference/compare.md)."""

RESOLUTION = 0.01
"""It is enough to know that two differ by less than this share."""

POWER = 0.8
_MOST_ROUNDS = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """How many times the first's time the second takes, with an interval of 95 %.

    ``units`` is how many values it was made of, ``spread`` their standard deviation as a log ratio,
    and ``error`` how often an interval as wide as this one leaves out the truth: the share of 5 %
    that this look has.
    """

    ratio: float
    low: float
    high: float
    units: int
    spread: float
    error: float

    @property
    def verdict(self) -> str:
        """What the second is; ``SAME`` if the interval holds 1."""
        if self.low > 1:
            return SLOWER
        return FASTER if self.high < 1 else SAME

    def within(self, resolution: float) -> bool:
        """Return whether any difference is smaller than that share, by the interval."""
        return self.low > 1 / (1 + resolution) and self.high < 1 + resolution


def round_value(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Return a round's value of its pairs of blocks, times of the first and of the second, ns."""
    return median(math.log(median(second) / median(first)) for first, second in pairs)


def paired(values: Sequence[float], error: float = 1 - CONFIDENCE) -> Effect:
    """Return the effect of the rounds' ``values``, two or more."""
    n, spread = len(values), stdev(values)
    return _effect(fmean(values), spread / math.sqrt(n), n - 1, n, spread, error)


def unpaired(
    first: Sequence[float], second: Sequence[float], error: float = 1 - CONFIDENCE
) -> Effect:
    """Return the effect of two lots of log times that were not taken in turns (Welch's t)."""
    parts = [stdev(one) ** 2 / len(one) for one in (first, second)]
    below = sum(p**2 / (len(o) - 1) for p, o in zip(parts, (first, second), strict=True))
    freedom = sum(parts) ** 2 / below if below else len(first) + len(second) - 2
    center = fmean(second) - fmean(first)
    n = len(first) + len(second)
    spread = math.sqrt(sum(parts) * n / 4)
    return _effect(center, math.sqrt(sum(parts)), freedom, n, spread, error)


_WIDEST = 700.0  # of which exp is a number still: two rounds and a small risk bound nothing


def _effect(
    center: float, standard_error: float, freedom: float, units: int, spread: float, error: float
) -> Effect:
    half = student_quantile(1 - error / 2, freedom) * standard_error
    return Effect(
        ratio=math.exp(center),
        low=math.exp(center - half),
        high=math.exp(min(center + half, _WIDEST)),
        units=units,
        spread=spread,
        error=error,
    )


def is_enough(effect: Effect, resolution: float = RESOLUTION) -> bool:
    """Return whether more rounds are not needed: there is a verdict, or nothing larger to find."""
    return effect.verdict != SAME or effect.within(resolution)


def more_units(effect: Effect) -> int | None:
    """Return about how many more units would tell the two apart; None for over 5,000.

    So many that in four of five tries the interval leaves out 1, if the difference is the one that
    was seen and the spread stays what it is. It is an estimate from both.
    """
    seen = abs(math.log(effect.ratio))

    def enough(n: int) -> bool:
        needed = student_quantile(1 - effect.error / 2, n - 1) + student_quantile(POWER, n - 1)
        return needed * effect.spread <= seen * math.sqrt(n)

    low, high = effect.units, _MOST_ROUNDS
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low - effect.units
