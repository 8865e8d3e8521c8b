# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import math
import random

import pytest

from edgeopt.measure import difference
from edgeopt.measure.difference import FASTER, LOOKS, RESOLUTION, SAME, SLOWER
from tools.compare_experiment import TRIES, tried


def test_the_interval_is_students_t() -> None:
    found = difference.paired([0.01, 0.03, 0.02])
    # The mean of three is 0.02, their standard deviation 0.01, and t of 2 degrees 4.30265.
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(0.02))
    assert found.low == pytest.approx(math.exp(0.02 - half), rel=1e-6)
    assert found.high == pytest.approx(math.exp(0.02 + half), rel=1e-6)
    assert (found.units, found.verdict) == (3, SAME)


def test_two_rounds_bound_nothing_if_the_risk_is_small() -> None:
    found = difference.paired([0.1, 0.5], error=1e-4)
    assert (found.low, found.verdict) == (0, SAME)
    assert 1e300 < found.high < math.inf


def test_a_verdict_takes_an_interval_without_1() -> None:
    assert difference.paired([0.02, 0.021, 0.022]).verdict == SLOWER
    assert difference.paired([-0.02, -0.021, -0.022]).verdict == FASTER
    assert not difference.is_enough(difference.paired([0.5, -0.4, 0.1]))
    alike = difference.paired([0.0001, -0.0001, 0.0])
    assert alike.verdict == SAME
    assert alike.within(RESOLUTION)
    assert difference.is_enough(alike)


def test_a_rounds_value_is_the_middle_of_its_pairs() -> None:
    pairs = [((10, 10, 99), (11, 11, 1)), ((10, 10, 10), (10, 10, 10)), ((10,), (90,))]
    assert difference.round_value(pairs) == pytest.approx(math.log(1.1))
    back = [(second, first) for first, second in pairs]
    assert difference.round_value(back) == pytest.approx(-math.log(1.1))


@pytest.mark.heavy
def test_two_lots_are_held_against_each_other_by_welch() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    draw = random.Random(0)
    first = [draw.gauss(0, 0.01) for _ in range(12)]
    second = [draw.gauss(0.02, 0.03) for _ in range(20)]
    found = difference.unpaired(first, second)
    ends = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert found.low == pytest.approx(math.exp(ends.low), rel=1e-9)
    assert found.high == pytest.approx(math.exp(ends.high), rel=1e-9)


def test_what_is_alike_is_told_apart_in_one_of_twenty_cases_at_most() -> None:
    """However often it was looked: rounds of a slow drift, with outliers, in a fixed seed."""
    draw = random.Random(3)
    values = [
        draw.gauss(0, 0.01) + (draw.choice((-0.2, 0.2)) if draw.random() < 0.05 else 0.0)
        for _ in range(3000)
    ]
    assert tried(values, 1.0).told <= 0.05 * TRIES


@pytest.mark.heavy
def test_looking_at_every_round_with_the_whole_risk_would_tell_apart_more() -> None:
    draw = random.Random(4)
    told = 0
    for _ in range(40):
        values = [draw.gauss(0, 0.02) for _ in range(LOOKS[-1])]
        told += any(difference.paired(values[:n]).verdict != SAME for n in range(6, LOOKS[-1] + 1))
    assert told > 4  # a tenth


@pytest.mark.parametrize("slowdown", [1.03, 1 / 1.03])
def test_a_difference_of_3_percent_is_found(slowdown: float) -> None:
    draw = random.Random(5)
    found = tried([draw.gauss(0, 0.03) for _ in range(3000)], slowdown)
    assert found.told >= 0.95 * TRIES
    assert found.wrong == 0


@pytest.mark.heavy
def test_so_many_more_rounds_find_it_in_four_of_five_tries() -> None:
    effect = difference.paired([0.012, -0.008, 0.02, -0.01, 0.006, 0.004])
    more = difference.more_units(effect)
    assert more is not None
    draw = random.Random(6)
    center = math.log(effect.ratio)
    found = sum(
        difference.paired(
            [draw.gauss(center, effect.spread) for _ in range(effect.units + more)]
        ).verdict
        == SLOWER
        for _ in range(200)
    )
    assert 0.7 <= found / 200 <= 0.9
    assert difference.more_units(difference.paired([0.1, -0.1, 0.1, -0.1])) is None
