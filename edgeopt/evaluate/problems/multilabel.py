# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Any number of labels for each text: those whose score is at least one half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np

from edgeopt.evaluate.measured import Measured, Scored, ratio, share
from edgeopt.evaluate.problems.shown import shown
from edgeopt.extras import require
from edgeopt.model.answer import Answer, Sample

THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MultiLabel:
    """``expected`` tells which of ``classes`` a text has, bool (units, classes).

    ``accuracy`` is the share of texts whose labels are all right and no other. F1 is over all
    decisions (micro), or the mean of the classes (macro). Mean average precision asks only how
    texts are ordered by each class's score; it leaves out classes that no text has.
    """

    inputs: tuple[Sample, ...]
    places: tuple[str, ...]
    expected: np.ndarray
    classes: tuple[str, ...]
    noun: str = "texts"
    main: str = "f1_micro"

    names = ("f1_micro", "f1_macro", "mean_average_precision", "accuracy")
    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a unit stands, its text, and its labels."""
        return self.places[i], shown(self.inputs[i]), self._named(self.expected[i])

    def _named(self, has: np.ndarray) -> str:
        return ", ".join(compress(self.classes, has)) or "none"

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return them: each unit is an input."""
        return of_inputs

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone."""
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            expected=self.expected[inputs],
        )

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score by scikit-learn."""
        metrics = require("sklearn.metrics", "evaluate")
        scores = np.array([answer.scores for answer in answers], np.float64)
        got = scores >= THRESHOLD
        wrong = got != self.expected
        sums = [part.astype(np.float64) for part in (self.expected, got, self.expected & got)]

        def micro(counts: np.ndarray) -> np.ndarray:
            expected, found, both = ((counts @ part).sum(1) for part in sums)
            return ratio(2 * both, expected + found)

        def macro(counts: np.ndarray) -> np.ndarray:
            expected, found, both = (counts @ part for part in sums)
            result: np.ndarray = ratio(2 * both, expected + found).mean(1)
            return result

        def f1(average: str) -> float:
            return float(metrics.f1_score(self.expected, got, average=average, zero_division=0))

        value = float(metrics.accuracy_score(self.expected, got))
        aside = np.abs(scores - THRESHOLD)
        return Scored(
            figures={
                "f1_micro": Measured(value=f1("micro"), at=micro),
                "f1_macro": Measured(value=f1("macro"), at=macro),
                "mean_average_precision": _mean_average_precision(self.expected, scores),
                "accuracy": share(~wrong.any(1), value),
            },
            got=tuple(self._named(row) for row in got),
            loss=np.where(wrong, 1 + aside, 0).sum(1),
            margin=aside.min(1),
        )


def _mean_average_precision(expected: np.ndarray, scores: np.ndarray) -> Measured:
    """Return scikit-learn's average precision of each class that there is, and their mean."""
    metrics = require("sklearn.metrics", "evaluate")
    present = [i for i in range(expected.shape[1]) if expected[:, i].any()]
    each = [metrics.average_precision_score(expected[:, i], scores[:, i]) for i in present]
    falling = [np.argsort(-scores[:, i], kind="stable") for i in present]
    # Texts of one score are found together: precision is that behind the last of them.
    last = [
        np.searchsorted(-scores[order, i], -scores[order, i], side="right") - 1
        for i, order in zip(present, falling, strict=True)
    ]

    def at(counts: np.ndarray) -> np.ndarray:
        values = []
        for i, order, behind in zip(present, falling, last, strict=True):
            drawn = counts[:, order]
            right = drawn * expected[order, i]
            precision = ratio(right.cumsum(1)[:, behind], drawn.cumsum(1)[:, behind])
            values.append(ratio((right * precision).sum(1), right.sum(1), np.nan))
        found = np.array(values)
        result: np.ndarray = ratio(np.nansum(found, 0), np.isfinite(found).sum(0), np.nan)
        return result

    return Measured(value=float(np.mean(each)) if each else None, at=at)
