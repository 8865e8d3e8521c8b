# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""One label for each text, pair of texts, or image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Self

import numpy as np

from edgeopt.evaluate.interval import At
from edgeopt.evaluate.measured import Measured, Scored, ratio, share
from edgeopt.evaluate.problems.shown import shown
from edgeopt.extras import require
from edgeopt.model.answer import Answer, Sample

TOP = 5
"""Of images also the share whose label is among so many, which ImageNet made the custom."""

Sums = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Classification:
    """``expected`` are indices of ``classes``, int64 (units,); a unit is an input.

    The label of a system is that of its best score. F1 is that of the second of two classes, as the
    figures of GLUE are; ``f1_macro`` is the mean over the classes that occur. The micro average is
    the accuracy, as everywhere with one label a text. ``top`` is for images.
    """

    inputs: tuple[Sample, ...]
    places: tuple[str, ...]
    expected: np.ndarray
    classes: tuple[str, ...]
    noun: str = "texts"
    main: str = "accuracy"
    top: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The figures."""
        top = (f"top_{TOP}",) if self._ranked else ()
        f1 = ("f1",) if len(self.classes) == 2 else ()
        return ("accuracy", *top, *f1, "f1_macro", "mcc")

    @property
    def _ranked(self) -> bool:
        return self.top and len(self.classes) > TOP

    @property
    def labels(self) -> tuple[str, ...]:
        """The expected label of each unit."""
        return tuple(self.classes[i] for i in self.expected)

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a unit stands, its text, and its label."""
        return self.places[i], shown(self.inputs[i]), self.classes[self.expected[i]]

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
        got = scores.argmax(1)
        rows = np.arange(len(got))
        right = got == self.expected
        ordered = np.sort(scores, 1)
        margin = ordered[:, -1] - ordered[:, -2]
        behind = scores[rows, got] - scores[rows, self.expected]
        figures = {"accuracy": share(right, float(metrics.accuracy_score(self.expected, got)))}
        if self._ranked:
            figures[f"top_{TOP}"] = self._top(scores, metrics)
        figures |= self._corpus(got, metrics)
        return Scored(
            figures=figures,
            got=tuple(f"{self.classes[i]} {scores[row, i]:.3f}" for row, i in enumerate(got)),
            loss=np.where(right, -margin, np.maximum(behind, 1e-12)),
            margin=margin,
        )

    def _top(self, scores: np.ndarray, metrics: Any) -> Measured:
        classes = range(len(self.classes))
        value = metrics.top_k_accuracy_score(self.expected, scores, k=TOP, labels=classes)
        best = np.argsort(scores, 1, kind="stable")[:, ::-1][:, :TOP]  # as scikit-learn ranks
        return share((best == self.expected[:, None]).any(1), float(value))

    def _corpus(self, got: np.ndarray, metrics: Any) -> dict[str, Measured]:
        def measured(value: float, of: Sums) -> Measured:
            return Measured(value=float(value), at=counted(self.expected, got, of))

        found = {}
        if len(self.classes) == 2:
            value = metrics.f1_score(self.expected, got, pos_label=1, zero_division=0)
            found["f1"] = measured(value, _f1_of_second)
        value = metrics.f1_score(self.expected, got, average="macro", zero_division=0)
        found["f1_macro"] = measured(value, _f1_macro)
        with warnings.catch_warnings():  # of one label alone, of which MCC is 0
            warnings.simplefilter("ignore", UserWarning)
            value = metrics.matthews_corrcoef(self.expected, got)
        found["mcc"] = measured(value, _mcc)
        return found


def counted(expected: np.ndarray, got: np.ndarray, of: Sums) -> At:
    """Return ``of`` the sums (resamples, classes) of expected, got, and both."""
    sparse = require("scipy.sparse", "evaluate")
    width = int(max(expected.max(), got.max())) + 1
    rows = np.arange(len(got))
    right = expected == got
    table = sparse.csr_array(
        (
            np.ones(2 * len(got) + int(right.sum())),
            (
                np.concatenate([rows, rows, rows[right]]),
                np.concatenate([expected, width + got, 2 * width + got[right]]),
            ),
        ),
        shape=(len(got), 3 * width),
    ).T

    def at(counts: np.ndarray) -> np.ndarray:
        sums = (table @ counts.T).T
        return of(*(sums[:, i * width : (i + 1) * width] for i in range(3)))

    return at


def _f1_of_second(expected: np.ndarray, got: np.ndarray, both: np.ndarray) -> np.ndarray:
    if expected.shape[1] < 2:
        return np.zeros(len(expected))
    return ratio(2 * both[:, 1], expected[:, 1] + got[:, 1])


def _f1_macro(expected: np.ndarray, got: np.ndarray, both: np.ndarray) -> np.ndarray:
    return ratio(ratio(2 * both, expected + got).sum(1), (expected + got > 0).sum(1))


def _mcc(expected: np.ndarray, got: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Return Gorodkin's R_K (Comput. Biol. Chem. 28, 2004), which MCC is for two classes."""
    total = expected.sum(1)
    above = both.sum(1) * total - (expected * got).sum(1)
    spread = (total**2 - (expected**2).sum(1)) * (total**2 - (got**2).sum(1))
    return ratio(above, np.sqrt(spread))
