# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Choose how many heads and neurons each layer keeps, within a budget of cost.

Each layer's attention and FFN is one choice out of its table of widths; a width has the cost of
the table and the sum of the importances that it keeps (the best ones). What maximises the kept
importance within the budget is a multiple-choice knapsack. Kwon et al. 2022 (section 4.1) solve it
greedily, with a latency that is flat and then linear in the width; here it is a table's, with all
its plateaus, so it is solved by dynamic programming over the budget in ``BUCKETS`` steps (as ZipLM
does, Kurtic et al. 2023, after SPDY).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BUCKETS = 5000
"""Into how many parts a budget is cut; costs are rounded up to whole ones.

So the budget always holds. With 24 choices (12 layers) at most half a percent stays unused.
"""

Choice = Mapping[int, tuple[float, float]]
"""What one may choose: width -> (cost, kept importance)."""


def kept_importance(scores: Sequence[float], widths: Sequence[int]) -> dict[int, float]:
    """Return, for each width, the sum of that many of the highest ``scores``."""
    sums = np.concatenate([[0.0], np.cumsum(np.sort(np.asarray(scores, np.float64))[::-1])])
    return {width: float(sums[width]) for width in widths}


def choose(choices: Sequence[Choice], budget: float) -> list[int] | None:
    """Return the width for each of ``choices``, None if even the cheapest are over ``budget``.

    Of equal importance, the cheaper is chosen.
    """
    size = budget / BUCKETS
    best = np.zeros(BUCKETS + 1)  # by the buckets used at most
    picked = []
    for choice in choices:
        # From the cheapest on, so that argmax takes that if importances are equal.
        widths = sorted(choice, key=lambda width: choice[width][0])
        rows = np.full((len(widths), BUCKETS + 1), -np.inf)
        for row, width in zip(rows, widths, strict=True):
            cost, importance = choice[width]
            used = int(np.ceil(cost / size - 1e-9))
            if used <= BUCKETS:
                row[used:] = best[: BUCKETS + 1 - used] + importance
        picked.append((widths, rows.argmax(0)))
        best = rows.max(0)
    if not np.isfinite(best[-1]):
        return None
    left, found = BUCKETS, []
    for choice, (widths, rows) in zip(reversed(choices), reversed(picked), strict=True):
        width = widths[int(rows[left])]
        found.append(width)
        left -= int(np.ceil(choice[width][0] / size - 1e-9))
    return found[::-1]
