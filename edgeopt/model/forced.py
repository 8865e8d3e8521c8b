# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How likely a network finds a text, each token after those before it (teacher forcing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeopt.model.answer import Answer, Continuation

Tokenize = Callable[[str], Sequence[int]]
Logits = Callable[[Sequence[int], int], Iterator[np.ndarray]]
"""Of a window's tokens and ``first``: the logits (vocabulary,) that each from ``first`` on is
chosen by, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The tokens ``begin`` to ``end`` are read at once, and those from ``first`` on are judged."""

    begin: int
    first: int
    end: int


def windows(count: int, first: int, most: int) -> list[Window]:
    """Return the windows of at most ``most`` tokens in which those from ``first`` on are judged.

    Each begins half a window after the one before, so that a token has at least half a window
    before it, but for those of the first. Nothing is before the first token, which is not judged.
    """
    found, judged = [], max(first, 1)
    end = min(count, most)
    while True:
        if end > judged:
            found.append(Window(begin=max(0, end - most), first=judged, end=end))
            judged = end
        if end == count:
            return found
        end = min(count, end + max(1, most // 2))


def tokens_of(asked: Continuation, tokenize: Tokenize) -> tuple[list[int], int]:
    """Return the tokens of context and text together, and the first one that is the text's.

    It is the first that differs from the context's alone, at least one of them.
    """
    whole = list(tokenize(asked.context + asked.text))
    if not asked.context:
        return whole, 0
    before = tokenize(asked.context)
    same = 0
    while same < min(len(before), len(whole) - 1) and before[same] == whole[same]:
        same += 1
    return whole, same


@dataclass(slots=True)
class _Judged:
    losses: list[float] = field(default_factory=list)
    likeliest: list[bool] = field(default_factory=list)


def judge(asked: Continuation, tokenize: Tokenize, logits: Logits) -> Answer:
    """Return the losses of the text's tokens. ``ids`` are all tokens that were read."""
    tokens, first = tokens_of(asked, tokenize)
    judged = _Judged()
    for window in windows(len(tokens), first, asked.window):
        read = tokens[window.begin : window.end]
        rows = logits(read, window.first - window.begin)
        for token, row in zip(tokens[window.first : window.end], rows, strict=True):
            exact = row.astype(np.float64)
            peak = exact.max()
            judged.losses.append(float(peak + np.log(np.exp(exact - peak).sum()) - exact[token]))
            judged.likeliest.append(int(exact.argmax()) == token)
    return Answer(
        ids=tuple(tokens),
        losses=np.array(judged.losses, np.float64),
        likeliest=np.array(judged.likeliest, bool),
    )
