# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from edgeopt.measure.distributions import (
    beta_share,
    binomial_at_most,
    student_at_most,
    student_quantile,
)


def test_they_are_those_of_printed_tables() -> None:
    assert student_quantile(0.975, 1) == pytest.approx(12.7062, abs=1e-4)
    assert student_quantile(0.975, 10) == pytest.approx(2.22814, abs=1e-5)
    assert student_quantile(0.95, 120) == pytest.approx(1.65765, abs=1e-5)
    assert student_at_most(0.0, 7) == 0.5
    assert student_at_most(-2.22814, 10) == pytest.approx(0.025, abs=1e-6)
    assert binomial_at_most(2, 10, 0.25) == pytest.approx(0.525593, abs=1e-6)
    assert binomial_at_most(-1, 10, 0.25) == 0
    assert binomial_at_most(10, 10, 0.25) == 1


@pytest.mark.heavy
def test_they_are_those_of_scipy() -> None:
    special = pytest.importorskip("scipy.special", reason="scipy is not installed")
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    draw = random.Random(0)
    for _ in range(300):
        a, b, x = draw.uniform(0.3, 3000), draw.uniform(0.3, 3000), draw.random()
        assert beta_share(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-10)
    for freedom in (1, 2.5, 5, 47, 3000):
        for p in (0.6, 0.8, 0.975, 0.9958, 0.999):
            found = student_quantile(p, freedom)
            assert found == pytest.approx(stats.t.ppf(p, freedom), rel=1e-9)
    for n in (1, 5, 100, 24576):
        for share in (0.01, 0.5, 0.99):
            for k in (0, 1, n // 2, n - 1):
                expected = stats.binom.cdf(k, n, share)
                assert binomial_at_most(k, n, share) == pytest.approx(expected, abs=1e-9)
