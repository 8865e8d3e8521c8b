# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How near objects with boxes, and maps of labels, are to those of the user's own tool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeopt.model.answer import Answer, Detection

SEEN = 0.5
"""The score from which an object counts as one, and the overlap from which two are the same.

transformers takes those above it; the overlap is that of PASCAL VOC (Everingham et al., 2010).
"""

_OTHER_LABEL = 0.1  # in overlap: near boxes pair by label first
_OTHER_SCORE = 0.01


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each box with each: (n, 4), (m, 4) to (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(side[:, 2:] - side[:, :2], 0, None).prod(-1) for side in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    found: np.ndarray = np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)
    return found


def boxes(objects: Sequence[Detection]) -> np.ndarray:
    """Return their boxes, float64 (n, 4)."""
    return np.array([one.box for one in objects], np.float64).reshape(-1, 4)


def pairs(
    want: Sequence[Detection], have: Sequence[Detection]
) -> list[tuple[int, int | None, float]]:
    """Return for each of ``want``, best first, its like in ``have`` and their overlap.

    The like is None if there is none, and nothing is the like of two.
    """
    shared = overlaps(boxes(want), boxes(have))
    labels = np.array([[a.label != b.label for b in have] for a in want], bool)
    scores = np.array([[abs(a.score - b.score) for b in have] for a in want])
    costs = 1 - shared
    if costs.size:
        costs = costs + _OTHER_LABEL * labels + _OTHER_SCORE * np.nan_to_num(scores, nan=1.0)
    found: list[tuple[int, int | None, float]] = []
    for i in range(len(want)):
        at = int(costs[i].argmin()) if costs.size else 0
        if not costs.size or not np.isfinite(costs[i, at]):
            found.append((i, None, 0.0))
            continue
        found.append((i, at, float(shared[i, at])))
        costs[:, at] = np.inf
    return found


def objects_error(want: Answer, have: Answer) -> float:
    """Return the mean change of an image's objects, weighted by their scores.

    An object changes by its score, or by what its box does not share; one without a like by all of
    its score.
    """
    expected, got = want.objects or (), have.objects or ()
    matched = pairs(expected, got)
    changes = []
    for i, at, shared in matched:
        score = expected[i].score
        other = 0.0 if at is None else got[at].score
        changes.append((max(score, other), max(abs(score - other), score * (1 - shared))))
    taken = {at for _, at, _ in matched}
    changes += [(one.score, one.score) for i, one in enumerate(got) if i not in taken]
    weights, errors = np.array(changes, np.float64).reshape(-1, 2).T
    if not np.isfinite(errors).all():
        return float("inf")
    return float(np.average(errors, weights=weights)) if weights.sum() > 0 else 0.0


def objects_decided(want: Answer, have: Answer, margin: float) -> tuple[int, int]:
    """Return how many objects are seen by both, of those that one sees clearly.

    Clear is a score of ``SEEN`` and ``margin`` more; the other sees it if it has an object of the
    label there with a score above ``SEEN``.
    """
    sides = (want.objects or (), have.objects or ())
    same, count = 0, 0
    for mine, other in (sides, sides[::-1]):
        clear = [one for one in mine if one.score > SEEN + margin]
        left = [one for one in other if one.score > SEEN]
        for i, at, shared in pairs(clear, left):
            # What both see is counted once.
            seen = at is not None and shared >= SEEN and left[at].label == clear[i].label
            if mine is sides[0] or not seen:
                count += 1
                same += seen
    return same, count


def map_error(want: Answer, have: Answer) -> float:
    """Return the share of pixels with another label, each by how far ahead the tool's one is."""
    if want.classes is None or have.classes is None or want.classes.shape != have.classes.shape:
        return float("inf")
    other = want.classes != have.classes
    weights = np.ones(other.shape) if want.margins is None else want.margins.astype(np.float64)
    return float((other * weights).mean())


def map_decided(want: Answer, have: Answer, margin: float) -> tuple[int, int]:
    """Return how many pixels have the tool's label, of those where it is clearly ahead."""
    if want.classes is None or want.margins is None or have.classes is None:
        return 0, 0
    clear = want.margins > margin
    return int((want.classes == have.classes)[clear].sum()), int(clear.sum())
