# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from edgeopt.measure.distributions import binomial_at_most
from edgeopt.measure.statistics import (
    CONFIDENCE,
    batches,
    bound_ranks,
    early_stopping,
    independent_of,
    needed,
    percentiles,
)


def shuffled(n: int) -> list[int]:
    """1 to ``n``, in an order in which none tells of the next."""
    values = list(range(1, n + 1))
    random.Random(0).shuffle(values)
    return values


def test_nearest_rank_of_a_hundred() -> None:
    found = percentiles(shuffled(100))
    assert (found.p50, found.p90, found.p99, found.max, found.n) == (50, 90, None, 100, 100)
    assert percentiles(shuffled(1000)).p99 == 990


def test_a_percentile_that_the_samples_cannot_support_is_none() -> None:
    found = percentiles([3, 1, 2])
    assert (found.p50, found.p90, found.p99, found.max) == (2, None, None, 3)
    assert found.p50_bounds == (None, None)
    assert percentiles([1] * 28).p90 is None
    assert percentiles([1] * 29).p90 == 1
    assert percentiles([1] * 298).p99 is None
    assert percentiles([1] * 299).p99 == 1


def test_the_largest_of_so_many_samples_is_above_the_percentile() -> None:
    for share in (0.5, 0.9, 0.99):
        n = needed(share)
        assert 1 - share**n >= CONFIDENCE > 1 - share ** (n - 1)


def test_bounds_of_a_percentile_are_binomial() -> None:
    # Of 100, a median's: 42 and 59, as in tables of the sign test (one-sided 5 %).
    assert bound_ranks(100, 0.5) == (42, 59)
    assert bound_ranks(20, 0.5) == (6, 15)
    assert bound_ranks(28, 0.9) == (22, None)
    assert bound_ranks(29, 0.9) == (23, 29)
    assert bound_ranks(4, 0.5) == (None, None)
    for n in (5, 30, 299, 1000):
        for share in (0.5, 0.9, 0.99):
            low, high = bound_ranks(n, share)
            if low is not None:
                risk = binomial_at_most(low - 1, n, share)
                assert risk <= 1 - CONFIDENCE < binomial_at_most(low, n, share)
            if high is not None:
                risk = 1 - binomial_at_most(high - 1, n, share)
                assert risk <= 1 - CONFIDENCE + 1e-12
    assert percentiles(shuffled(100)).p50_bounds == (42, 59)


def test_bounds_hold_as_often_as_they_say() -> None:
    draw = random.Random(1)
    below = above = 0
    for _ in range(300):
        found = percentiles([round(1e6 * draw.expovariate(1)) for _ in range(60)])
        low, high = found.p90_bounds
        assert low is not None
        below += low > 1e6 * 2.302585
        above += high is not None and high < 1e6 * 2.302585
    assert below <= 26  # 15 are expected at most, and 26 are three standard deviations more
    assert above <= 26


def test_samples_like_those_before_them_count_less() -> None:
    draw = random.Random(2)
    alone = [draw.gauss(0, 1) for _ in range(4000)]
    assert independent_of(alone) == 4000
    alike = [0.0]
    for value in alone:
        alike.append(0.8 * alike[-1] + value)
    # Of an autoregression n (1 - a) / (1 + a) are independent: 444.
    assert independent_of(alike) == pytest.approx(444, rel=0.25)
    assert independent_of([1, 1, 1, 1, 1]) == 5
    blocks = [level for level in (1, 2) * 5 for _ in range(30)]
    assert percentiles(blocks).p90 is None
    assert percentiles(blocks).independent < 29


def test_a_tail_is_not_told_without_the_one_before_it() -> None:
    """Slow times in one row, and single ones far beyond: p90 hangs on one event, p99 on many."""
    times = [100 + i % 7 for i in range(6000)]
    times[500:1400] = [200 + i % 7 for i in range(900)]
    for i in range(0, 6000, 70):
        times[i] = 1000
    assert independent_of([t > 999 for t in times]) == 6000
    found = percentiles(times)
    assert (found.p90, found.p99) == (None, None)


def test_early_stopping_is_that_of_loadgen() -> None:
    # Floors that mlcommons/endpoints gives as reference values of loadgen: p90 64, p99 662.
    assert early_stopping(range(63), 0.90) is None
    assert early_stopping(range(64), 0.90) == 63
    assert early_stopping(range(661), 0.99) is None
    assert early_stopping(range(662), 0.99) == 661
    for n in (64, 100, 1024, 5000):
        found = early_stopping(range(1, n + 1), 0.90)
        assert found is not None
        beyond = n - found + 1
        assert binomial_at_most(beyond, n, 0.10) < 0.01 <= binomial_at_most(beyond + 1, n, 0.10)


def test_batches_are_stretches_of_like_size() -> None:
    assert batches([1] * 4) == []
    assert [list(part) for part in batches(list(range(11)))] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    parts = batches(list(range(1003)))
    assert len(parts) == 20
    assert {len(part) for part in parts} == {50}
    assert parts[-1][-1] == 1002
