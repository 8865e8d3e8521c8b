# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from edgeopt.measure.statistics import CONFIDENCE, Percentiles, needed, percentiles


def test_nearest_rank_of_a_hundred() -> None:
    found = percentiles(range(100, 0, -1))
    assert found == Percentiles(p50=50, p90=90, p99=None, max=100, n=100)
    assert percentiles(range(1000)).p99 == 989


def test_a_percentile_that_the_samples_cannot_support_is_none() -> None:
    assert percentiles([3, 1, 2]) == Percentiles(p50=2, p90=None, p99=None, max=3, n=3)
    assert percentiles(range(28)).p90 is None
    assert percentiles(range(29)).p90 == 26
    assert percentiles(range(298)).p99 is None
    assert percentiles(range(299)).p99 == 296


def test_the_largest_of_so_many_samples_is_above_the_percentile() -> None:
    for share in (0.5, 0.9, 0.99):
        n = needed(share)
        assert 1 - share**n >= CONFIDENCE > 1 - share ** (n - 1)
