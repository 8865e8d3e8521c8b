# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Objects in images: COCO's twelve figures, which pycocotools computes.

Average precision is the mean over labels and over ten overlaps that a box has to reach, from 0.5 to
0.95, and recall the share of objects that are found among so many boxes of an image
(https://cocodataset.org/#detection-eval).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Any, Self

import numpy as np

from edgeopt.evaluate.interval import At
from edgeopt.evaluate.measured import Measured, Scored, finite, ratio
from edgeopt.evaluate.problems.shown import shown
from edgeopt.extras import require
from edgeopt.model.answer import Answer, Detection, Sample

SURE = 0.5
"""Lists of the worst have objects of higher scores, which transformers' processors take too."""

_ALL, _FIRST, _THIRD = slice(0, 10), slice(0, 1), slice(5, 6)  # of the overlaps 0.5, 0.55, ... 0.95
_MOST = 100  # boxes of an image
_FIGURES: Mapping[str, tuple[str, str, slice, int]] = {
    "ap": ("precision", "all", _ALL, _MOST),
    "ap_50": ("precision", "all", _FIRST, _MOST),
    "ap_75": ("precision", "all", _THIRD, _MOST),
    "ap_small": ("precision", "small", _ALL, _MOST),
    "ap_medium": ("precision", "medium", _ALL, _MOST),
    "ap_large": ("precision", "large", _ALL, _MOST),
    "ar_1": ("recall", "all", _ALL, 1),
    "ar_10": ("recall", "all", _ALL, 10),
    "ar_100": ("recall", "all", _ALL, _MOST),
    "ar_small": ("recall", "small", _ALL, _MOST),
    "ar_medium": ("recall", "medium", _ALL, _MOST),
    "ar_large": ("recall", "large", _ALL, _MOST),
}
"""In the order of COCOeval.summarize: what is counted, objects of which size, at which overlaps,
and among how many boxes of an image."""

_AREAS = ("all", "small", "medium", "large")
_RECALLS = np.linspace(0.0, 1.0, 101)  # at which precision is read
_LEAST = np.spacing(1)  # that COCOeval adds to what it divides by
_BLOCK = 1 << 16  # values at a time, which fit into a cache
_SHOWN = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Object:
    """What is in an image. ``box`` is x and y of its upper left corner, width, height, in pixels.

    ``area`` is what its size goes by, in pixels. A ``crowd`` is many in one box, of which nothing
    is asked.
    """

    label: str
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Objects:
    """A unit is an image. ``expected`` are its objects; their labels are the model's.

    Labels that no image has are not looked at, as in COCO.
    """

    inputs: tuple[Sample, ...]
    places: tuple[str, ...]
    expected: tuple[tuple[Object, ...], ...]
    noun: str = "images"
    main: str = "ap"

    names = tuple(_FIGURES)
    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where an image stands, its file's name, and its objects."""
        counts = Counter(one.label for one in self.expected[i] if not one.crowd)
        told = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
        return self.places[i], shown(self.inputs[i]), told or "nothing"

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return them: each unit is an input."""
        return of_inputs

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone."""
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            expected=tuple(compress(self.expected, inputs)),
        )

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score by pycocotools; other draws of the images are counted by what it matched."""
        found = [answer.objects or () for answer in answers]
        labels = sorted({one.label for objects in self.expected for one in objects})
        evaluated = _evaluated(self.expected, found, labels)
        curves = _curves(evaluated, len(labels), len(answers))
        figures = {
            name: _measured(name, curves, float(value))
            for name, value in zip(_FIGURES, evaluated.stats, strict=True)
        }
        loss, told = _by_image(evaluated, len(labels), found)
        return Scored(
            figures=figures,
            got=told,
            loss=loss,
            by_label={
                label: (
                    int(own["all"].expected.sum()),
                    {name: _measured(name, [own]) for name in _FIGURES},
                )
                for label, own in zip(labels, curves, strict=True)
            },
        )


def _evaluated(
    expected: Sequence[Sequence[Object]], found: Sequence[Sequence[Detection]], labels: list[str]
) -> Any:
    """Return pycocotools' COCOeval after all of its steps; images and labels count from 1."""
    coco, cocoeval = (require(f"pycocotools.{name}", "detection") for name in ("coco", "cocoeval"))
    number = {label: i for i, label in enumerate(labels, 1)}
    wanted = [
        {
            "image_id": i,
            "category_id": number[one.label],
            "bbox": list(one.box),
            "area": one.area,
            "iscrowd": int(one.crowd),
        }
        for i, objects in enumerate(expected, 1)
        for one in objects
    ]
    have = [
        {"image_id": i, "category_id": number[one.label], "score": one.score, "iscrowd": 0}
        | _sides(one)
        for i, objects in enumerate(found, 1)
        for one in objects
        if one.label in number
    ]
    head = {
        "images": [{"id": i} for i in range(1, len(expected) + 1)],
        "categories": [{"id": i} for i in number.values()],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for rows in (wanted, have):
            side = coco.COCO()
            side.dataset = head | {
                "annotations": [row | {"id": i} for i, row in enumerate(rows, 1)]
            }
            side.createIndex()
            sides.append(side)
        evaluated = cocoeval.COCOeval(*sides, "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def _sides(one: Detection) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = one.box
    width, height = x_max - x_min, y_max - y_min
    return {"bbox": [x_min, y_min, width, height], "area": width * height}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Curve:
    """The boxes of one label, best first, for objects of one size.

    ``image`` and ``rank`` (boxes,) are of which image a box is, and how many of it are better;
    ``right`` and ``wrong`` (overlaps, boxes) whether it is one of the objects, or none: neither of
    a crowd, or of another size. ``expected`` (images,) is how many objects there are. ``precision``
    gives the average precision of draws, (draws, overlaps).
    """

    image: np.ndarray
    rank: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    expected: np.ndarray
    precision: At


def _curves(evaluated: Any, labels: int, images: int) -> list[dict[str, _Curve]]:
    """Return for each label the curves by size."""
    by_label = []
    for label in range(labels):
        own = {}
        for at, area in enumerate(_AREAS):
            start = (label * len(_AREAS) + at) * images
            own[area] = _curve(evaluated.evalImgs[start : start + images])
        by_label.append(own)
    return by_label


def _curve(by_image: Sequence[Any]) -> _Curve:
    expected = np.zeros(len(by_image))
    none = np.zeros(0, np.int64)
    empty = np.zeros((_ALL.stop, 0), bool)
    parts: list[list[np.ndarray]] = [[none], [none], [none.astype(np.float64)], [empty], [empty]]
    for i, one in enumerate(by_image):
        if one is None:
            continue
        expected[i] = np.count_nonzero(np.equal(one["gtIgnore"], 0))
        matched, ignored = one["dtMatches"] > 0, np.asarray(one["dtIgnore"], bool)
        count = len(one["dtScores"])
        parts[0].append(np.full(count, i))
        parts[1].append(np.arange(count))
        parts[2].append(np.array(one["dtScores"], np.float64))
        parts[3].append(matched & ~ignored)
        parts[4].append(~matched & ~ignored)
    image, rank, scores, right, wrong = (np.concatenate(one, axis=-1) for one in parts)
    order = np.argsort(-scores, kind="mergesort")  # as COCOeval takes those of one score
    image, rank, right, wrong = image[order], rank[order], right[:, order], wrong[:, order]
    return _Curve(
        image=image,
        rank=rank,
        right=right,
        wrong=wrong,
        expected=expected,
        precision=_once(partial(_precision, image, right, wrong, expected)),
    )


def _once(of: At) -> At:
    """Return ``of``, which keeps what it gave for the last draws: several figures ask for them."""
    last: list[np.ndarray] = []

    def at(counts: np.ndarray) -> np.ndarray:
        if not last or last[0] is not counts:
            last[:] = [counts, of(counts)]
        return last[1]

    return at


def _measured(
    name: str, curves: Sequence[Mapping[str, _Curve]], value: float | None = None
) -> Measured:
    """Return a figure; ``value`` is pycocotools', below 0 if it is not defined."""
    kind, area, overlaps, most = _FIGURES[name]
    chosen = [own[area] for own in curves]

    def at(counts: np.ndarray) -> np.ndarray:
        total, defined = np.zeros(len(counts)), np.zeros(len(counts))
        for curve in chosen:
            if kind == "precision":
                values = curve.precision(counts)[:, overlaps].mean(1)
            else:
                values = _recall(curve, counts, overlaps, most)
            kept = np.isfinite(values)
            total[kept] += values[kept]
            defined += kept
        return ratio(total, defined, math.nan)

    if value is None:
        found = finite(float(at(np.ones((1, len(chosen[0].expected))))[0]))
    else:
        found = value if value >= 0 else None
    return Measured(value=found, at=at, centred=True)


def _precision(
    image: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    expected: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Return the average precision of one label, (draws, overlaps), NaN if a draw has no object.

    That is the mean over 101 recalls of the best precision at that recall or beyond it. An image
    that is drawn n times has each of its boxes n times, one behind the other, so that all of them
    can be counted at once: what is read are places behind a right one.
    """
    known = counts @ expected
    found = np.where(known[:, None] > 0, 0.0, np.nan).repeat(len(right), 1)
    seen = np.flatnonzero(right.any(0))
    draws = np.flatnonzero(known > 0)
    if not len(seen):
        return found
    end = int(seen[-1]) + 1  # nothing is read behind the last right one
    image, right, counted = image[:end], right[:, :end], (right | wrong)[:, :end]
    # At most overlaps the same boxes count; where others do, only those are counted anew.
    changes = [np.flatnonzero(one != counted[0]) for one in counted]
    rows = max(1, _BLOCK // end)
    for start in range(0, len(draws), rows):
        some = draws[start : start + rows]
        weights = counts[some].take(image, axis=1)  # (draws, boxes)
        total = np.cumsum(weights * counted[0], axis=1)
        for i, (hits, own, changed) in enumerate(zip(right, counted, changes, strict=True)):
            places = np.flatnonzero(hits)
            below = total[:, places]
            if len(changed):
                signs = np.where(own[changed], 1.0, -1.0)
                more = np.cumsum(weights[:, changed] * signs, axis=1)
                before = np.searchsorted(changed, places, side="right")
                below += np.where(before > 0, more[:, before - 1], 0.0)
            found[some, i] = _area(weights[:, places], below, known[some][:, None])
    return found


def _area(weights: np.ndarray, below: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the area under the curve; ``weights`` (draws, right ones), and boxes up to each."""
    above = np.cumsum(weights, axis=1)
    precision = above / (below + _LEAST)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Which of the 101 recalls are reached here, and were not before.
    reached = np.searchsorted(_RECALLS, above / expected, side="right")
    share: np.ndarray = (best * np.diff(reached, axis=1, prepend=0)).sum(1) / len(_RECALLS)
    return share


def _recall(curve: _Curve, counts: np.ndarray, overlaps: slice, most: int) -> np.ndarray:
    """Return the share of one label's objects that are found among the ``most`` best boxes."""
    right = (curve.right[overlaps] & (curve.rank < most)).mean(0)
    by_image = np.bincount(curve.image, right, len(curve.expected))
    return ratio(counts @ by_image, counts @ curve.expected, math.nan)


def _by_image(
    evaluated: Any, labels: int, found: Sequence[Sequence[Detection]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return how many objects of each image are missed or made up, and what was found there.

    Of those whose score is above ``SURE``, at an overlap of 0.5.
    """
    images = len(found)
    missed, invented = np.zeros(images, np.int64), np.zeros(images, np.int64)
    for label in range(labels):
        start = label * len(_AREAS) * images
        for i, one in enumerate(evaluated.evalImgs[start : start + images]):
            if one is None:
                continue
            sure = np.array(one["dtScores"]) > SURE
            kept = sure & ~np.asarray(one["dtIgnore"][0], bool)
            right = int((kept & (one["dtMatches"][0] > 0)).sum())
            missed[i] += np.count_nonzero(np.equal(one["gtIgnore"], 0)) - right
            invented[i] += int(kept.sum()) - right
    told = []
    for i, objects in enumerate(found):
        names = [f"{one.label} {one.score:.3f}" for one in objects if one.score > SURE]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        best = ", ".join(names[:_SHOWN]) or "nothing"
        told.append(f"{best}{more} ({missed[i]} missed, {invented[i]} made up)")
    return (missed + invented).astype(np.float64), tuple(told)
