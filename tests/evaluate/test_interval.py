# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Intervals, against published examples, scipy's bootstrap, and how often they hold the truth."""

import numpy as np
import pytest

from edgeopt.evaluate import interval

pytest.importorskip("scipy", reason="needs edgeopt[evaluate]")


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    ones = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, neither], 0)
    return ones[:, 0].astype(float), ones[:, 1].astype(float)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Airways before and after a transplantation: Fagerland, Lydersen and Laake, Statistical
        # Analysis of Contingency Tables, 2017, ch. 8, square-and-add.
        ((1, 1, 7, 12), -0.507, -0.026),
        # Altman et al., Statistics with Confidence, 2000, table 6.2.
        ((14, 5, 0, 22), 0.01, 0.23),
    ],
)
def test_differences_of_shares_are_those_of_the_books(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    digits = len(str(low).split(".")[1])
    found = interval.share_difference(*pairs(*counts))
    assert [round(end, digits) for end in found] == [low, high]


def test_a_difference_turns_around_with_its_sides() -> None:
    first, second = pairs(40, 9, 3, 8)
    low, high = interval.share_difference(first, second)
    assert interval.share_difference(second, first) == pytest.approx((-high, -low))


def test_answers_that_are_all_the_same_do_not_show_that_there_is_no_difference() -> None:
    low, high = interval.share_difference(*pairs(20, 0, 0, 0))
    assert low < -0.1
    assert high > 0.1


@pytest.mark.heavy
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(0)
    held = held_difference = 0
    trials = 400
    # P(u + 0.1 z < 0.8) for a uniform u: the mean of the clipped bound.
    truth = 0.85 - np.clip(0.8 - 0.1 * np.random.default_rng(1).normal(size=10**6), 0, 1).mean()
    for _ in range(trials):
        sure = draw.random(100)
        first, second = sure < 0.85, sure + 0.1 * draw.normal(size=100) < 0.80
        low, high = interval.share(first.astype(float))
        held += low <= 0.85 <= high
        low, high = interval.share_difference(first.astype(float), second.astype(float))
        held_difference += low <= truth <= high
    assert 0.92 < held / trials < 0.985
    assert 0.92 < held_difference / trials < 0.995


def test_the_bootstrap_is_scipys() -> None:
    from scipy import stats

    draw = np.random.default_rng(2)
    first, second = draw.random(80), draw.random(80)

    def mean_of(values: np.ndarray) -> interval.At:
        return lambda counts: counts @ values / counts.sum(1)

    found = interval.bootstrap({"mean": [mean_of(first), mean_of(second)]}, 80)["mean"]
    for ends, statistic in (
        (found[1][0], lambda a, b: b.mean(-1)),
        (found[1][1], lambda a, b: b.mean(-1) - a.mean(-1)),
    ):
        expected = stats.bootstrap(
            (first, second),
            lambda a, b, axis, of=statistic: of(a, b),
            paired=True,
            vectorized=True,
            n_resamples=20_000,
            confidence_level=1 - 2 * interval.tail(80),
            method="percentile",
            rng=3,
        ).confidence_interval
        assert ends == pytest.approx((expected.low, expected.high), abs=0.006)
    assert found[0][1] == (0.0, 0.0)


@pytest.mark.heavy
def test_the_bootstrap_of_few_units_holds_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(8)
    trials = 600
    held = 0
    for _ in range(trials):
        values = draw.normal(size=10)
        at = {"mean": [lambda counts, v=values: counts @ v / counts.sum(1)]}
        low, high = interval.bootstrap(at, 10)["mean"][0][0]
        held += low <= 0 <= high
    assert 0.93 < held / trials < 0.975  # plain percentiles: .91
    assert interval.tail(10**6) == pytest.approx(0.025, abs=1e-6)


def test_the_bootstrap_is_the_same_every_time_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random(50)
    ats = {"mean": [lambda counts: counts @ values / counts.sum(1)]}
    ((whole, _),) = interval.bootstrap(ats, 50)["mean"]
    assert interval.bootstrap(ats, 50)["mean"] == [[whole, (0.0, 0.0)]]
    monkeypatch.setattr(interval, "_MOST_COUNTS", 50 * 7)  # seven resamples at a time
    ((parts, _),) = interval.bootstrap(ats, 50)["mean"]
    assert parts == pytest.approx(whole, rel=1e-12)  # sums are rounded in another order


def test_a_figure_that_few_resamples_define_has_no_interval() -> None:
    ats = {"never": [lambda counts: np.full(len(counts), np.nan)]}
    assert all(np.isnan(end) for ends in interval.bootstrap(ats, 9)["never"][0] for end in ends)
