# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows over long texts, and where a continuation begins."""

from __future__ import annotations

import pytest

from edgeopt.model.answer import Continuation
from edgeopt.model.forced import tokens_of, windows


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 12, 13, 40, 41])
@pytest.mark.parametrize("most", [2, 3, 8])
@pytest.mark.parametrize("first", [0, 1, 5])
def test_each_token_is_judged_once_with_half_a_window_before_it(
    count: int, most: int, first: int
) -> None:
    judged = []
    for window in windows(count, first, most):
        assert 0 <= window.begin < window.first < window.end <= count
        assert window.end - window.begin <= most
        for at in range(window.first, window.end):
            judged.append(at)
            assert at - window.begin >= min(at, most // 2)
    assert judged == list(range(max(first, 1), count))


def test_a_continuation_begins_where_tokens_differ_from_the_contexts() -> None:
    def words(text: str) -> list[int]:
        return [hash(word) for word in text.split(" ")]

    def ended(text: str) -> list[int]:
        return [*words(text), -1]

    whole = Continuation(context="", text="a b", window=8)
    assert tokens_of(whole, words) == (words("a b"), 0)
    after = Continuation(context="a b", text=" c d", window=8)
    assert tokens_of(after, words) == (words("a b c d"), 2)
    assert tokens_of(after, ended) == (ended("a b c d"), 2)
    joined = Continuation(context="a b", text="c", window=8)  # b and bc are other tokens
    assert tokens_of(joined, words) == (words("a bc"), 1)
    same = Continuation(context="a", text="", window=8)
    assert tokens_of(same, words) == (words("a"), 0)
