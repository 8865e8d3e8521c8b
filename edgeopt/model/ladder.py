# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A ladder of static lengths: a text is padded to the next one, so few are to be far apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from edgeopt.model import Model, TextInput, tokenizer

_SHORTEST = 16  # tokens; half of that saves an encoder little, as kernels compute rows by 4 to 16
_WORTHWHILE = 64  # tokens; a text that is padded to so many takes little time anyway
_MOST = 12  # lengths that are chosen beside the fixed ones
_WORTH = 0.02  # of all tokens, which a further length has to save; one costs 1 to 2 MB of memory
_STEP = 8  # tokens between the lengths that are tried, in a ladder of up to _TRIED of them
_TRIED = 64


def ladder(
    model: Model, seq_lens: Sequence[int], longest: int, own: Sequence[str] | None
) -> tuple[int, ...]:
    """Return ``seq_lens`` and more lengths for ``model``, up to ``longest`` or its own longest.

    They are chosen for the texts ``own``. Without any they are 16, 32, 48, 64, 96, ...: at most a
    third of the run of a text of more than 32 tokens is padding. () if ``longest`` is 0, and for a
    model of images, of fixed lengths, or of up to 64 tokens.
    """
    if not longest or not isinstance(model.input, TextInput) or model.input.seq_lens:
        return ()
    top = max(min(longest, model.input.max_seq_len), *seq_lens)
    if top <= _WORTHWHILE:
        return ()
    fixed = sorted({*seq_lens, top})
    if own and model.input.tokenizer is not None:
        return chosen(token_counts(model, own), fixed)
    return tuple(sorted({*fixed, *_steps(top)}))


def _steps(top: int) -> Iterator[int]:
    """Yield 16, 32, 48, 64, 96, 128, 192, ... below ``top``."""
    n = _SHORTEST
    while n < top:
        yield n
        if n > _SHORTEST and n + n // 2 < top:
            yield n + n // 2
        n *= 2


def token_counts(model: Model, texts: Sequence[str]) -> list[int]:
    """Return how many tokens each text has, with those that mark its ends, and the prompt."""
    if model.text.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer")
    tokens = tokenizer.load(model.text.tokenizer)
    found = tokens([model.text.prompt + text for text in texts], truncation=False, verbose=False)
    return [len(ids) for ids in found["input_ids"]]


def chosen(counts: Sequence[int], fixed: Sequence[int]) -> tuple[int, ...]:
    """Return ``fixed`` (ascending) and those lengths that save texts of ``counts`` tokens most.

    For each number of further lengths those are found that leave the fewest tokens of all texts,
    padded to the next length; of these numbers the smallest is taken from which one more saves
    less than 2 %. Texts beyond the last length are cut to it.
    """
    top = fixed[-1]
    step = max(_STEP, -(-top // _TRIED // _STEP) * _STEP)
    tried = [0, *sorted({*fixed, *range(step, top, step)})]
    reach = [sum(count <= n for count in counts) for n in tried[:-1]] + [len(counts)]
    # ways[k][j]: the fewest tokens of all texts up to tried[j], which is taken, with k free lengths
    # among those taken; and these.
    ways: list[dict[int, tuple[int, tuple[int, ...]]]] = [{} for _ in range(_MOST + 1)]
    ways[0][0] = (0, ())
    last = 0  # the fixed one before, which is not left out
    for j, n in enumerate(tried[1:], start=1):
        for k in range(n not in fixed, _MOST + 1):
            before = ways[k - (n not in fixed)]
            found = [
                (before[i][0] + n * (reach[j] - reach[i]), (*before[i][1], n))
                for i in range(last, j)
                if i in before
            ]
            if found:
                ways[k][j] = min(found)
        last = j if n in fixed else last
    best = [way[last] for way in ways if last in way]
    for fewer, more in itertools.pairwise(best):
        if fewer[0] - more[0] < _WORTH * fewer[0]:
            return fewer[1]
    return best[-1][1]
