# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether samples stand in the same order, and have the same neighbours, in two systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeopt.model.answer import (
    Answer,
)

CLEAR = 0.1
"""A nearest neighbour is clear if the next one is so far behind.

The unit is a standard deviation of all similarities: what is nearer than that changes by rounding
in 8 bits.
"""

LEAST_RANKED = 8
"""Fewer samples say nothing of an order: five may be in order by chance (1 in 120)."""


def order(pairs: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Return the rank correlation of scores over samples, or of similarities between vectors."""
    if len(pairs) < LEAST_RANKED:
        return None
    vectors = _vectors(pairs)
    if vectors is not None:
        a, b = (_similarities(side) for side in vectors)
        kept = ~np.eye(len(a), dtype=bool)
        return float(np.mean([_spearman(x[k], y[k]) for x, y, k in zip(a, b, kept, strict=True)]))
    if not pairs[0][0].scores or any(len(w.scores) != len(h.scores) for w, h in pairs):
        return None
    wanted, found = (np.array([p[s].scores for p in pairs]) for s in (0, 1))
    if not np.isfinite(found).all():
        return 0.0
    # Labels count by how much their scores vary: of one that is never meant little is read.
    weights = wanted.std(0)
    ranks = [_spearman(w, f) for w, f in zip(wanted.T, found.T, strict=True)]
    return float(np.average(ranks, weights=weights)) if weights.sum() > 0 else None


def _vectors(pairs: Sequence[tuple[Answer, Answer]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the tool's and the artifact's embeddings, None if answers are none, or differ."""
    wanted, found = ([p[side].vector for p in pairs] for side in (0, 1))
    if any(w is None or f is None or w.ndim != 1 or w.shape != f.shape
           for w, f in zip(wanted, found, strict=True)):  # fmt: skip
        return None
    return np.array(wanted), np.array(found)


def _similarities(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of every vector with every other."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    even = vectors / np.where(lengths > 0, lengths, 1.0)
    found: np.ndarray = np.nan_to_num(even @ even.T)
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation; equal values share their mean rank."""
    x, y = _ranks(a), _ranks(b)
    spread = float(x.std() * y.std())
    if not spread:
        return float(x.std() == y.std())
    return min(1.0, float(((x - x.mean()) * (y - y.mean())).mean() / spread))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    found: np.ndarray = (ends - (counts - 1) / 2)[places]
    return found


def nearest(pairs: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Return the share of vectors with the same nearest one, of those that have a clear one."""
    vectors = _vectors(pairs) if len(pairs) >= LEAST_RANKED else None
    if vectors is None:
        return None
    wanted, found = (_similarities(side) for side in vectors)
    np.fill_diagonal(wanted, -np.inf)
    np.fill_diagonal(found, -np.inf)
    same, clear = 0, 0
    for w, f in zip(wanted, found, strict=True):
        best = np.sort(w)[1:]
        if best[-1] - best[-2] > CLEAR * best.std():
            clear += 1
            same += int(w.argmax() == f.argmax())
    return same / clear if clear else None
