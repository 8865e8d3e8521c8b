# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Changed copies of texts, made without a network, for a teacher to answer.

Words are what stands between white space. The copy of a text is the same whatever the other texts
are, except for "swap", which takes words from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgeopt.evaluate.data import Data

CROP_LEAST = 0.4
DROP = 0.1
SWAP = 0.1
WINDOW = 3
FREQUENT = 1000


def copies(data: Data, count: int, kinds: Sequence[str], seed: int) -> list[Data]:
    """Return ``count`` copies of ``data``, each text changed by all of ``kinds``, without labels.

    ``crop`` keeps a run of 40 to 100 % of the words; ``drop`` leaves out each word with a
    probability of 0.1; ``shuffle`` moves words by less than 3 places; ``swap`` puts another word in
    the place of each with a probability of 0.1, drawn by frequency of the 1,000 most frequent in
    texts of the same label. One word is always left. The same seed gives the same copies, and copy
    i is the same whatever ``count`` is.
    """
    words = [str(text).split() for text in data.inputs]
    frequent = _frequent(words, data.labels) if "swap" in kinds else {}
    found = []
    for copy in range(count):
        texts = []
        for i, text in enumerate(words):
            draw = np.random.default_rng([seed, 3, copy, i])
            changed = text
            if "crop" in kinds:
                changed = crop(changed, draw)
            if "drop" in kinds:
                changed = drop(changed, draw)
            if "shuffle" in kinds:
                changed = shuffle(changed, draw)
            if "swap" in kinds:
                known, odds = frequent[None if data.labels is None else data.labels[i]]
                changed = swap(changed, draw, known, odds)
            texts.append(" ".join(changed))
        found.append(Data(inputs=tuple(texts)))
    return found


def crop(words: Sequence[str], draw: np.random.Generator) -> list[str]:
    """Return a run of 40 to 100 % of ``words``."""
    kept = max(1, round(len(words) * draw.uniform(CROP_LEAST, 1.0)))
    start = int(draw.integers(0, len(words) - kept + 1))
    return list(words[start : start + kept])


def drop(words: Sequence[str], draw: np.random.Generator) -> list[str]:
    """Return ``words`` without some, at least one."""
    kept = draw.random(len(words)) >= DROP
    if not kept.any():
        kept[draw.integers(len(words))] = True
    return [word for word, stays in zip(words, kept, strict=True) if stays]


def shuffle(words: Sequence[str], draw: np.random.Generator) -> list[str]:
    """Return ``words``, each less than 3 places from its own."""
    # Sorted by place + [0, 3): a word passes only those that stand less than three from it.
    order = np.argsort(np.arange(len(words)) + draw.uniform(0, WINDOW, len(words)))
    return [words[i] for i in order]


def swap(
    words: Sequence[str], draw: np.random.Generator, known: Sequence[str], odds: np.ndarray
) -> list[str]:
    """Return ``words``, some in exchange for one of ``known``."""
    goes = draw.random(len(words)) < SWAP
    others = draw.choice(len(known), len(words), p=odds)
    return [
        known[other] if gone else word
        for word, gone, other in zip(words, goes, others, strict=True)
    ]


def _frequent(
    words: Sequence[Sequence[str]], labels: Sequence[int] | None
) -> dict[int | None, tuple[list[str], np.ndarray]]:
    """Return the most frequent words of each label's texts, and the share that each has."""
    counts: dict[int | None, Counter[str]] = {}
    for i, text in enumerate(words):
        counts.setdefault(None if labels is None else labels[i], Counter()).update(text)
    found = {}
    for label, counter in counts.items():
        # By count and then by word, so that equal counts do not hang on the order of texts.
        most = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]
        numbers = np.array([number for _, number in most], dtype=np.float64)
        found[label] = ([word for word, _ in most], numbers / numbers.sum())
    return found
