# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import itertools
import random

import pytest

from edgeopt.compression.budget import BUCKETS, Choice, choose, kept_importance


def test_what_is_chosen_is_what_trying_all_gives() -> None:
    draw = random.Random(0)
    for _ in range(20):
        choices: list[Choice] = [
            {n: (draw.randint(1, 50) * n, draw.random() * n) for n in range(1, 5)} for _ in range(4)
        ]
        budget = BUCKETS / 20  # so that every cost is a whole number of buckets
        best = max(
            sum(choice[n][1] for choice, n in zip(choices, widths, strict=True))
            for widths in itertools.product(range(1, 5), repeat=4)
            if sum(choice[n][0] for choice, n in zip(choices, widths, strict=True)) <= budget
        )
        found = choose(choices, budget)
        assert found is not None
        costs, importances = zip(*(c[n] for c, n in zip(choices, found, strict=True)), strict=True)
        assert sum(costs) <= budget
        assert sum(importances) == pytest.approx(best)


def test_a_plateau_is_used_to_its_end() -> None:
    costs = {1: 8.0, 2: 8.0, 3: 8.0, 4: 8.0, 5: 16.0, 6: 16.0}
    kept = kept_importance([1.0, 5.0, 3.0, 2.0, 4.0, 0.0], list(costs))
    assert kept == {1: 5.0, 2: 9.0, 3: 12.0, 4: 14.0, 5: 15.0, 6: 15.0}
    choice = {n: (costs[n], kept[n]) for n in costs}
    assert choose([choice], 15.0) == [4]
    assert choose([choice, choice], 25.0) in ([4, 5], [5, 4])  # and not 6, which is worth no more
    assert choose([choice, choice], 15.0) is None
