# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from edgeopt.measure.course import Course, course

NOTHING = Course(warmup=0, drift=None, modes=())


def noise(n: int, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [1e6 + draw.gauss(0, 1e4) for _ in range(n)]


def ints(values: list[float]) -> list[int]:
    return [round(v) for v in values]


def test_times_that_are_alike_have_no_course() -> None:
    assert course(ints(noise(200))) == NOTHING
    assert course([7] * 100) == NOTHING
    assert course([9, 1, 1]) == NOTHING  # too few to say


def test_where_it_becomes_steady_is_found() -> None:
    slow = [5, 2, 1.5, 1.3, 1.2, 1.15, 1.1]
    times = [t * f for t, f in zip(noise(200), [*slow, *[1.0] * 193], strict=True)]
    assert course(ints(times)).warmup == len(slow)
    once = noise(200)
    once[0] *= 30
    assert course(ints(once)).warmup == 1
    late = [2 * t if i < 120 else t for i, t in enumerate(noise(200))]
    assert course(ints(late)).warmup is None


def test_a_drift_is_told_with_its_size() -> None:
    times = [t * (1 + 0.05 * i / 200) for i, t in enumerate(noise(200))]
    assert course(ints(times)).drift == pytest.approx(0.05, abs=0.01)
    down = [t * (1 - 0.05 * i / 200) for i, t in enumerate(noise(200))]
    assert course(ints(down)).drift == pytest.approx(-0.05, abs=0.01)


def test_two_levels_are_told_and_a_tail_is_none() -> None:
    draw = random.Random(1)
    times = [t * (1.5 if draw.random() < 0.3 else 1.0) for t in noise(300)]
    low, high = course(ints(times)).modes
    assert low.value_ns == pytest.approx(1e6, rel=0.01)
    assert high.value_ns == pytest.approx(1.5e6, rel=0.01)
    assert high.share == pytest.approx(0.3, abs=0.05)
    flagged = 0
    for seed in range(60):
        draw = random.Random(seed)
        flagged += bool(course([round(1e6 + draw.expovariate(1e-5)) for _ in range(100)]).modes)
        flagged += bool(course([round(draw.uniform(1e6, 2e6)) for _ in range(100)]).modes)
    assert flagged <= 2
