# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.model.importer import import_model
from edgeopt.model.ladder import chosen, ladder
from tests import checkpoints


def padded(counts: list[int], lengths: tuple[int, ...]) -> int:
    """Return the tokens of all texts, each padded to the next length or cut to the last."""
    return sum(min((n for n in lengths if n >= count), default=lengths[-1]) for count in counts)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_lengths_of_the_same_number_pad_less(seed: int) -> None:
    random_ = random.Random(seed)
    counts = [int(random_.expovariate(1 / 30)) + 2 for _ in range(40)]
    fixed = [24, 80]
    found = chosen(counts, fixed)
    free = [n for n in range(8, 80, 8) if n not in fixed]

    def least(number: int) -> int:
        ways = itertools.combinations(free, number)
        return min(padded(counts, tuple(sorted({*fixed, *way}))) for way in ways)

    number = len(found) - len(fixed)
    assert {24, 80} <= set(found)
    assert padded(counts, found) == least(number)
    if number < len(free):
        assert least(number) - least(number + 1) < 0.02 * least(number)
    if number:
        assert least(number - 1) - least(number) >= 0.02 * least(number - 1)


def test_texts_of_two_lengths_get_these() -> None:
    counts = [30] * 50 + [300] * 50
    assert chosen(counts, [128, 512]) == (32, 128, 304, 512)
    assert chosen([5] * 10, [32]) == (8, 32)


@pytest.mark.heavy
def test_a_model_gets_a_ladder_up_to_its_longest(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    small = import_model(checkpoints.write(tmp_path / "tiny"))
    assert small.text.max_seq_len == 38
    assert ladder(small, (32,), 512, None) == ()
    model = replace(small, input=replace(small.text, max_seq_len=200))
    assert ladder(model, (32, 128), 512, None) == (16, 32, 48, 64, 96, 128, 192, 200)
    assert ladder(model, (24, 32), 90, None) == (16, 24, 32, 48, 64, 90)
    assert ladder(model, (32, 128), 100, None) == (16, 32, 48, 64, 96, 128)
    assert ladder(model, (32, 128), 0, None) == ()
    texts = ["a library", "the tool"]  # four tokens, with those at the ends
    assert ladder(model, (32,), 512, texts) == (8, 32, 200)
