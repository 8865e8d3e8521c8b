# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The distributions that intervals are made of: binomial and Student's t.

scipy has them too, and is not in the base install; tests hold these to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

_STEPS = 10_000
_PRECISION = 1e-15
_TINY = 1e-300


def beta_share(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), for ``a`` and ``b`` above 0.

    By its continued fraction (NIST DLMF 8.17.22), from the side where that converges fast.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    # Lentz's method, as modified by Thompson and Barnett (J. Comput. Phys. 64:490, 1986).
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            found *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return math.exp(log_front) * found / a


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def binomial_at_most(k: int, n: int, p: float) -> float:
    """Return the probability of ``k`` or fewer hits in ``n`` tries of probability ``p``."""
    if k < 0 or k >= n:
        return 0.0 if k < 0 else 1.0
    return beta_share(1 - p, n - k, k + 1)


def student_at_most(t: float, freedom: float) -> float:
    """Return the probability that Student's t of so many degrees of freedom is at most ``t``."""
    tail = beta_share(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=4096)
def student_quantile(p: float, freedom: float) -> float:
    """Return the value that Student's t is at most with probability ``p``, 0.5 to below 1."""
    high = 1.0
    while student_at_most(high, freedom) < p:
        high *= 2
    return _bisect(lambda t: student_at_most(t, freedom) - p, 0.0, high)


def _bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    while high - low > 1e-12 * max(1.0, abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
